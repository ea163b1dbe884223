from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastml_kit.errors import BadRequest, RunError, UnsupportedModel
from fastml_kit.graph import check, foreign, program, reference, verdict
from fastml_kit.graph.checks import shapes
from fastml_kit.graph.checks.structure import QONNX
from fastml_kit.tests import networks, seedmodels


def save(model: Any, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def stored(model: Any, name: str) -> Any:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def node(model: Any, name: str) -> Any:
    return next(one for one in model.graph.node if one.name == name)


def put(model: Any, name: str, values: Any) -> None:
    stored(model, name).CopyFrom(numpy_helper.from_array(np.asarray(values), name))


def set_attribute(model: Any, where: str, name: str, value: Any) -> None:
    found = node(model, where)
    for attribute in [one for one in found.attribute if one.name == name]:
        found.attribute.remove(attribute)
    found.attribute.append(helper.make_attribute(name, value))


# What is no ONNX file.


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "has 0 bytes"),
        (b"no model at all", "no ONNX file"),
        (b"\x08\x08", "no graph"),
        (b"\x0a" * 5000, "no ONNX file"),
        (bytes(64), "no ONNX file"),
    ],
)
def test_what_is_no_onnx_file_is_refused(data, words, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(RunError, match=words):
        check.load(path)


def test_a_truncated_file_is_refused(tmp_path):
    whole = seedmodels.cnn().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises((RunError, UnsupportedModel), match=r"model\.onnx"):
        check.load(path)


def test_a_directory_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(RunError, match="is no file"):
        check.load(tmp_path)
    with pytest.raises(RunError, match="does not exist"):
        check.load(tmp_path / "none.onnx")
    with pytest.raises(RunError, match="does not exist"):
        check.load(tmp_path / "a\0b.onnx")


def test_a_file_beyond_protobufs_limit_is_refused_unread(tmp_path):
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(check.MAX_BYTES + 1)  # sparse: no disk is used
    with pytest.raises(RunError, match="2147483648 bytes"):
        check.load(path)


def test_text_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(seedmodels.cnn().SerializeToString().replace(b"w1q", b"w\xffq"))
    with pytest.raises(RunError, match="UTF-8"):
        check.load(path)


# What is one, and says something wrong.


def cycle(model):
    node(model, "c0").input[0] = "r0"


def unsorted(model):
    model.graph.node.insert(0, model.graph.node[-1])
    del model.graph.node[-1]


def two_makers(model):
    node(model, "r0").output[0] = "c0"


def lost_input(model):
    model.graph.initializer.remove(stored(model, "b1"))
    # A tensor that nobody makes and nobody gives.


def strange_domain(model):
    node(model, "r0").domain = "antigravity"


def no_standard_import(model):
    del model.opset_import[0]


def opset(version):
    def change(model):
        model.opset_import[0].version = version

    return change


def attribute(where, name, value):
    return lambda model: set_attribute(model, where, name, value)


def values(name, array):
    return lambda model: put(model, name, array)


def open_axis(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def no_shape(model):
    model.graph.input[0].type.tensor_type.ClearField("shape")


def huge(model):
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 2**20


def grown(model):
    set_attribute(model, "c0", "pads", [2**19] * 4)


def wide_window(model):
    """A pool whose own output is small, but whose windows are not."""
    for name, value in {"kernel_shape": [2001] * 2, "pads": [1200] * 4, "strides": [1, 1]}.items():
        set_attribute(model, "p1", name, value)


def no_elements(model):
    stored(model, "w1").CopyFrom(TensorProto(name="w1", data_type=1, dims=[0, 2**62], raw_data=b""))


def external_missing(model):
    tensor = stored(model, "w1")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def external_elsewhere(model):
    external_missing(model)
    stored(model, "w1").external_data[0].value = "../../weights.bin"


def unknown_operator(model):
    node(model, "j").op_type = "Concatt"


def missing_input(model):
    del node(model, "m").input[1]


def too_many_inputs(model):
    node(model, "r0").input.append("b0")


def branch(model):
    node(model, "r0").op_type = "If"
    node(model, "r0").attribute.append(helper.make_attribute("then_branch", model.graph))


def sparse(model):
    model.graph.sparse_initializer.add().dims.append(3)


def two_inputs(model):
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3]))


def two_outputs(model):
    model.graph.output.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, [1, 3]))


def wrong_dims(model):
    stored(model, "w1").dims[0] = 31


def wrong_type(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


def wrong_claim(model):
    model.graph.value_info.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, [1, 4]))


def ints_for_floats(model):
    put(model, "b1", np.arange(3))


def lost_batch(model):
    node(model, "y").output[0] = "wide"
    model.graph.node.append(helper.make_node("Squeeze", ["wide"], ["y"], "last"))
    del model.graph.output[0].type.tensor_type.shape.dim[1]


def nothing_of_the_input(model):
    node(model, "m").input[0] = "w1q"
    put(model, "w1", np.eye(3, dtype=np.float32))


WRONG = {
    "cycle": (cycle, r"'c0' is part of a cycle through 'r0'"),
    "unsorted": (unsorted, r"Add 'y' reads 'm' before it is made; sort"),
    "two makers": (two_makers, "two of the name 'c0'"),
    "lost input": (lost_input, "reads 'b1', which nothing makes"),
    "domain": (strange_domain, "'r0' is of domain 'antigravity'; known domains"),
    "no import": (no_standard_import, "ONNX's own domain, which the file does not import"),
    "old opset": (opset(3), "ONNX opset 3; 7 to"),
    "new opset": (opset(99), "ONNX opset 99; 7 to"),
    "negative stride": (attribute("p0", "strides", [-1, 2]), r"'p0' has strides=\[-1, 2\]"),
    "zero kernel": (attribute("p0", "kernel_shape", [0, 2]), r"'p0' has kernel_shape=\[0, 2\]"),
    "short pads": (attribute("c0", "pads", [1, 1]), r"'c0' has pads=\[1, 1\]; 4 numbers"),
    "wide pads": (attribute("p0", "pads", [2, 2, 2, 2]), "no smaller than its window"),
    "group": (attribute("c0", "group", 4), "'c0' has 2 channels, group=4"),
    "kernel": (attribute("c0", "kernel_shape", [2, 2]), "'c0' has kernel_shape"),
    "attribute type": (attribute("c0", "group", 2.0), "'group' is of type FLOAT; it must be INT"),
    "attribute": (attribute("c0", "groups", 2), "unknown attribute 'groups'. Did you mean 'group'"),
    "rounding": (attribute("q1", "rounding_mode", 1), "'rounding_mode' is of type INT"),
    "NaN weight": (values("w1", np.full((32, 3), np.nan, "f4")), "'w1' holds 96 NaN"),
    "infinite bias": (values("b1", np.array([0, np.inf, 0], "f4")), "'b1' holds 1 NaN or inf"),
    "zero scale": (values("scale", np.float32(0)), "'q0' has a scale that is not positive"),
    "half a bit": (values("bits", np.float32(3.5)), "'q0' has a width of 3.5 bits"),
    "two widths": (values("bits", np.array([3, 4], "f4")), "is not that of|2 numbers"),
    "bias": (values("b0", np.zeros(3, "f4")), r"'c0' has a bias of shape \[3\]; it must be \[4\]"),
    "open axis": (open_axis, "axis 2 of input 'x' has size 'height'; only the batch"),
    "no shape": (no_shape, "input 'x' has no shape|shape"),
    "huge": (huge, "input 'x' has shape .* elements in all"),
    "grown": (grown, "output 'c0' of Conv 'c0' has shape .* elements in all"),
    "windows": (wide_window, "'p1' looks at .* numbers for one sample; at most"),
    "sizes": (no_elements, r"'w1' has shape \[0, \d+\]; sizes must be"),
    "external": (external_missing, "'w1' keeps its data in 'weights.bin', which is missing"),
    "elsewhere": (external_elsewhere, "outside the model's folder"),
    "operator": (unknown_operator, "Concatt 'j' is no operator of .* 13. Did you mean 'Concat'"),
    "missing input": (missing_input, "MatMul 'm' has 1 inputs; it needs 2"),
    "too many": (too_many_inputs, "Relu 'r0' has 2 inputs; it needs 1"),
    "subgraph": (branch, "If 'r0' holds a graph of its own"),
    "sparse": (sparse, "sparse tensors; store them as dense"),
    "two inputs": (two_inputs, "2 inputs and 1 outputs"),
    "two outputs": (two_outputs, "1 inputs and 2 outputs"),
    "data": (wrong_dims, r"'w1' has shape \[31, 3\] and another number of values"),
    "type": (wrong_type, "input 'x' has element type 8; only numbers"),
    "claim": (wrong_claim, "says that tensor 'm' has shape"),
    "types": (ints_for_floats, r"'y' joins tensor\(float\) with 'b1' of type tensor\(int64\)"),
    "small integers": (values("bits", np.uint8(4)), "'q0' reads 'bits' of type UINT8; floats"),
    "target": (values("flat", np.array([[1, -1]])), "'f' has a target shape with 2 axes"),
    "batch": (lost_batch, r"output 'y' has shape \[3\] for one sample"),
    "constant": (nothing_of_the_input, "output 'y' does not depend on the input"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_model_says_wrong_is_refused_by_name(case, tmp_path):
    change, words = WRONG[case]
    model = seedmodels.cnn()
    check.load(save(model, tmp_path))  # sound before
    change(model)
    with pytest.raises(UnsupportedModel, match=r"model\.onnx: .*(" + words + ")"):
        check.load(save(model, tmp_path))


def test_external_data_beside_the_model_are_read(tmp_path):
    model = seedmodels.cnn()
    want = numpy_helper.to_array(stored(model, "w1"))
    tensor = stored(model, "w1")
    (tmp_path / "weights.bin").write_bytes(bytes(8) + tensor.raw_data + bytes(4))
    external_missing(model)
    tensor.external_data.add(key="offset", value="8")
    tensor.external_data.add(key="length", value=str(want.nbytes))
    got = numpy_helper.to_array(stored(check.load(save(model, tmp_path)), "w1"))
    np.testing.assert_array_equal(got, want)
    tensor.external_data[1].value = "64"
    with pytest.raises(UnsupportedModel, match="'w1' wants 384 bytes from byte 64"):
        check.load(save(model, tmp_path))


def test_external_data_do_not_leave_the_folder_by_a_link(tmp_path):
    outside, folder = tmp_path / "secret.bin", tmp_path / "models"
    outside.write_bytes(bytes(384))
    folder.mkdir()
    (folder / "weights.bin").symlink_to(outside)
    model = seedmodels.cnn()
    external_missing(model)
    with pytest.raises(UnsupportedModel, match="outside the model's folder"):
        check.load(save(model, folder))


def test_outputs_that_nothing_reads_need_no_shape(tmp_path):
    model = with_dropout()
    assert verdict.examine(save(model, tmp_path)).level == "exact"
    assert list(check.load(save(model, tmp_path)).graph.node[-2].output) == ["d"]


def with_dropout():
    """Return a model whose Dropout also names its mask, as training tools write it."""
    model = seedmodels.cnn()
    node(model, "y").input[0] = "d"
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Dropout", ["m"], ["d", "mask"], "d")
    )
    return model


def test_open_bounds_of_a_clip_are_no_broken_weights(tmp_path):
    model = seedmodels.plain()  # its Clip has an upper bound of infinity
    assert verdict.examine(save(model, tmp_path)).level == "float"
    put(model, "high", np.float32(np.nan))
    with pytest.raises(UnsupportedModel, match="'high' holds 1 NaN"):
        check.load(save(model, tmp_path))


# What is set right.


def test_all_names_of_qonnxs_domain_mean_the_same(tmp_path):
    want = verdict.examine(save(seedmodels.cnn(), tmp_path))
    assert (want.level, want.dialect, want.notes) == ("exact", "qonnx", ())
    x = np.random.default_rng(0).integers(-9, 9, (5, 2, 4, 4)) / 8
    y = reference.run(program.read(save(seedmodels.cnn(), tmp_path)), x)
    assert len(np.unique(y)) > 8
    for alias in ("onnx.brevitas", "finn.custom_op.general"):
        model = seedmodels.cnn()
        for one in model.graph.node:
            one.domain = alias if one.domain == QONNX else one.domain
        del model.opset_import[1]
        path = save(model, tmp_path)
        found = verdict.examine(path)
        assert found.level == "exact" and len(found.notes) == 2
        assert alias in found.notes[0] and "not imported" in found.notes[1]
        np.testing.assert_array_equal(reference.run(program.read(path), x), y)


@pytest.mark.parametrize("batch", ["n", 7])
def test_any_batch_is_read_as_one(batch, tmp_path):
    model = seedmodels.cnn()
    x = np.random.default_rng(0).integers(-9, 9, (5, 2, 4, 4)) / 8
    want = reference.run(program.read(save(model, tmp_path)), x)
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    if batch == 7:
        dim.dim_value = batch
        put(model, "flat", np.array([7, 32]))
    else:
        dim.dim_param = batch
    path = save(model, tmp_path)
    found = verdict.examine(path)
    assert found.input_shape == (1, 2, 4, 4) and found.output_shape == (1, 3)
    assert f"the batch, {batch} in the file, is set to 1" in found.notes
    np.testing.assert_array_equal(reference.run(program.read(path), x), want)


def test_shapes_computed_in_the_graph_are_folded_and_change_nothing(tmp_path):
    import onnxruntime

    path = save(seedmodels.plain(), tmp_path)
    model = check.load(path)
    assert {"Shape", "Gather", "Unsqueeze", "Concat", "Constant"}.isdisjoint(
        one.op_type for one in model.graph.node
    )
    assert shapes.known(model)["e"] == (1, 3, 16, 16)
    x = np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32)
    want = onnxruntime.InferenceSession(path).run(None, {"x": x})[0]
    np.testing.assert_allclose(foreign.run(model, x), want, rtol=1e-5)
    assert want.std() > 1e-3


def test_a_model_runs_in_float_only_on_inputs_of_its_shape(tmp_path):
    model = check.load(save(seedmodels.plain(), tmp_path))
    with pytest.raises(BadRequest, match="the graph wants"):
        foreign.run(model, np.zeros((2, 3, 2, 3)))


def test_errors_of_libraries_become_one_typed_error_and_ours_pass():
    def fail(error):
        with check.refusing("it fails"):
            raise error

    with pytest.raises(UnsupportedModel, match="it fails: line one") as caught:
        fail(ValueError("\nline one\nline two"))
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(RunError, match="ours"):
        fail(RunError("ours"))


# What a model is.


def test_the_verdict_tells_levels_and_dialects_apart(tmp_path):
    found = {}
    for name, data in seedmodels.seeds(tmp_path).items():
        path = tmp_path / "seed.onnx"
        path.write_bytes(data)
        one = verdict.examine(path)
        found[name] = (one.dialect, one.level)
        assert (one.level == "exact") == (not one.reasons)
        assert f"{one.level}, dialect {one.dialect}" in str(one)
    assert found == {
        "mlp": ("qonnx", "exact"),
        "cnn": ("qonnx", "exact"),
        "binary": ("finn", "exact"),
        "float": ("float", "float"),
        "qdq": ("qcdq", "float"),
    }


def test_wide_accumulators_are_integer_but_not_exact(tmp_path):
    model = seedmodels.cnn()
    put(model, "bits", np.float32(14))
    put(model, "w1", np.full((32, 3), 900, np.float32))
    found = verdict.examine(save(model, tmp_path))
    assert found.level == "integer"
    assert "'m'" in found.reasons[0] and "24 bits" in found.reasons[0]


def test_half_precision_is_no_exact_arithmetic(tmp_path):
    model = seedmodels.cnn()
    for tensor in list(model.graph.initializer):
        found = numpy_helper.to_array(tensor)
        if found.dtype == np.float32:
            put(model, tensor.name, found.astype(np.float16))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    found = verdict.examine(save(model, tmp_path))
    assert found.level == "float" and "fewer bits than float32" in found.reasons[0]


def test_thresholds_take_their_channels_from_the_layout(tmp_path):
    model = seedmodels.binary()
    set_attribute(model, "y", "data_layout", "NC")
    assert verdict.examine(save(model, tmp_path)).level == "exact"
    set_attribute(model, "y", "data_layout", "NHWC")
    with pytest.raises(UnsupportedModel, match="'y' has data_layout 'NHWC' for data"):
        check.load(save(model, tmp_path))


def test_a_float_verdict_says_which_nodes_and_why(tmp_path):
    found = verdict.examine(save(seedmodels.plain(), tmp_path))
    text = str(found)
    assert "BatchNormalization" in text and "Softmax 'y'" in text
    assert "1 ConvTranspose" in text and "input 'x' [1, 2, 3, 3]" in text


def test_models_of_the_kit_pass(tmp_path):
    path = networks.mlp(tmp_path / "mlp.onnx")
    found = verdict.examine(path)
    assert (found.level, found.notes) == ("exact", ())
