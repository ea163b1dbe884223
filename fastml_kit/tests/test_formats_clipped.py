"""Operators on integers: equal codes in plain onnxruntime, and nothing but 8 bits in products."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from onnx import TensorProto

from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import execute, export, formats, importing, program, reference
from fastml_kit.graph.formats import clipped
from fastml_kit.graph.ir import Constant, Node, Program
from fastml_kit.graph.writer import Writer
from fastml_kit.tests import dialects, networks, onnxgraphs, programs, random_graphs


@settings(max_examples=60)
@given(made=programs.programs)
def test_random_programs_have_equal_codes(made):
    values = programs.inputs(made, 60)
    values[1:-1] += np.random.default_rng(0).normal(0, 0.3, values[1:-1].shape).round(4)
    values = np.round(values * 2**20) / 2**20
    np.testing.assert_array_equal(clipped.session(made)(values), reference.run(made, values))


def assert_equal_in_onnxruntime(
    path: Path, folder: Path, values: np.ndarray, distinct: int
) -> Path:
    """Check a converted file against qonnx's executor, and that its products are of 8 bits."""
    done = formats.to_clipped(path, folder / "clipped.onnx")
    want = execute.run(path, values)
    assert len(np.unique(want)) >= distinct
    np.testing.assert_array_equal(dialects.run(done.path, values), want)
    # Any batch goes through the file at once.
    ask = dialects.session(done.path)
    name = ask.get_inputs()[0].name
    np.testing.assert_array_equal(ask.run(None, {name: values.astype(np.float32)})[0], want)
    assert done.standalone and {s.domain for s in onnx.load(done.path).opset_import} == {""}
    assert_products_of_8_bits(done.path)
    return done.path


def assert_products_of_8_bits(path: Path) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    kinds = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    kinds |= {t.name: t.data_type for t in model.graph.initializer}
    products = [n for n in model.graph.node if n.op_type in ("MatMulInteger", "ConvInteger")]
    assert products and not {"MatMul", "Gemm"} & {n.op_type for n in model.graph.node}
    for node in products:
        assert kinds[node.input[0]] == TensorProto.UINT8
        assert kinds[node.input[1]] in (TensorProto.INT8, TensorProto.UINT8)
        assert kinds[node.output[0]] == TensorProto.INT32


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_are_equal_in_onnxruntime(seed, tmp_path):
    path = random_graphs.write(tmp_path / "m.onnx", seed)
    shape = program.read(path).input_shape
    assert_equal_in_onnxruntime(path, tmp_path, random_graphs.inputs(shape, 40, seed), 8)


def test_a_random_mlp_says_its_widths_by_clips_of_integers(tmp_path):
    path = networks.mlp(tmp_path / "m.onnx")
    values = np.random.default_rng(0).integers(-2, 40, (100, 6)) / 32
    target = assert_equal_in_onnxruntime(path, tmp_path, values, 50)
    assert dialects.operators(target) == [
        "QuantizeLinear", "Clip", "MatMulInteger", "Cast", "Add", "Identity",
        "QuantizeLinear", "Clip", "MatMulInteger", "Cast", "Add", "Mul",
    ]  # fmt: skip
    ends = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(target).graph.initializer}
    clips = [n for n in onnx.load(target).graph.node if n.op_type == "Clip"]
    assert [[ends[name].item() for name in n.input[1:]] for n in clips] == [[0, 31], [0, 15]]
    assert all(ends[name].dtype == np.uint8 for n in clips for name in n.input[1:])


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_exported_keras_models_are_equal_in_onnxruntime(family, tmp_path):
    path = export.export_qonnx(networks.keras_model(family, seed=3), tmp_path / "m.onnx")
    values = networks.images(40, 1)
    values = values.reshape(40, -1) if family == "mlp" else export.channel_first(values)
    assert_equal_in_onnxruntime(path, tmp_path, values, 50)


@pytest.mark.needs_data
def test_the_jet_tagging_model_is_equal_once_its_input_has_8_bits(tmp_path):
    path = Path(os.environ["FASTML_DATA"]) / "oracles" / "qonnx_zoo" / "qkeras_jettagging.onnx"
    spec = FixedSpec(8, 4)
    core = importing.import_graph(path, tmp_path / "core.onnx", input_spec=spec)
    done = formats.to_clipped(core.path, tmp_path / "clipped.onnx")
    values = spec.to_values(np.random.default_rng(0).integers(-128, 128, (500, 16)))
    logits = dialects.run(done.path, values)
    np.testing.assert_array_equal(logits, execute.run(core.path, values))
    assert len(np.unique(logits)) > 1000 and core.tail is not None
    # The model as published, softmax included: on this grid its own input needs no Quant.
    np.testing.assert_array_equal(core.tail(logits), execute.run(path, values))


# -- products of full 8 bits, which some processors saturate


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("op", ["MatMul", "Conv"])
def test_the_largest_products_are_exact(op, bits, signed):
    x, rng = FixedSpec(8, 8, signed), np.random.default_rng(bits)
    top = 2 ** (bits - 1)
    shape, size, out = ((96,), (96, 5), (5,))
    attrs: dict = {}
    if op == "Conv":
        shape, size, out = ((6, 5, 5), (4, 6, 3, 3), (4, 5, 5))
        attrs = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "group": 1}
    weights = rng.choice([-top, -top + 1, top - 1], size)
    nodes = (programs.quant("in", "x", "q", x), Node(op, "product", ("q", "w"), "y", attrs))
    made = Program(nodes, {"w": Constant(weights, 3)}, "x", shape, "y", out)
    values = rng.choice([x.low, x.high - 1, x.high], (50, *shape)).astype(float)
    want = reference.run(made, values)
    assert len(np.unique(want)) > 100
    np.testing.assert_array_equal(clipped.session(made)(values), want)


def test_weights_with_scales_by_channel_are_shifted_apart():
    """Aligned to the finest scale the codes have 13 bits; each channel alone has 5."""
    rng = np.random.default_rng(0)
    ups = np.array([0, 8, 3, 5])
    codes = rng.integers(-16, 16, (20, 4)) << ups
    nodes = (
        programs.quant("in", "x", "q", FixedSpec(4, 2)),
        Node("MatMul", "dense", ("q", "w"), "y", {}),
    )
    made = Program(nodes, {"w": Constant(codes, 8)}, "x", (20,), "y", (4,))
    values = rng.normal(0, 1, (200, 20)).round(5)
    want = reference.run(made, values)
    assert len(np.unique(want)) > 200
    np.testing.assert_array_equal(clipped.session(made)(values), want)


# -- every operation


def image_graph(path: Path) -> Path:
    """Write branches, an average by 9, a residual sum, a concatenation, and rank-3 data."""
    rng = np.random.default_rng(4)
    weight = FixedSpec(4, 1, narrow=True)
    graph = Writer(shape=(2, 6, 6))
    trunk = graph.quantize("input", FixedSpec(5, 2))
    kernel = weight.to_values(rng.integers(-7, 8, (3, 2, 3, 3)))
    graph.node("Conv", "conv", graph.weight("kernel", kernel, weight), shape=(3, 6, 6),
               kernel_shape=[3, 3], pads=[1] * 4)  # fmt: skip
    left = graph.quantize("left", FixedSpec(4, 3))
    graph.node("Relu", "relu")
    right = graph.node("MaxPool", "pool", shape=(3, 6, 6), kernel_shape=[3, 3], pads=[1] * 4)
    both = graph.node("Concat", "joined", left, source=right, shape=(6, 6, 6), axis=1)
    summed = graph.node("Add", "residual", left, source=right)
    graph.node("Concat", "mixed", trunk, both, source=summed, shape=(11, 6, 6), axis=1)
    graph.node("AveragePool", "average", shape=(11, 2, 2), kernel_shape=[3, 3], strides=[3, 3])
    graph.quantize("averaged", FixedSpec(6, 3))
    graph.node("Flatten", "flatten", shape=(44,))
    graph.node("Reshape", "rows", graph.constant("shape", [0, 11, 4], np.int64), shape=(11, 4))
    graph.node("Transpose", "turned", shape=(4, 11), perm=[0, 2, 1])
    dense = weight.to_values(rng.integers(-7, 8, (11, 5)))
    graph.node("MatMul", "dense", graph.weight("dense_kernel", dense, weight), shape=(4, 5))
    return graph.save(path, "image")


def test_branches_averages_and_shapes_are_equal(tmp_path):
    path = image_graph(tmp_path / "m.onnx")
    values = np.random.default_rng(0).normal(0, 1, (60, 2, 6, 6)).round(6).astype(np.float32)
    target = assert_equal_in_onnxruntime(path, tmp_path, values, 300)
    done = formats.to_clipped(path, target)
    kept = {step.node: step.what for step in done.stayed}
    assert kept["Add 'residual'"].endswith("Add on float32 that holds integers")
    assert "Concat 'joined'" not in kept and "Concat 'mixed'" in kept


def test_a_product_may_read_a_sum_that_fits_8_bits():
    nodes = (
        programs.quant("in", "x", "q", FixedSpec(4, 2)),
        programs.quant("other", "x", "r", FixedSpec(3, 3)),
        Node("Add", "sum", ("q", "r"), "s", {}),
        Node("MatMul", "dense", ("s", "w"), "y", {}),
    )
    weights = Constant(np.random.default_rng(0).integers(-7, 8, (9, 3)), 2)
    made = Program(nodes, {"w": weights}, "x", (9,), "y", (3,))
    values = np.random.default_rng(1).normal(0, 2, (80, 9)).round(5)
    want = reference.run(made, values)
    assert len(np.unique(want)) > 80
    np.testing.assert_array_equal(clipped.session(made)(values), want)


# -- refusals


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ({"bits": 9}, "Quant 'q' has 9 bits; an 8-bit tensor holds at most 8"),
        ({"rounding_mode": "FLOOR"}, "Quant 'q' rounds by FLOOR"),
        ({"zero_point": 3.0}, "Quant 'q' has zero point 3"),
        ({"scale": np.array([[0.5, 0.25]])}, "Quant 'q' has a scale for each channel"),
        ({"bits": 1}, "BipolarQuant 'q' has one bit, plus or minus one step"),
    ],
)
def test_quantizers_without_an_8_bit_form_are_refused_by_name(says, why, tmp_path):
    constants: dict = {}
    says = {"scale": 0.5, "bits": 4} | says
    node = onnxgraphs.quant("x", "q", constants, says.pop("scale"), says.pop("bits"), **says)
    path = onnxgraphs.save(tmp_path / "m.onnx", [node], constants, (2,))
    with pytest.raises(UnsupportedModel, match=why):
        formats.to_clipped(path, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def product(x: FixedSpec, weights, *between: Node) -> Program:
    nodes = (
        programs.quant("in", "x", "q", x),
        *between,
        Node("MatMul", "dense", (between[-1].output if between else "q", "w"), "y", {}),
    )
    constants = {"w": Constant(np.asarray(weights), 0), "two": Constant(np.array(200), 0)}
    return Program(nodes, constants, "x", (2,), "y", (1,))


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (product(FixedSpec(4, 4), [[129], [1]]), "MatMul 'dense' has weights from 1 to 129"),
        (
            product(FixedSpec(4, 4), [[1], [2]], Node("Mul", "times", ("q", "two"), "s", {})),
            "MatMul 'dense' reads codes from -1600 to 1400, which 8 bits cannot hold",
        ),
        (product(FixedSpec(8, 8), [[2**17], [1]]), "MatMul 'dense' can need over 24 bits"),
    ],
)
def test_products_without_an_8_bit_form_are_refused_by_name(made, why):
    with pytest.raises(UnsupportedModel, match=why):
        clipped.session(made)


@pytest.mark.needs_data
def test_a_binary_network_is_refused_by_name(tmp_path):
    """By the reader, or, where that finds integers between its ends, as BipolarQuant."""
    path = Path(os.environ["FASTML_DATA"]) / "oracles" / "qonnx_zoo" / "TFC_1W1A.onnx"
    with pytest.raises(UnsupportedModel):
        formats.to_clipped(path, tmp_path / "out.onnx")
    core = importing.import_graph(path, tmp_path / "core.onnx")
    with pytest.raises(
        UnsupportedModel, match=r"^\w+ '\w+' (has one bit|compares with thresholds)"
    ):
        formats.to_clipped(core.path, tmp_path / "out.onnx")


def test_sessions_check_their_inputs(tmp_path):
    ask = clipped.session(program.read(networks.mlp(tmp_path / "m.onnx")))
    with pytest.raises(BadRequest, match=r"shape \(5,\), the graph wants \(6,\)"):
        ask(np.zeros((3, 5)))
    with pytest.raises(BadRequest, match="NaN or infinite"):
        ask(np.full((3, 6), np.nan))
    assert ask(np.zeros((0, 6))).shape == (0, 3)
