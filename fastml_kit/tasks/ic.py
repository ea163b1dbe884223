"""Image classification as MLPerf Tiny poses it: CIFAR-10, ten classes of colour images.

A network sees 32x32 pixels of three colours, each an unsigned number of eight bits read as k/256,
as hls4ml's ``ap_ufixed<8,0>`` of the FPGA submission RN07 reads them.

- ``cifar10``: the images as their author publishes them: his 10,000 test images, a tenth of his
  50,000 training images to validate with. A training image that is much like a test image is left
  out.
- ``cifar10-jpeg``: the 50,000 training images through JPEG. No test images are among them, so that
  a tenth is held out as the test part and another tenth as the validation part. An accuracy on it
  compares with none on the images themselves: they differ by about six of 256 steps a pixel.
- ``ic-synthetic``: a stand-in, see `fastml_kit.tasks.ic_synthetic`.

Images that are equal, or so much alike that one must come from the other, are on one side of the
split (`fastml_kit.tasks.alike`).

Sources: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; Banbury et al.,
arXiv:2106.07597; about the images that occur twice, Barz & Denzler, arXiv:1902.00423.
"""

import hashlib
import io
import pickle
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import RunError
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.tasks import alike, archives, arrays, fetch, ic_synthetic
from fastml_kit.tasks.base import Dataset, TaskData, split_by_group

Pixels = NDArray[np.uint8]

#: Eight bits below the point: 0 to 255/256.
INPUT = FixedSpec(width=8, integer=0, signed=False)
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
SIDE, COLOURS = 32, 3
SEED = 2026

#: Checksums as Keras states it for the archive, and torchvision for the files inside.
CIFAR10 = fetch.File(
    "cifar-10-python.tar.gz",
    digest="sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
)
BATCHES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
#: 5,000 images a class, train/<class>/NNNN.jpg, in the author's order within a class.
JPEG = fetch.File(
    "cifar10/cifar10_train_jpeg.tar.xz",
    digest="sha256:ca2880616a18c2faf0522d3396bba8ebb9e8131b84de110c3710f43b70a7df09",
    size=15_472_332,
)
LICENCE = "none stated by the author, who asks to cite his report"
CITATION = (
    "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; the task: Banbury et "
    "al., MLPerf Tiny Benchmark, arXiv:2106.07597"
)


def load_cifar10() -> TaskData:
    """Load CIFAR-10 as published."""

    def make() -> arrays.Arrays:
        pixels, label, test = read_batches(fetch.require(CIFAR10))
        return {"pixels": pixels, "label": label, "test": test, "group": alike.groups(pixels)}

    found = arrays.kept(arrays.key("ic-cifar10", (CIFAR10,), __file__, alike.__file__), make)
    pixels, label, test, group = (found[name] for name in ("pixels", "label", "test", "group"))
    keep = test | ~np.isin(group, group[test])
    pixels, label, test, group = pixels[keep], label[keep], test[keep], group[keep]
    part = np.full(len(label), "test", dtype="<U10")
    part[~test] = split_by_group(label[~test], group[~test], fractions=(0.1, 0), seed=SEED)
    return _task(
        "cifar10",
        pixels,
        label,
        part,
        group,
        quality_target=0.85,
        target_source="MLPerf Tiny's closed division: 85 % top-1 (MLPerfTiny_Rules.adoc)",
        source="CIFAR-10 as its author publishes it",
    )


def load_jpeg() -> TaskData:
    """Load the training images of CIFAR-10 from a copy in JPEG."""

    def make() -> arrays.Arrays:
        pixels, label = read_jpegs(fetch.require(JPEG))
        return {"pixels": pixels, "label": label, "group": alike.groups(pixels)}

    found = arrays.kept(arrays.key("ic-jpeg", (JPEG,), __file__, alike.__file__), make)
    pixels, label, group = (found[name] for name in ("pixels", "label", "group"))
    return _task(
        "cifar10-jpeg",
        pixels,
        label,
        split_by_group(label, group, fractions=(0.1, 0.1), seed=SEED),
        group,
        quality_target=0.72,
        target_source="the kit's own, for RN07 at eight bits on a copy in JPEG",
        source="CIFAR-10 (JPEG copy): the 50,000 training images, decoded from JPEG, a tenth of "
        "them held out as the test part; accuracies compare with none on the images themselves",
    )


def load_synthetic() -> TaskData:
    """Make the stand-in: see `fastml_kit.tasks.ic_synthetic`."""
    made = ic_synthetic.make()
    return TaskData(
        name="ic",
        dataset="ic-synthetic",
        x=inputs(made.pixels),
        y=made.label,
        part=made.part,
        group=np.arange(len(made.label)),
        classes=ic_synthetic.CLASSES,
        input_spec=INPUT,
        metric="accuracy",
        quality_target=0.85,
        target_source="the kit's own, for this stand-in",
        source="synthetic stand-in: not CIFAR-10. Made by fastml_kit.tasks.ic_synthetic from seed "
        f"{ic_synthetic.SEED}, in the shape of MLPerf Tiny's image classification; accuracies on "
        "it compare with no published one",
        licence="Apache-2.0, as this kit",
        citation="the task: Banbury et al., MLPerf Tiny Benchmark, arXiv:2106.07597",
        synthetic=True,
    )


def inputs(pixels: Pixels) -> NDArray[np.float32]:
    """Return pixels 0 to 255 as a network sees them, 0 to 255/256."""
    return pixels * np.float32(INPUT.step)


def read_batches(
    path: Path, known: dict[str, str] | None = None
) -> tuple[Pixels, NDArray[np.int64], NDArray[np.bool_]]:
    """Return the images (n, 32, 32, 3), class numbers, and which are to test, of the archive.

    `known` holds the MD5 checksum of each file in it; those of CIFAR-10, if it is left out.

    Raises:
        RunError: the archive is damaged, or a file in it is missing or not as it was published.
    """
    known = BATCHES if known is None else known
    batches = {
        PurePosixPath(name).name: content
        for name, content in archives.members(
            path, wanted=lambda name: PurePosixPath(name).name in known
        )
    }
    pixels, label, test = [], [], []
    for name, digest in known.items():
        content = batches.get(name, b"")
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != digest:
            raise RunError(f"{path}: {name} in it is missing or not what was published")
        batch = _Numbers(io.BytesIO(content), encoding="bytes").load()
        planes = np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, COLOURS, SIDE, SIDE)
        pixels.append(planes.transpose(0, 2, 3, 1))
        label += batch[b"labels"]
        test += [name == "test_batch"] * len(planes)
    return np.concatenate(pixels), np.array(label, dtype=np.int64), np.array(test)


def read_jpegs(path: Path) -> tuple[Pixels, NDArray[np.int64]]:
    """Return the images (n, 32, 32, 3) and class numbers of an archive <part>/<class>/NNNN.jpg.

    They are sorted by class and name.

    Raises:
        RunError: the archive or an image in it is damaged, or is of another class or size.
    """
    from PIL import Image

    found = {}
    for name, content in archives.members(path, wanted=lambda name: name.endswith(".jpg")):
        try:
            with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
                pixels = np.asarray(image.convert("RGB"))
            label = CLASSES.index(PurePosixPath(name).parent.name)
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: {name} in it is no image of CIFAR-10: {error}") from error
        if pixels.shape != (SIDE, SIDE, COLOURS):
            raise RunError(f"{path}: {name} in it has shape {pixels.shape}")
        found[label, name] = pixels
    if not found:
        raise RunError(f"{path} holds no images")
    order = sorted(found)
    labels = np.array([label for label, _ in order], dtype=np.int64)
    return np.stack([found[key] for key in order]), labels


class _Numbers(pickle.Unpickler):
    """Reads what a batch of CIFAR-10 is made of, and refuses to build any other object."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the four names that a pickled array takes."""
        if (module, name) == ("_codecs", "encode"):
            import _codecs

            return _codecs.encode
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray"):
            if name in ("ndarray", "dtype"):
                return getattr(np, name)
            if name == "_reconstruct":
                return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        raise RunError(f"a batch of CIFAR-10 holds no {module}.{name}")


def _task(
    dataset: str,
    pixels: Pixels,
    label: NDArray[np.int64],
    part: NDArray[np.str_],
    group: NDArray[np.int64],
    *,
    quality_target: float,
    target_source: str,
    source: str,
) -> TaskData:
    return TaskData(
        name="ic",
        dataset=dataset,
        x=inputs(pixels),
        y=label,
        part=part,
        group=group,
        classes=CLASSES,
        input_spec=INPUT,
        metric="accuracy",
        quality_target=quality_target,
        target_source=target_source,
        source=source,
        licence=LICENCE,
        citation=CITATION,
    )


DATASETS = (
    Dataset("cifar10", "CIFAR-10", load_cifar10, files=(CIFAR10,)),
    Dataset("cifar10-jpeg", "CIFAR-10 (JPEG copy)", load_jpeg, files=(JPEG,)),
    Dataset("ic-synthetic", "synthetic stand-in for CIFAR-10", load_synthetic, synthetic=True),
)
