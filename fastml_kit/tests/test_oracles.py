"""The published models: what each is, and that it runs here as it does elsewhere."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from fastml_kit.errors import FastmlError, UnsupportedModel
from fastml_kit.graph import check, execute, foreign, program, reference, verdict
from fastml_kit.graph.checks import shapes

#: What each of them is. One of them no engine takes: onnxruntime refuses its normalizations too.
ORACLES = {
    "model.onnx": ("finn", "importable"),
    "bnn_model_fc_1layer.onnx": ("qonnx", "exact"),
    "conv2d_small_mp_keras.onnx": ("float", "float"),
    "separable_conv_model_ch_last.onnx": ("qonnx", "exact"),
    "three_layer_bn_keras.onnx": "BatchNormalization 'BatchNormalization__' has data of shape",
    "three_layer_keras.onnx": ("float", "float"),
    "bsd300x3-espcn__subpixel__quant_model.onnx": ("qonnx", "float"),
    "mnist-conv__model.onnx": ("float", "float"),
    "residual_block_clean.onnx": ("float", "float"),
    "TFC_1W1A.onnx": ("qonnx", "importable"),
    "qkeras_jettagging.onnx": ("qonnx", "float"),
}


def oracles() -> Path:
    return Path(os.environ["FASTML_DATA"]) / "oracles"


def oracle(name: str) -> Path:
    return next(oracles().rglob(name))


def small(path: Path, tmp_path: Path, size: int = 16) -> Path:
    """Return a copy of a channels-last model for images of `size`, which take less time."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[1:3]:
            dim.dim_value = size
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


def test_every_model_that_onnx_tests_itself_with_has_a_verdict_or_a_typed_error():
    """Over 1,800 sound models of one operator or a few, of every opset there was."""
    levels = Counter[str]()
    for path in (Path(onnx.__file__).parent / "backend" / "test" / "data").rglob("*.onnx"):
        try:
            levels[verdict.examine(path).level] += 1
        except FastmlError as error:
            levels[type(error).__name__] += 1
    assert levels["float"] > 250 and levels.keys() <= {"float", "UnsupportedModel"}, levels


@pytest.mark.needs_data
def test_every_published_model_has_its_verdict(tmp_path):
    files = {path.name: path for path in oracles().rglob("*.onnx")}
    assert files.keys() == ORACLES.keys()
    for name, path in files.items():
        want = ORACLES[name]
        if isinstance(want, str):
            with pytest.raises(UnsupportedModel, match=want):
                verdict.examine(path)
            continue
        part = small(path, tmp_path) if "separable" in name else path
        found = verdict.examine(part)
        assert (found.dialect, found.level) == want, str(found)


@pytest.mark.needs_data
@pytest.mark.parametrize("name", [n for n, v in ORACLES.items() if v[0] == "float"])
def test_published_float_models_equal_onnxruntime(name):
    """Our reading, run node by node through qonnx's executor, against the untouched file."""
    import onnxruntime

    path = oracle(name)
    session = onnxruntime.InferenceSession(path)
    x = session.get_inputs()[0]
    given = np.random.default_rng(1).uniform(0, 1, x.shape).astype(np.float32)
    want = session.run(None, {x.name: given})[0]
    model = check.load(path)
    np.testing.assert_allclose(foreign.run(model, given), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(execute.run(model, given), want, rtol=1e-4, atol=1e-5)
    assert want.std() > 0


@pytest.mark.needs_data
@pytest.mark.parametrize("name", ["bnn_model_fc_1layer.onnx", "separable_conv_model_ch_last.onnx"])
def test_published_exact_models_equal_qonnxs_executor(name, tmp_path):
    path = small(oracle(name), tmp_path) if "separable" in name else oracle(name)
    model = check.load(path)
    shape = shapes.known(model)[model.graph.input[0].name]
    x = np.random.default_rng(2).integers(-64, 65, (4, *shape[1:])) / 32
    got, want = reference.run(program.read(path), x), foreign.run(model, x)
    np.testing.assert_array_equal(got, want)
    assert len(np.unique(want)) == (2 if "bnn" in name else 150)


@pytest.mark.needs_data
def test_the_published_quantized_float_model_runs_as_in_qonnx(tmp_path):
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    path = oracle("bsd300x3-espcn__subpixel__quant_model.onnx")
    x = np.random.default_rng(3).uniform(0, 1, (1, 3, 128, 128)).astype(np.float32)
    raw = ModelWrapper(str(path))
    del raw.graph.output[0].type.tensor_type.shape.dim[:]
    raw.graph.output[0].type.tensor_type.ClearField("shape")
    raw = raw.transform(InferShapes())
    want = execute_onnx(raw, {raw.graph.input[0].name: x})[raw.graph.output[0].name]
    np.testing.assert_array_equal(foreign.run(check.load(path), x), want)
    assert len(np.unique(want)) == 256  # the last of them has 8 bits


@pytest.mark.needs_data
@pytest.mark.parametrize("name", ["TFC_1W1A.onnx", "qkeras_jettagging.onnx"])
def test_golden_outputs_are_reproduced(name):
    golden = json.loads((oracles() / "oracle_golden.json").read_text())[name]
    x = np.random.RandomState(42).uniform(0, 1, golden["shape"]).astype(np.float32)
    got = foreign.run(check.load(oracle(name)), x)
    np.testing.assert_allclose(got.ravel(), golden["output"], rtol=1e-6)


@pytest.mark.needs_data
def test_finns_example_is_reproduced():
    folder = oracles() / "finn_build_dataflow"
    x, want = np.load(folder / "input.npy"), np.load(folder / "expected_output.npy")
    got = foreign.run(check.load(folder / "model.onnx"), x)
    np.testing.assert_array_equal(got.ravel(), want)


@pytest.mark.needs_data
def test_tfc_reaches_its_accuracy_without_a_flip():
    data = np.load(Path(os.environ["FASTML_DATA"]) / "mnist" / "mnist_test_first5000.npz")
    stored_logits = np.load(oracle("TFC_1W1A_qonnx_logits_first5000.npz"))["logits"]
    x = (data["x"].reshape(-1, 1, 28, 28) / 255).astype(np.float32)
    got = execute.run(oracle("TFC_1W1A.onnx"), x)
    assert np.count_nonzero(got.argmax(1) != stored_logits.argmax(1)) == 0
    assert (got.argmax(1) == data["y"]).mean() == 0.907
