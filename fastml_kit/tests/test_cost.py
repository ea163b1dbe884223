"""Costs: qonnx's totals, layer by layer, and each definition of a bit operation under its name."""

import os
from itertools import pairwise
from math import log2
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fastml_kit.errors import RunError, UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import bops, cost
from fastml_kit.graph.writer import QONNX_DOMAIN, Writer
from fastml_kit.tests.networks import INPUT, keras_model, mlp

WEIGHT = FixedSpec(4, 1, narrow=True)


def assert_totals_equal_qonnx(path):
    """Hold the totals against qonnx's own tool, with its own preparation of the graph."""
    from qonnx.util.inference_cost import inference_cost

    total = cost.count(path).total
    dense, sparse = (
        inference_cost(str(path), discount_sparsity=discount)["total_cost"]
        for discount in (False, True)
    )
    assert total.macs == dense["total_macs"]
    assert total.bops_qonnx == dense["total_bops"]
    assert total.weights == dense["total_mem_w_elems"]
    assert total.weight_bits == dense["total_mem_w_bits"]
    assert total.macs_sparse == pytest.approx(sparse["total_macs"], rel=1e-12)
    assert total.bops_qonnx_sparse == pytest.approx(sparse["total_bops"], rel=1e-12)
    assert total.weights_sparse == pytest.approx(sparse["total_mem_w_elems"], rel=1e-12)
    assert total.weight_bits_sparse == pytest.approx(sparse["total_mem_w_bits"], rel=1e-12)
    return total


def conv(path, seed, group=1, channels=4, outputs=8, kernel=(3, 2), strides=(1, 2), size=(7, 6)):
    """Write quantizer, grouped convolution with bias, quantizer; return the path and the kernel."""
    rng = np.random.default_rng(seed)
    graph = Writer(shape=(channels, *size))
    graph.quantize("pixels", INPUT)
    codes = rng.integers(WEIGHT.low, WEIGHT.high + 1, (outputs, channels // group, *kernel))
    codes *= rng.random(codes.shape) < 0.7  # zeros to leave out
    shape = (outputs, *((s - k) // t + 1 for s, k, t in zip(size, kernel, strides, strict=True)))
    graph.node(
        "Conv",
        "edges",
        graph.weight("k", WEIGHT.to_values(codes), WEIGHT),
        graph.weight("b", np.full(outputs, 0.5), FixedSpec(8, 2)),
        shape=shape,
        group=group,
        kernel_shape=list(kernel),
        strides=list(strides),
        pads=[0] * 4,
    )
    graph.quantize("act", FixedSpec(3, 3, signed=False))
    return graph.save(path, "conv"), codes, shape


@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**16),
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5).map(tuple),
    act_bits=st.integers(2, 8),
)
def test_an_mlp_costs_what_qonnx_says(tmp_path_factory, seed, sizes, act_bits):
    path = mlp(tmp_path_factory.mktemp("cost") / "model.onnx", seed, sizes, act_bits)
    total = assert_totals_equal_qonnx(path)
    pairs = list(pairwise(sizes))
    assert total.macs == sum(a * b for a, b in pairs)
    assert total.constants == sum(sizes[1:])
    assert total.constant_bits == 8 * sum(sizes[1:])
    assert total.activation_bits == 5 * sizes[0] + act_bits * sum(sizes[1:-1])
    widths = [5] + [act_bits] * (len(pairs) - 1)
    assert total.bops_qonnx == sum(4 * w * a * b for w, (a, b) in zip(widths, pairs, strict=True))


@pytest.mark.parametrize("group", [1, 2, 4])
def test_a_convolution_costs_what_qonnx_and_counting_say(tmp_path, group):
    path, codes, shape = conv(tmp_path / "model.onnx", 7, group)
    total = assert_totals_equal_qonnx(path)
    pixels = shape[1] * shape[2]
    assert 0 < np.count_nonzero(codes) < codes.size
    assert total.macs == codes.size * pixels
    assert total.macs_sparse == np.count_nonzero(codes) * pixels
    assert total.weight_bits_sparse == 4 * np.count_nonzero(codes)
    assert total.activation_bits == 5 * 4 * 7 * 6 + 3 * 8 * pixels


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_exported_networks_cost_what_qonnx_says(tmp_path, family):
    from fastml_kit.graph import export

    path = tmp_path / "model.onnx"
    export.export_qonnx(keras_model(family, 3), path)
    total = assert_totals_equal_qonnx(path)
    assert total.macs > 1000
    assert total.activation_bits > 0


def test_bops_under_each_definition_by_hand(tmp_path):
    path, codes, shape = conv(tmp_path / "model.onnx", 1, group=2)
    pixels, nonzero = shape[1] * shape[2], np.count_nonzero(codes)
    layer = next(row for row in cost.count(path).layers if row.op == "Conv")
    assert (layer.input_width, layer.weight_width) == (5, 4)
    macs = 8 * 2 * 6 * pixels  # outputs, channels a group, kernel
    assert layer.bops_qonnx == macs * 20
    assert layer.bops_uniq == pytest.approx(macs * (20 + 5 + 4 + log2(2 * 6)))
    share = nonzero / codes.size
    assert layer.bops_uniq_sparse == pytest.approx(macs * (20 * share + 5 + 4 + log2(12)))
    m, n, k = 8 * pixels, 4 * 7 * 6, 3 * 2
    counter = m * n * k * k * (20 + 5 + 4 + log2(n * k * k))
    assert layer.bops_hls4ml == pytest.approx(counter)
    share = (nonzero + 8) / (codes.size + 8)  # its share counts the biases
    counter = m * n * k * k * (20 * share + 5 + 4 + log2(n * k * k))
    assert layer.bops_hls4ml_sparse == pytest.approx(counter)


def test_a_dense_layer_has_equal_bops_by_both_counters():
    assert bops.uniq_bops(64 * 16, 16, 8, 6) == bops.hls4ml_bops(64, 16, 1, 8, 6)
    assert bops.uniq_bops(64 * 16, 16, 8, 6) == 64 * 16 * (48 + 8 + 6 + 4)
    assert bops.uniq_bops(1024, 16, 8, 6, 0.5) == 1024 * (24 + 8 + 6 + 4)


def test_layers_keep_their_names_and_order_and_own_their_biases(tmp_path):
    counted = cost.count(mlp(tmp_path / "model.onnx", sizes=(6, 5, 3)))
    assert [row.name for row in counted.layers] == ["input", "dense1", "act1", "dense2"]
    assert [row.constants for row in counted.layers] == [0, 5, 0, 3]
    assert counted.uncounted == ()
    rows = counted.rows()
    assert rows[-1]["name"] == "total"
    for key in ("macs", "parameters", "weight_bits", "bops_uniq_sparse"):
        assert rows[-1][key] == pytest.approx(sum(row[key] for row in rows[:-1])) != 0


def transposed(group, weights, size=(4, 5)):
    spec = {"kernel_shape": [3, 2], "strides": [2, 1], "group": group}
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="grow", **spec)
    shape = (1, weights.shape[1] * group, 2 * (size[0] - 1) + 3, size[1] + 1)
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        for name, dims in (("x", (1, weights.shape[0], *size)), ("y", shape))
    )
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)


@pytest.mark.parametrize("group", [1, 2])
def test_a_transposed_convolution_counts_every_product(group):
    weights = np.random.default_rng(0).integers(-1, 2, (4, 3, 3, 2)).astype(np.float32)
    total = cost.count(transposed(group, weights)).total
    # Each of the input's elements is multiplied with every tap that its channel has.
    assert total.macs == sum(4 * 5 * weights[channel].size for channel in range(4))
    assert total.macs_sparse == 4 * 5 * np.count_nonzero(weights) < total.macs
    fan_in = 4 // group * 6
    assert total.bops_uniq == pytest.approx(total.macs * (32 * 32 + 64 + log2(fan_in)))


def test_open_batches_and_nameless_nodes_are_counted_as_one_sample(tmp_path):
    path = mlp(tmp_path / "model.onnx")
    want, model = cost.count(path), onnx.load(str(path))
    for node in model.graph.node:
        node.name = ""
    for tensor in (model.graph.input[0], model.graph.output[0]):
        tensor.type.tensor_type.shape.dim[0].dim_param = "N"
    before = model.SerializeToString(deterministic=True)
    got = cost.count(model)
    assert (got.batch, got.total) == (1, want.total)
    assert len({row.name for row in got.layers}) == len(got.layers)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("op", "constants", "width"),
    [("BipolarQuant", [1.0], 1), ("Trunc", [1.0, 0.0, 8.0, 5.0], 5), ("Quant", [1.0, 0.0, 7.0], 7)],
)
def test_every_quantizer_on_data_has_its_bits_counted(op, constants, width):
    names = [f"c{number}" for number in range(len(constants))]
    attributes = {"signed": 1, "narrow": 0} if op == "Quant" else {}
    node = helper.make_node(op, ["x", *names], ["y"], name="q", domain=QONNX_DOMAIN, **attributes)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 6)) for n in "xy")
    values = [
        numpy_helper.from_array(np.float32(v).reshape(()), n)
        for n, v in zip(names, constants, strict=True)
    ]
    imports = [helper.make_opsetid("", 16), helper.make_opsetid(QONNX_DOMAIN, 1)]
    graph = helper.make_graph([node], "g", [x], [y], values)
    counted = cost.count(helper.make_model(graph, opset_imports=imports, ir_version=8))
    assert counted.total.activation_bits == 6 * width


def test_what_cannot_be_counted_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"missing\.onnx"):
        cost.count(tmp_path / "missing.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"\xff" * 50)
    with pytest.raises(RunError, match=r"noise\.onnx"):
        cost.count(tmp_path / "noise.onnx")
    with pytest.raises(UnsupportedModel, match="no input"):
        cost.count(onnx.ModelProto())
    model = transposed(1, np.ones((4, 3, 3, 2), np.float32))
    model.graph.node[0].domain = "qonnx.custom_op.channels_last"
    with pytest.raises(UnsupportedModel, match=r"'grow' .* channel-last"):
        cost.count(model)


@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("name", "macs", "bops_dense", "bops_sparse"),
    [("TFC_1W1A", 59_008, 59_008, 59_008), ("qkeras_jettagging", 4_256, 312_960, 228_768)],
)
def test_zoo_models_cost_what_qonnx_says(name, macs, bops_dense, bops_sparse):
    path = Path(os.environ["FASTML_DATA"]) / "oracles" / "qonnx_zoo" / f"{name}.onnx"
    total = assert_totals_equal_qonnx(path)
    assert (total.macs, total.bops_qonnx) == (macs, bops_dense)
    assert total.bops_qonnx_sparse == bops_sparse
