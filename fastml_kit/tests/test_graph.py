"""Reading, bounding and running graphs."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import execute, program, ranges, reference
from fastml_kit.graph.program import Node
from fastml_kit.graph.reference import Tensor
from fastml_kit.graph.writer import QONNX_DOMAIN, Writer
from fastml_kit.tests.networks import INPUT, mlp


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5).map(tuple),
    act_bits=st.integers(2, 8),
)
def test_reference_equals_qonnx_and_stays_in_its_bounds(tmp_path_factory, seed, sizes, act_bits):
    path = mlp(tmp_path_factory.mktemp("graph") / "model.onnx", seed, sizes, act_bits)
    graph = program.read(path)
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 3, (40, sizes[0])).round(3)  # off the grid and out of range as well
    x = np.round(x * 2**20) / 2**20
    bounds, seen = ranges.analyse(graph), {}
    start = Tensor((x * 2**24).astype(np.int64), 24)
    out = reference.run_codes(graph, start, watch=seen.__setitem__)
    for name, tensor in seen.items():
        assert tensor.frac == bounds[name].frac
        assert (tensor.codes >= bounds[name].low).all()
        assert (tensor.codes <= bounds[name].high).all()
    assert np.array_equal(out.codes * 2.0**-out.frac, execute.run(path, x))


@pytest.mark.parametrize("sign", [1, -1])
def test_bounds_are_reached(tmp_path, sign):
    """One neuron, inputs set against its weights' signs: the bound is exact, not only safe."""
    graph = Writer(shape=(4,))
    graph.quantize("input", INPUT)
    weights = np.array([[0.5], [-0.25], [0.875], [-0.125]])
    weight = graph.weight("w", weights, FixedSpec(4, 1, narrow=True))
    graph.node("MatMul", "dot", weight, shape=(1,))
    read = program.read(graph.save(tmp_path / "model.onnx", "dot"))
    worst = np.where(sign * weights.T > 0, INPUT.high, INPUT.low) * INPUT.step
    bound = ranges.analyse(read)["y"]
    code = (bound.high if sign > 0 else bound.low).item()
    assert reference.run(read, worst).item() == code * 2.0**-bound.frac


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    group=st.sampled_from([1, 2]),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_integer_convolution_equals_onnxruntime(seed, group, strides, pads, kernel):
    import onnxruntime

    rng = np.random.default_rng(seed)
    x = rng.integers(-50, 50, (3, 4, 6, 5))
    w, b = rng.integers(-9, 9, (6, 4 // group, *kernel)), rng.integers(-90, 90, 6)
    attributes = {"strides": strides, "pads": pads, "group": group}
    node = Node("Conv", "conv", ("x", "w", "b"), "y", attributes)
    ours = reference.conv(node, Tensor(x, 3), Tensor(w, 2), Tensor(b, 4))

    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)],
            "conv",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [
                numpy_helper.from_array((w / 4).astype(np.float32), "w"),
                numpy_helper.from_array((b / 16).astype(np.float32), "b"),
            ],
        ),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 16)],
    )
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (theirs,) = session.run(None, {"x": (x / 8).astype(np.float32)})
    assert np.array_equal(ours.codes * 2.0**-ours.frac, theirs)


def test_constants_and_formats_are_read_as_integers(tmp_path):
    graph = program.read(mlp(tmp_path / "model.onnx"))
    assert [node.op for node in graph.nodes] == [
        "Quant",
        "MatMul",
        "Add",
        "Relu",
        "Quant",
        "MatMul",
        "Add",
    ]
    assert graph.nodes[0].attrs["spec"] == INPUT
    assert (graph.input_shape, graph.output_shape) == ((6,), (3,))
    assert all(c.codes.dtype == np.int64 for c in graph.constants.values())


def edited(path, edit):
    proto = onnx.load(path)
    edit(proto.graph)
    onnx.save(proto, path)
    return path


def set_constant(name, value):
    def edit(graph):
        tensor = next(t for t in graph.initializer if t.name == name)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(value, np.float32), name))

    return edit


def set_rounding(mode):
    def edit(graph):
        quant = next(n for n in graph.node if n.op_type == "Quant")
        next(a for a in quant.attribute if a.name == "rounding_mode").s = mode

    return edit


def rename_op(graph):
    next(n for n in graph.node if n.op_type == "Relu").op_type = "Sigmoid"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_constant("act1_scale", 0.3), "Quant 'act1' has scale 0.3, which is no power of two"),
        (set_constant("act1_zero_point", 0.5), "Quant 'act1' has zero point 0.5; a whole number"),
        (set_constant("act1_bits", 3.5), "Quant 'act1' has a width of 3.5 bits"),
        (set_rounding(b"NEAREST"), "rounds by NEAREST; supported: ROUND, CEIL"),
        (rename_op, "node 'relu1' is a Sigmoid; that is the host's work"),
    ],
)
def test_what_is_not_exact_is_refused_with_the_node(tmp_path, edit, message):
    path = edited(mlp(tmp_path / "model.onnx"), edit)
    with pytest.raises(UnsupportedModel, match=message):
        program.read(path)


def test_an_unquantized_input_is_refused(tmp_path):
    graph = Writer(shape=(2,))
    graph.node("Relu", "relu")
    read = program.read(graph.save(tmp_path / "model.onnx", "relu"))
    with pytest.raises(UnsupportedModel, match="Relu 'relu' reads the unquantized input"):
        ranges.output_spec(read)


def test_sums_that_could_leave_int64_are_refused(tmp_path):
    graph = Writer(shape=(2,))
    graph.quantize("input", FixedSpec(40, 40))
    wide = FixedSpec(30, 30)
    graph.node("MatMul", "dot", graph.weight("w", np.full((2, 1), 2.0**28), wide), shape=(1,))
    read = program.read(graph.save(tmp_path / "model.onnx", "dot"))
    with pytest.raises(UnsupportedModel, match="MatMul 'dot' can leave 64-bit integers"):
        ranges.output_spec(read)


def test_binary_points_too_far_apart_are_refused(tmp_path):
    graph = Writer(shape=(2,))
    graph.quantize("input", FixedSpec(50, 50))
    tiny = FixedSpec(2, -30)
    graph.node("Add", "sum", graph.weight("b", np.full(2, tiny.step), tiny))
    read = program.read(graph.save(tmp_path / "model.onnx", "sum"))
    with pytest.raises(UnsupportedModel, match="Add 'sum' can leave 64-bit integers"):
        ranges.output_spec(read)


def test_a_product_of_two_data_tensors_is_refused(tmp_path):
    graph = Writer(shape=(2, 2))
    graph.quantize("input", INPUT)
    graph.node("MatMul", "square", graph.tensor)
    read = program.read(graph.save(tmp_path / "model.onnx", "square"))
    with pytest.raises(UnsupportedModel, match="MatMul 'square' multiplies two tensors of data"):
        ranges.output_spec(read)


def test_inputs_of_the_wrong_shape_or_grid_are_refused(tmp_path):
    graph = program.read(mlp(tmp_path / "model.onnx"))
    with pytest.raises(BadRequest, match=r"shape \(5,\), the graph wants \(6,\)"):
        reference.run(graph, np.zeros((3, 5)))
    with pytest.raises(BadRequest, match="18 inputs are NaN or infinite"):
        reference.run(graph, np.full((3, 6), np.inf))
    with pytest.raises(BadRequest, match="the inputs reach 1e\\+30 and need more than 58 bits"):
        reference.run(graph, np.array([[1e30, 0.1, 0, 0, 0, 0]]))


def test_inputs_of_any_fineness_are_quantized_as_the_executor_does(tmp_path):
    """Just beside ties and just beside zero, where a coarser reading would show."""
    path = mlp(tmp_path / "model.onnx")
    ties = np.arange(-3, 40) / 32
    beside = [np.nextafter(np.float32(t), np.float32(w)) for t in ties for w in (-9, 9)]
    values = np.resize(np.array([*beside, 1e-30, -1e-30, 0.1], dtype=np.float32), (60, 6))
    assert np.array_equal(reference.run(program.read(path), values), execute.run(path, values))


def test_an_empty_graph_is_not_written(tmp_path):
    with pytest.raises(BadRequest, match="the graph is empty"):
        Writer(shape=(2,)).save(tmp_path / "model.onnx", "nothing")
    assert QONNX_DOMAIN and not (tmp_path / "model.onnx").exists()
