"""Every operation of the integer program as adders and wires, against the reference engine."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastml_kit.backends import da4ml_trace
from fastml_kit.backends.base import BuildRequest
from fastml_kit.backends.da4ml_backend import Da4mlBackend, plan_program
from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec, Rounding
from fastml_kit.graph import reference
from fastml_kit.graph.ir import Constant, Node, Program
from fastml_kit.rtl import simulate
from fastml_kit.tests.mixtures import MOVES, kinds, mixture, side_by_side
from fastml_kit.tests.programs import inputs, quant


def both(program: Program, samples: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return what da4ml's interpreter and the reference engine make of random inputs."""
    values = inputs(program, samples)
    want = reference.run(program, values)
    got = da4ml_trace.trace(program).predict(values.reshape(samples, -1))
    return np.asarray(got).reshape(want.shape), want


def line(*nodes: tuple[str, dict], spec: FixedSpec = FixedSpec(6, 4), size: int = 1) -> Program:
    """Return a program of `nodes` (operation, attributes) in a row, behind a first Quant."""
    names = ["t", *(f"t{i}" for i in range(len(nodes)))]
    row = [
        Node(op, f"{op}_{after}", (before,), after, attrs)
        for (op, attrs), (before, after) in zip(nodes, pairwise(names), strict=True)
    ]
    return Program((quant("in", "x", "t", spec), *row), {}, "x", (size,), names[-1], (size,))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rank=st.sampled_from([1, 2]), depth=st.integers(1, 5))
def test_random_mixtures_of_all_operations_are_exact(seed: int, rank: int, depth: int) -> None:
    got, want = both(mixture(seed, depth, rank))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("move", sorted(MOVES))
def test_each_kind_of_operation_is_exact_and_says_something(move: str) -> None:
    seen: set[str] = set()
    distinct = []
    for seed in range(6):
        program = mixture(seed, 2, 1 + seed % 2, only=(move,))
        got, want = both(program)
        np.testing.assert_array_equal(got, want)
        seen |= kinds(program)
        distinct.append(len(np.unique(want)))
    assert len(seen) >= 3 and np.median(distinct) > 10


def test_an_average_on_a_grid_coarser_than_one_is_divided() -> None:
    """Steps of 32: the fractional bits of the sum are negative."""
    window = {"kernel_shape": (3,), "strides": (3,), "pads": (0, 0), "dilations": (1,)}
    last = quant("out", "s", "y", FixedSpec(5, 4))
    nodes = (
        quant("in", "x", "q", FixedSpec(4, 9)),
        Node("SumPool", "average", ("q",), "s", {**window, "shift": 0}),
        replace(last, attrs={**last.attrs, "divisor": 3}),
    )
    program = Program(nodes, {}, "x", (2, 3), "y", (2, 1))
    values = inputs(program, 200)
    got = np.asarray(da4ml_trace.trace(program).predict(values.reshape(200, -1)))
    want = reference.run(program, values)
    assert len(np.unique(want)) > 2
    np.testing.assert_array_equal(got.reshape(want.shape), want)


def test_a_scalar_constant_is_a_constant() -> None:
    """NumPy makes a plain number of what is computed with an array without axes."""
    nodes = (quant("in", "x", "q", FixedSpec(5, 2)), Node("Mul", "times", ("q", "c"), "y", {}))
    program = Program(nodes, {"c": Constant(np.array(3), 1)}, "x", (4,), "y", (4,))
    values = inputs(program, 40)
    got = np.asarray(da4ml_trace.trace(program).predict(values.reshape(40, -1)))
    np.testing.assert_array_equal(got.reshape(40, 4), reference.run(program, values))


def test_a_product_that_is_a_constant_is_compared_rightly() -> None:
    """A weight of zero among others, before a pool: da4ml keeps that zero negated."""
    got, want = both(mixture(3, rank=2))
    assert len(np.unique(want)) > 50
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("rounding", [r for r in get_args(Rounding) if r != "HALF_CEIL"])
@pytest.mark.parametrize(("divisor", "drop"), [(3, 0), (9, 1), (5, 3), (7, -2), (49, 2)])
def test_every_sum_is_divided_exactly(rounding: Rounding, divisor: int, drop: int) -> None:
    """Averages for every sum that can occur: ties, both signs and saturation among them."""
    spec = FixedSpec(5, 5 + drop)
    attrs = {"spec": spec, "rounding": rounding, "overflow": "SAT", "divisor": divisor}
    program = line(("Quant", attrs), spec=FixedSpec(9, 9))
    codes = np.arange(-256, 256)
    want = spec.requantize(codes, 0, rounding, divisor=divisor)
    got = da4ml_trace.trace(program).predict(codes[:, None].astype(float))[:, 0]
    np.testing.assert_array_equal(spec.to_codes(got), want)
    assert len(np.unique(want)) >= min(32, 512 // (divisor << max(drop, 0)))


@pytest.mark.parametrize("steps", [np.array(1), np.array([[1, 4]])])
def test_the_sign_of_zero_is_plus(steps: np.ndarray) -> None:
    program = line(("BipolarQuant", {"frac": 1, "steps": steps}), size=2)
    got = da4ml_trace.trace(program).predict(np.array([[0.0, 0.0], [-0.25, -8.0], [0.25, 7.0]]))
    signs = np.array([[1, 1], [-1, -1], [1, 1]])
    np.testing.assert_array_equal(got, signs * np.broadcast_to(steps, (1, 2)) / 2)


def test_thresholds_beyond_the_range_and_between_codes() -> None:
    rows = np.array([[-np.inf, -3.1, 0.0, 0.25, 0.3, 7.75, 8.0, np.inf]])
    attrs = {"thresholds": rows, "base": -3, "step": 2, "frac": 1}
    got, want = both(line(("MultiThreshold", attrs), size=3), 300)
    assert set(np.unique(want)) == {(2 * n - 3) / 2 for n in range(1, 7)}
    np.testing.assert_array_equal(got, want)


def test_a_pad_costs_nothing_and_moves_cost_nothing() -> None:
    program = line(
        ("Reshape", {"shape": (2, 3, 2)}), ("Pad", {"pads": ((0, 0), (1, 2), (0, 1))}),
        ("Transpose", {"perm": (0, 2, 3, 1)}), ("Upsample", {"scales": (2, 1)}), size=12,
    )  # fmt: skip
    program = replace(program, output_shape=(6, 6, 2))
    got, want = both(program)
    np.testing.assert_array_equal(got, want)
    assert da4ml_trace.trace(program).cost == 0


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((("Softmax", {}),), r"no exact form for Softmax 'Softmax_t0'; supported: Add, Bipolar"),
        (
            (("LeakyRelu", {"alpha": 1, "alpha_frac": 16}),) * 3,
            r"LeakyRelu 'LeakyRelu_t1' gives \d+ bits, 34 of them fractional",
        ),
    ],
)
def test_what_has_no_exact_circuit_is_refused_by_name(nodes: tuple, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        da4ml_trace.trace(line(*nodes))


def test_data_times_data_is_refused() -> None:
    program = line()
    product = Node("Mul", "gate", ("t", "t"), "y", {})
    with pytest.raises(UnsupportedModel, match="Mul 'gate' multiplies data by data"):
        da4ml_trace.trace(replace(program, nodes=(*program.nodes, product), output="y"))


def test_an_input_with_a_zero_point_is_refused() -> None:
    program = line(("Relu", {}))
    first = program.nodes[0]
    shifted = replace(first, attrs={**first.attrs, "zero_point": 2})
    with pytest.raises(UnsupportedModel, match="Quant 'in' of the input has a zero point"):
        da4ml_trace.trace(replace(program, nodes=(shifted, *program.nodes[1:])))


def test_a_transposed_convolution_counts_what_it_adds_up() -> None:
    attrs = {"strides": (2,), "pads": (0, 0), "output_padding": (0,), "dilations": (1,), "group": 1}
    program = line(("Reshape", {"shape": (1, 4)}), size=4)
    last = Node("ConvTranspose", "up", (program.output, "w"), "y", attrs)
    weights = {"w": Constant(np.array([[[3, 0, 1]]]), 2)}
    program = replace(
        program, nodes=(*program.nodes, last), constants=weights, output="y", output_shape=(1, 9)
    )
    assert da4ml_trace.multiplications(program, 100) == 4 * 2
    got, want = both(program)
    np.testing.assert_array_equal(got, want)


@pytest.mark.slow
def test_the_verilog_of_every_operation_is_exact(tmp_path: Path) -> None:
    seen: set[str] = set()
    chosen = {}
    for seed in range(60):
        program = mixture(seed, 2, 1 + seed % 2)
        if kinds(program) - seen:
            chosen[f"p{seed}"] = program
            seen |= kinds(program)
    assert seen == set(da4ml_trace.OPERATIONS)
    program, _ = side_by_side(chosen)
    values = inputs(program, 400)
    plan = plan_program(program, Path(__file__), BuildRequest())
    built = Da4mlBackend().build(plan, tmp_path, until="rtl")
    simulated = simulate.simulate(
        built.sources, built.top, built.interface, values, tmp_path / "sim"
    )
    want = reference.run(program, values)
    np.testing.assert_array_equal(np.reshape(simulated.values, want.shape), want)
