"""The fast engine against the reference engine: bounds asserted, every code equal."""

import numpy as np
import pytest
from hypothesis import given, settings

from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import fast, program, ranges, reference
from fastml_kit.graph.ir import Constant, Node, Program
from fastml_kit.graph.lowering import Lowering
from fastml_kit.tests import networks, programs


@settings(max_examples=40, deadline=None)
@given(made=programs.programs)
def test_random_programs_have_equal_codes(made):
    values = programs.inputs(made, 60)
    values[1:-1] += np.random.default_rng(0).normal(0, 0.3, values[1:-1].shape).round(4)
    values = np.round(values * 2**20) / 2**20
    compiled = fast.compile(made)
    assert compiled.worst <= ranges.FLOAT32_SAFE and compiled.dtype is np.float32
    assert np.array_equal(compiled(values.astype(np.float32)), reference.run(made, values))


@pytest.mark.parametrize("strides", [(2, 3), (1, 1)])
def test_a_pool_after_a_small_convolution_has_equal_codes(strides):
    """Windows that lie side by side, with a crop, are pooled before the Quant; others after."""
    rng = np.random.default_rng(0)
    window = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
    pool = {"kernel_shape": (2, 3), "strides": strides, "pads": (0,) * 4, "dilations": (1, 1)}
    nodes = (
        programs.quant("in", "x", "q", FixedSpec(5, 1)),
        Node("Conv", "conv", ("q", "w", "b"), "y", {**window, "kernel_shape": (2, 2)}),
        Node("Relu", "relu", ("y",), "r", {}),
        programs.quant("act", "r", "a", FixedSpec(4, 2, signed=False)),
        Node("MaxPool", "pool", ("a",), "p", pool),
    )
    constants = {"w": programs.weights(rng, 3, 2, 2, 2), "b": programs.weights(rng, 3)}
    shape = (3, 3, 2) if strides == (2, 3) else (3, 5, 6)
    made = Program(nodes, constants, "x", (2, 7, 9), "p", shape)
    compiled = fast.compile(made)
    values = rng.uniform(-1, 1, (200, 2, 7, 9)).round(3).astype(np.float32)
    assert np.array_equal(compiled(values), reference.run(made, values))
    ops = [node.op_type for node in Lowering(made, np.float32).model()[0].graph.node]
    assert ("ReduceMax" in ops) != ("MaxPool" in ops) and ("MaxPool" in ops) == (strides == (1, 1))


def dot(x: FixedSpec, weights) -> Program:
    """Return a Quant and one product with `weights` of shape (inputs, outputs)."""
    weights = np.asarray(weights)
    nodes = (
        programs.quant("in", "x", "q", x),
        Node("MatMul", "dot", ("q", "w"), "y", {}),
    )
    inputs, outputs = weights.shape
    return Program(nodes, {"w": Constant(weights, 0)}, "x", (inputs,), "y", (outputs,))


def test_sums_beyond_24_bits_are_carried_in_float64():
    """Sums of 2**25 - 1 and the like, which float32 cannot hold: it would be wrong, and is not."""
    made = dot(FixedSpec(12, 12), [[4097, 1], [4093, 4099], [4099, 2]])
    compiled = fast.compile(made)
    assert compiled.dtype is np.float64 and compiled.worst > ranges.FLOAT32_SAFE
    values = np.random.default_rng(0).integers(-2048, -2000, (500, 3)).astype(float)
    want = reference.run(made, values)
    assert np.array_equal(compiled(values), want)
    rounded = values.astype(np.float32) @ made.constants["w"].codes.astype(np.float32)
    assert not np.array_equal(rounded, want)


def test_partial_sums_count_not_only_results():
    """Two huge products that cancel: the result is small, the sum on its way is not."""
    made = dot(FixedSpec(2, 2, signed=False), [[2**23], [2**23], [-(2**23)], [-(2**23)], [1]])
    assert fast.compile(made).dtype is np.float64
    assert ranges.rounding_nodes(made) == ["MatMul 'dot'"]


def test_sums_beyond_53_bits_are_refused_by_name():
    made = dot(FixedSpec(30, 30), [[2**28]])
    with pytest.raises(UnsupportedModel, match="MatMul 'dot' may need more than 53 bits"):
        fast.compile(made)


def test_batches_of_any_size_are_the_same(tmp_path):
    graph = program.read(networks.mlp(tmp_path / "m.onnx"))
    values = np.random.default_rng(0).integers(0, 17, (3000, 6)) / 16
    compiled = fast.compile(graph, threads=2)
    want = compiled(values)
    assert np.array_equal(want, np.concatenate([compiled(values[:1]), compiled(values[1:])]))
    assert compiled(values[:0]).shape == (0, 3)


def test_wrong_inputs_are_refused(tmp_path):
    compiled = fast.compile(program.read(networks.mlp(tmp_path / "m.onnx")))
    with pytest.raises(BadRequest, match=r"shape \(5,\), the graph wants \(6,\)"):
        compiled(np.zeros((3, 5)))
    with pytest.raises(BadRequest, match="NaN or infinite"):
        compiled(np.full((3, 6), np.nan))
