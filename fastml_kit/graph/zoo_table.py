"""The QONNX model zoo's published table, as data.

From the READMEs of github.com/fastmachinelearning/qonnx_model_zoo and, where these give no address
of a file, from qonnx 1.0.0's own tests (`qonnx.util.test`). Accuracies are as published there; most
are their trainers', and were not verified through QONNX. Where a file's address or checksum is not
published, the field is None.
"""

from dataclasses import dataclass

REPOSITORY = "https://github.com/fastmachinelearning/qonnx_model_zoo"
COMMIT = "d44721b3d8dc279078f9a72a069cfe3a628dc055"
RAW = f"https://raw.githubusercontent.com/fastmachinelearning/qonnx_model_zoo/{COMMIT}/models"
RELEASE = f"{REPOSITORY}/releases/download/a2q-20240905"

BREVITAS = "BSD-3-Clause style (LICENSE.txt beside the model)"
UNIT = "pixels / 255, float32, channel first"
NORMALIZED = (
    "pixels / 255, minus the mean (0.491, 0.482, 0.447), by the deviation (0.247, 0.243, 0.262)"
)

#: Samples in the part of a data set that accuracies are for (ImageNet's is its validation set).
TEST_SAMPLES = {
    "MNIST": 10_000,
    "CIFAR10": 10_000,
    "CIFAR100": 10_000,
    "ImageNet": 50_000,
    "GTSRB": 12_630,
    "Landsat-8 EXSI": 8_649,
}


@dataclass(frozen=True)
class ZooModel:
    """One model of the zoo.

    `accuracy` is the published top-1 accuracy in percent on the data set's test part. The `_bits`
    are the dominant widths in bits (FP8 and FP5 are minifloats). `weights` is the number of weights
    in multiplying layers, where it was measured on the file. `folder` is inside the repository.
    """

    name: str
    dataset: str
    accuracy: float
    topology: str
    weight_bits: str
    act_bits: str
    input_bits: str | None
    folder: str
    url: str | None
    sha256: str | None = None
    weights: int | None = None
    input_shape: tuple[int, ...] | None = None
    preprocessing: str | None = None
    licence: str | None = None

    @property
    def page(self) -> str:
        """Where the zoo tells of this model."""
        return f"{REPOSITORY}/tree/main/models/{self.folder}"

    @property
    def test_samples(self) -> int | None:
        """How many samples the published accuracy is for; None where the table does not know."""
        return TEST_SAMPLES.get(self.dataset)


def _tfc(widths: tuple[int, int], accuracy: float, sha256: str | None) -> ZooModel:
    name = f"TFC_{widths[0]}W{widths[1]}A"
    folder = "MNIST/Brevitas_FINN_TFC"
    return ZooModel(
        name,
        "MNIST",
        accuracy,
        "MLP 784-64-64-64-10",
        str(widths[0]),
        str(widths[1]),
        str(widths[1]),
        folder,
        f"{RAW}/{folder}/TFC/{name}.onnx",
        sha256,
        weights=59_008,
        input_shape=(1, 28, 28),
        preprocessing=UNIT,
        licence=BREVITAS,
    )


def _lfc(act_bits: int, accuracy: float) -> ZooModel:
    return ZooModel(
        f"LFC_1W{act_bits}A",
        "MNIST",
        accuracy,
        "MLP, three hidden layers",
        "1",
        str(act_bits),
        str(act_bits),
        "MNIST/Brevitas_FINN_LFC",
        url=None,
        input_shape=(1, 28, 28),
    )


def _cnv(widths: tuple[int, int], accuracy: float) -> ZooModel:
    name = f"CNV_{widths[0]}W{widths[1]}A"
    folder = "CIFAR10/Brevitas_FINN_CNV"
    return ZooModel(
        name,
        "CIFAR10",
        accuracy,
        "VGG10-like CNN",
        str(widths[0]),
        str(widths[1]),
        "8",
        folder,
        f"{RAW}/{folder}/{name}.onnx",
        weights=1_542_848,
        input_shape=(3, 32, 32),
        preprocessing=UNIT,
        licence="LICENSE.md beside the model",
    )


def _a2q(name: str, accuracy: float, tag: str) -> ZooModel:
    name = f"quant_resnet18_w4a4_{name}"
    return ZooModel(
        name,
        "CIFAR10",
        accuracy,
        "ResNet-18, accumulators of the width in its name",
        "4",
        "4",
        None,
        "CIFAR10/a2q",
        f"{RELEASE}/{name}-{tag}.onnx",
        input_shape=(3, 32, 32),
        preprocessing=NORMALIZED,
    )


_MODELS = (
    _tfc((1, 1), 93.17, "e875070d9b8af1ff55923ab03c7ed9dd8787d387cb3274872fe5fc6a2905b2db"),
    _tfc((1, 2), 94.79, None),
    _tfc((2, 2), 96.60, None),
    _lfc(1, 98.88),
    _lfc(2, 98.99),
    _cnv((1, 1), 84.22),
    _cnv((1, 2), 87.80),
    _cnv((2, 2), 89.03),
    _a2q("a2q_16b", 94.2, "d4bfa990"),
    _a2q("a2q_15b", 94.2, "eeca8ac2"),
    _a2q("a2q_14b", 92.6, "563cf426"),
    _a2q("a2q_13b", 89.8, "d3cae293"),
    _a2q("a2q_12b", 83.9, "fb3a0f8a"),
    _a2q("a2q_plus_16b", 94.2, "09e47feb"),
    _a2q("a2q_plus_15b", 94.1, "10e7bc83"),
    _a2q("a2q_plus_14b", 94.1, "8db8c78c"),
    _a2q("a2q_plus_13b", 92.8, "f57b05ce"),
    _a2q("a2q_plus_12b", 90.6, "1e2aca29"),
    ZooModel(
        "kwsmlp_w3a3",
        "GSCV2",
        87.89,
        "MLP 490-256-256-256-12",
        "3",
        "3",
        "8",
        "GSCV2",
        f"{RAW}/GSCV2/kwsmlp_w3a3/kwsmlp_w3a3.onnx",
        weights=259_584,
    ),
    ZooModel(
        "unsw_nb15_mlp_w2a2",
        "UNSW-NB15",
        91.90,
        "MLP 593-64-64-64-1",
        "2",
        "2",
        "1",
        "UNSW_NB15",
        f"{RAW}/UNSW_NB15/unsw_nb15_mlp_w2a2/unsw_nb15-mlp-w2a2.onnx",
        weights=46_656,
        preprocessing="features turned into bits (Murovic and Trost), as -1 and +1",
    ),
    ZooModel(
        "qkeras_jettagging",
        "LHC jets (hls4ml_lhc_jets_hlf)",
        76.2,
        "MLP 16-64-32-32-5",
        "6",
        "6",
        None,
        "JetTagging",
        f"{RAW}/JetTagging/QKeras_hls4ml_3layer/qkeras_jettagging.onnx",
        "1d9aa7e299790c8fdfad84a8c9de174f68cd3c1d2257f740e3951fa166f2f199",
        weights=4_256,
        input_shape=(16,),
        preprocessing="16 features standardized, as in part 4 of the hls4ml tutorial",
    ),
    ZooModel(
        "mobilenet_4W4A",
        "ImageNet",
        71.14,
        "MobileNet-v1",
        "4",
        "4",
        "8",
        "ImageNet/Brevitas_FINN_mobilenet",
        f"{RAW}/ImageNet/Brevitas_FINN_mobilenet/mobilenet_4W4A.onnx",
        input_shape=(3, 224, 224),
        licence="LICENSE.txt beside the model",
    ),
    ZooModel(
        "CNV_1W1A_GTSRB",
        "GTSRB",
        96.93,
        "VGG10-like CNN",
        "1",
        "1",
        "8",
        "GTSRB/Brevitas_CNV1W1A",
        url=None,
        input_shape=(3, 32, 32),
        preprocessing=UNIT,
        licence=BREVITAS,
    ),
    ZooModel(
        "resnet8_pow2_2W2A",
        "CIFAR10",
        91.83,
        "ResNet-8, power-of-two scales",
        "2",
        "2",
        "8",
        "CIFAR10/power-of-two",
        None,
    ),
    ZooModel("resnet8_3W3A", "CIFAR100", 70.12, "ResNet-8", "3", "3", "8", "CIFAR100", None),
    ZooModel(
        "resnet18_8w8a_e4m3",
        "CIFAR10",
        93.09,
        "ResNet-18",
        "FP8 E4M3",
        "FP8 E4M3",
        "8",
        "CIFAR10/Brevitas_resnet18_float",
        None,
    ),
    ZooModel(
        "resnet18_5w5a_e3m1",
        "CIFAR10",
        90.69,
        "ResNet-18",
        "FP5 E3M1",
        "FP5 E3M1",
        None,
        "CIFAR10/Brevitas_resnet18_float",
        None,
    ),
    ZooModel(
        "cloudsatnet_qat_4bit_exsi",
        "Landsat-8 EXSI",
        93.54,
        "CNN, 8-bit weights in its first and last layer",
        "4",
        "4",
        "4",
        "CloudSatNet",
        RAW.replace(COMMIT, "704721e483e460d1cd99af0e18781718d9ca84f0")
        + "/CloudSatNet/cloudsatnet_qat_4bit_exsi.onnx",
        input_shape=(3, 512, 512),
    ),
)

#: All models by name.
MODELS = {model.name: model for model in _MODELS}
