"""hls4ml, operation by operation: compiled C++ with the reference's codes, or a refusal."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastml_kit.backends import BuildRequest
from fastml_kit.backends.hls4ml_backend import Hls4mlBackend, plan_program
from fastml_kit.backends.hls4ml_design import channel_last
from fastml_kit.backends.hls4ml_layers import design_of
from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import reference
from fastml_kit.graph.ir import Constant, Node, Program
from fastml_kit.tests.mixtures import MOVES, kinds, mixture, side_by_side
from fastml_kit.tests.programs import cnn, inputs, mlp, quant, weights

GRAPH = Path(__file__)  # any file: a plan only hashes it


def taken(seeds: range, *, stream: bool = False, only: tuple[str, ...] = ()) -> dict[str, Program]:
    """Return those of the random programs that hls4ml can take."""
    found = {}
    for seed in seeds:
        program = mixture(seed, 2, 1 + seed % 2, only=only)
        try:
            design_of(program, stream=stream)
        except UnsupportedModel:
            continue
        found[f"p{seed}"] = program
    return found


def predictor(program: Program, folder: Path, **asked: Any) -> Any:
    plan = plan_program(program, GRAPH, BuildRequest(**asked))
    return Hls4mlBackend().build(plan, folder, until="csim").predict


def assert_exact(programs: dict[str, Program], folder: Path, **asked: Any) -> None:
    """Compile `programs` side by side, and compare every output of each."""
    program, places = side_by_side(programs)
    values = inputs(program, 200)
    got, want = predictor(program, folder, **asked)(values), reference.run(program, values)
    wrong = [name for name, at in places.items() if not np.array_equal(got[:, at], want[:, at])]
    assert not wrong, {name: [node.op for node in programs[name].nodes] for name in wrong}
    distinct = [len(np.unique(want[:, at])) for at in places.values()]
    assert np.median(distinct) > 20


@pytest.mark.slow
@pytest.mark.parametrize("merge", [False, True])
def test_random_mixtures_compile_to_the_reference_codes(merge: bool, tmp_path: Path) -> None:
    seen: set[str] = set()
    chosen = {}
    for name, program in taken(range(80)).items():
        if kinds(program) - seen:  # each says something new: few programs with every operation
            chosen[name] = program
            seen |= kinds(program)
    assert len(seen) >= 18, seen
    assert_exact(chosen, tmp_path, merge_activations=merge)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("move", "reuse"), [*((move, 1) for move in sorted(MOVES)), ("arithmetic", 2), ("conv", 2)]
)
def test_each_kind_of_operation(move: str, reuse: int, tmp_path: Path) -> None:
    programs = taken(range(30), only=(move,))
    programs = dict(list(programs.items())[:8])
    assert len(programs) >= 4
    assert_exact(programs, tmp_path, reuse_factor=reuse)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_streams_give_the_reference_codes(seed: int, tmp_path: Path) -> None:
    programs = list(taken(range(40), stream=True).values())
    program = programs[seed]
    values = inputs(program, 100)
    asked = {"io_type": "io_stream", "merge_activations": seed % 2 == 1}
    got = predictor(program, tmp_path, **asked)(values)
    np.testing.assert_array_equal(got, reference.run(program, values))


def test_threads_change_nothing_and_one_sample_keeps_its_shape(tmp_path: Path) -> None:
    program = cnn(filters=8)
    predict, values = predictor(program, tmp_path), inputs(program, 1001)
    whole, want = predict(values), reference.run(program, values)
    np.testing.assert_array_equal(whole, want)
    one = np.concatenate([predict(values[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(one, want[:20])
    assert predict(values[:0]).shape == (0, 3)


def with_last(op: str, attrs: dict[str, Any], *more: str, **constants: Constant) -> Program:
    """Return an image behind a Quant, 1x1 convolution included, and one node more."""
    plain = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
    nodes = (
        quant("in", "x", "t", FixedSpec(5, 3)),
        Node("Conv", "conv", ("t", "w"), "c", plain),
        Node(op, "last", ("c", *more), "y", attrs),
    )
    given = {"w": Constant(np.array([[[[3]], [[-1]]], [[[2]], [[5]]]]), 2)} | constants
    return Program(nodes, given, "x", (2, 3, 4), "y", (2, 3, 4))


SPEC = {"spec": FixedSpec(4, 2), "overflow": "SAT"}
TRUNC = {"frac": 2, "zero_point": 0, "drop": 1, "rounding": "FLOOR", "spec": None}
POOL = {"kernel_shape": (2, 2), "strides": (1, 1), "pads": (0, 0, 1, 1), "dilations": (1, 1)}


@pytest.mark.parametrize(
    ("program", "stream", "message"),
    [
        (with_last("Quant", {**SPEC, "rounding": "UP"}), False, "Quant 'last' rounds by UP"),
        (
            with_last("Trunc", TRUNC), False,
            "Trunc 'last' has no exact form in hls4ml; supported: Add, Bip",
        ),
        (
            with_last("Quant", {**SPEC, "rounding": "ROUND", "divisor": 3}), False,
            "'last' divides an average by 3, rounds by ROUND and drops 2 bits",
        ),
        (
            with_last("Pad", {"pads": ((1, 0), (0, 0), (0, 0))}), False, "Pad 'last' pads channels",
        ),
        (with_last("MaxPool", POOL), True, "MaxPool 'last' has windows that overlap"),
        (with_last("Concat", {"axis": 2}, "t"), True, "Concat 'last' joins along axis 2"),
        (
            with_last("MaxPool", {**POOL, "dilations": (2, 1)}), False, "MaxPool 'last' is dilated",
        ),
    ],
)  # fmt: skip
def test_what_is_not_exact_is_refused_by_name(program: Program, stream: bool, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"hls4ml backend: .*{message}"):
        design_of(program, stream=stream)


@pytest.mark.parametrize("drop", [0, -1, -4])
@pytest.mark.parametrize("divisor", [3, 7, 9, 15, 49])
def test_an_average_is_a_product_that_rounds_to_the_same_code(divisor: int, drop: int) -> None:
    """Every sum that the bounds allow, in exact integers, against the reference's division."""
    spec = FixedSpec(16, 12 + drop)
    attrs = {"spec": spec, "rounding": "ROUND", "overflow": "SAT", "divisor": divisor}
    design = design_of(with_last("Quant", attrs), stream=False)
    (scale,) = {float(v) for v in np.ravel(design.layers[-1]["scale_data"])}
    bound = design.found["c"]
    assert bound.frac == spec.frac + drop
    x = np.arange(bound.low.min(), bound.high.max() + 1)
    bits = 45
    product = x * int(scale * 2**bits) << -drop  # scale is a multiple of 2**-bits
    assert scale * 2**bits == int(scale * 2**bits)
    rounded = (product + (1 << (bits - 1))) >> bits
    np.testing.assert_array_equal(rounded, spec.requantize(x, bound.frac, "ROUND", divisor=divisor))


@pytest.mark.parametrize(("bound", "layers"), [(4, 1), (2, 1), (1, 6)])
def test_a_clip_that_its_quant_does_anyway_costs_nothing(bound: int, layers: int) -> None:
    """Codes end at -2 and 1.75: only a bound inside them needs layers of its own."""
    program = with_last("Clip", {"low": -bound, "high": bound, "frac": 0})
    after = quant("after", "y", "z", FixedSpec(4, 2))
    program = replace(program, nodes=(*program.nodes, after), output="z")
    design = design_of(program, stream=False)
    assert len(design.layers) == 2 + layers
    assert design.layers[-1]["name"] == "after"


def test_flattening_and_transposing_move_nothing() -> None:
    """Weights are permuted instead, and the host puts inputs and outputs in their order."""
    program = with_last("Flatten", {})
    turn = Node("Transpose", "turn", ("c",), "z", {"perm": (0, 3, 1, 2)})
    program = replace(
        program,
        nodes=(*program.nodes[:2], turn, replace(program.nodes[2], inputs=("z",))),
        output_shape=(24,),
    )
    design = design_of(program, stream=False)
    assert [layer["class_name"] for layer in design.layers] == ["InputLayer", "Conv2D"]
    order = design.wires["y"].order
    assert sorted(order) == list(range(24))
    assert not np.array_equal(order, channel_last((2, 3, 4)))


def test_an_input_of_one_channel_is_turned_all_the_same(tmp_path: Path) -> None:
    """hls4ml 1.3.0 takes a Transpose right behind such an input out."""
    nodes = (
        quant("in", "x", "q", FixedSpec(5, 2)),
        Node("Transpose", "turn", ("q",), "t", {"perm": (0, 1, 3, 2)}),
        Node(
            "Conv", "conv", ("t", "w"), "y",
            {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "group": 1},
        ),
    )  # fmt: skip
    kernel = weights(np.random.default_rng(0), 2, 1, 2, 3)
    program = Program(nodes, {"w": kernel}, "x", (1, 7, 6), "y", (2, 5, 5))
    values = inputs(program, 50)
    predict = predictor(program, tmp_path)
    np.testing.assert_array_equal(predict(values), reference.run(program, values))


def test_every_layer_has_its_own_types() -> None:
    design = design_of(cnn(), stream=False)
    assert all({"result"} <= set(types) for types in design.types.values())
    conv = next(layer for layer in design.layers if layer["class_name"] == "Conv2D")
    assert {"accum", "weight", "bias", "result"} == set(design.types[conv["name"]])


def test_names_become_distinct_cpp_names() -> None:
    program = mlp((3, 4, 2))
    nodes = [replace(node, name="/Layer.1/x") for node in program.nodes]
    design = design_of(replace(program, nodes=tuple(nodes)), stream=False)
    names = [layer["name"] for layer in design.layers]
    assert len({name.lower() for name in names}) == len(names)
    assert all(name.isidentifier() for name in names)


def test_a_convolution_shares_its_multipliers_as_evenly_as_it_can() -> None:
    """Windows of 18 elements: 4 is refused by hls4ml's C++ at run time, 3 is the nearest below."""
    plan = plan_program(cnn(), GRAPH, BuildRequest(reuse_factor=4))
    layers = json.loads(plan.files["hls4ml_config.json"])["LayerName"]
    assert layers["conv"]["ReuseFactor"] == 3
