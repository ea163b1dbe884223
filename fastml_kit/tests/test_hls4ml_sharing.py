"""hls4ml's multipliers: which reuse factors a layer takes, what a request may say of each layer."""

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastml_kit.backends import BuildRequest
from fastml_kit.backends.base import BuildPlan
from fastml_kit.backends.hls4ml_backend import Hls4mlBackend, plan_program
from fastml_kit.backends.hls4ml_layers import design_of
from fastml_kit.backends.hls4ml_sharing import (
    MAX_STATEMENTS,
    legal_reuse,
    nearest_reuse,
    statements,
)
from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import program as programs
from fastml_kit.graph import reference
from fastml_kit.graph.ir import Program
from fastml_kit.tests import published
from fastml_kit.tests.programs import cnn, inputs, mlp

GRAPH = Path(__file__)  # any file: a plan only hashes it


def plan_of(program: Program, **asked: Any) -> BuildPlan:
    return plan_program(program, GRAPH, BuildRequest(**asked))


def built(program: Program, folder: Path, until: Any = "csim", **asked: Any) -> Any:
    return Hls4mlBackend().build(plan_of(program, **asked), folder, until=until)


def hls4mls_own(inputs_: int, outputs: int) -> list[int]:
    """Return what hls4ml itself holds for valid."""
    from hls4ml.backends import get_backend

    return list(get_backend("Vitis").get_valid_reuse_factors(inputs_, outputs))


@pytest.mark.parametrize("shape", [(64, 72), (72, 8), (8, 72), (12, 1), (1, 12), (30, 42)])
def test_legal_reuse_factors_are_hls4mls_own(shape: tuple[int, int]) -> None:
    dense = {"class_name": "Dense", "weight_data": np.ones(shape)}
    assert legal_reuse(dense, stream=False) == hls4mls_own(*shape)
    conv = {"class_name": "Conv2D", "weight_data": np.ones((1, 1, *shape))}
    assert legal_reuse(conv, stream=True) == hls4mls_own(*shape)
    assert legal_reuse(conv, stream=False) == [n for n in hls4mls_own(*shape) if n <= shape[0]]


def test_of_two_that_are_as_near_the_smaller_is_taken() -> None:
    assert [nearest_reuse([1, 2, 4, 8], asked) for asked in (1, 3, 6, 7, 100)] == [1, 2, 4, 8, 8]


def test_every_layer_has_its_own_reuse_strategy_and_types(tmp_path: Path) -> None:
    layers = {
        "dense0": {"reuse": 10},
        "dense1": {"reuse": 3, "strategy": "latency"},
        "act0": {"types": {"result": "ufixed<4,2,RND_CONV,SAT>"}},
    }
    program = mlp((5, 4, 3))
    result = built(program, tmp_path, "estimate", layers=layers)
    facts = {layer.name: layer for layer in result.interface["layers"]}
    assert (facts["dense0"].reuse_factor, facts["dense0"].strategy) == (10, "resource")
    assert (facts["dense1"].reuse_factor, facts["dense1"].strategy) == (3, "latency")
    assert facts["dense0"].multipliers == 2
    assert facts["act0"].result == "ufixed<4,2,RND_CONV,SAT,0>"


@pytest.mark.slow
@pytest.mark.parametrize("merge", [False, True])
def test_sharing_and_merging_change_no_code(merge: bool, tmp_path: Path) -> None:
    """Every way to loop: fewer than the window's elements at a time, more, and none."""
    program = cnn(filters=6)
    layers = {
        "conv": {"reuse": 18 * 3, "fifo": 7},
        "dense": {"reuse": 2, "strategy": "latency"},
        "pool": {"fifo": 3},
    }
    result = built(program, tmp_path, io_type="io_stream", layers=layers, merge_activations=merge)
    facts = {layer.name: layer for layer in result.interface["layers"]}
    assert facts["conv"].fifo == 7
    assert facts["conv"].reuse_factor == 54
    assert ("relu" in facts) == (not merge)
    assert "depth=7" in (tmp_path / "firmware" / "model.cpp").read_text()
    values = inputs(program, 200)
    want = reference.run(program, values)
    assert len(np.unique(want)) > 50
    np.testing.assert_array_equal(result.predict(values), want)


@pytest.mark.parametrize("stream", [False, True])
def test_a_merged_relu_rounds_and_saturates_as_its_quant_does(stream: bool, tmp_path: Path) -> None:
    program = mlp((6, 5, 4, 3), hidden=FixedSpec(3, 1, signed=False), bits=5)
    io_type = "io_stream" if stream else "io_parallel"
    result = built(program, tmp_path, io_type=io_type, merge_activations=True)
    kinds = [layer.kind for layer in result.interface["layers"]]
    assert kinds == ["Dense"] * 3
    values = inputs(program, 500)
    want = reference.run(program, values)
    assert len(np.unique(want)) > 20
    np.testing.assert_array_equal(result.predict(values), want)


def test_narrow_sums_stay_narrow_in_a_layer_that_took_in_its_activation() -> None:
    plan = plan_of(mlp((5, 4, 3)), merge_activations=True, accumulator="fixed<6,3>")
    layers = json.loads(plan.files["hls4ml_config.json"])["LayerName"]
    assert layers["dense0"]["Precision"]["accum"] == "fixed<6,3>"
    assert layers["dense0"]["Precision"]["result"] == "ufixed<4,2,RND_CONV,SAT>"
    assert layers["dense1"]["Precision"]["result"] == "fixed<6,3>"


def test_what_only_moves_keeps_the_type_that_it_is_given(tmp_path: Path) -> None:
    wide = {"relu": {"types": {"result": "ufixed<7,3,RND_CONV,SAT>"}}}
    plan = plan_of(cnn(), io_type="io_stream", layers=wide)
    result = Hls4mlBackend().build(plan, tmp_path, until="estimate")
    facts = {layer.name: layer.result for layer in result.interface["layers"]}
    assert facts["relu"] == facts["pool"] == "ufixed<7,3,RND_CONV,SAT,0>"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"layers": {"dens0": {"reuse": 2}}}, "no layer in hls4ml's design 'dens0'.*'dense0'"),
        ({"layers": {"dense0": {"reuze": 2}}}, "no knob for layer 'dense0' 'reuze'.*'reuse'"),
        (
            {"layers": {"dense0": {"reuse": 3}}},
            r"'dense0': reuse=3 does not share its 5 x 4 weights evenly; it takes 1, 5, 10, 20",
        ),
        (
            {"layers": {"dense0": {"reuse": 21, "strategy": "latency"}}},
            "'dense0': reuse=21; with strategy latency, 1 to 20",
        ),
        ({"layers": {"dense0": {"strategy": "fast"}}}, "no strategy for layer 'dense0' 'fast'"),
        ({"layers": {"dense0": {"reuse": True}}}, "reuse=True"),
        ({"layers": {"act0": {"reuse": 2}}}, "layer 'act0' has no weights"),
        ({"layers": {"dense0": {"fifo": 2}}}, "'dense0': fifo=2; .*in io_stream only"),
        (
            {"io_type": "io_stream", "layers": {"dense0": {"fifo": 0}}}, "'dense0': fifo=0; words",
        ),
        (
            {"layers": {"dense0": {"types": {"sum": "fixed<8,4>"}}}},
            "no type in layer 'dense0' 'sum'",
        ),
        (
            {"layers": {"dense0": {"types": {"accum": "int8"}}}},
            "layer 'dense0': accum='int8'; a format such as",
        ),
        ({"reuse_factor": 0}, "reuse_factor=0; at least 1"),
        ({"most_multiplications": 0}, "most_multiplications=0; at least 1"),
        ({"io_type": "io_serial"}, "no io_type 'io_serial'"),
    ],
)  # fmt: skip
def test_what_a_layer_cannot_do_is_refused_with_what_it_can(
    asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        plan_of(mlp((5, 4, 3)), **asked)


def test_a_port_has_no_queue(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="'dense1' has no queue behind it"):
        built(mlp(), tmp_path, "estimate", io_type="io_stream", layers={"dense1": {"fifo": 2}})


def test_a_cnn_too_large_to_unroll_is_refused_at_once(tmp_path: Path) -> None:
    read = programs.read(published.rn07(tmp_path / "m.onnx"))
    count = statements(design_of(read, stream=False))
    positions = ((32, 3), (32, 512), (32, 64), (8, 512), (8, 512))
    assert count == sum(side * side * window for side, window in positions) > MAX_STATEMENTS
    with pytest.raises(UnsupportedModel, match=rf'{count:,} statements.*io_type="io_stream"'):
        plan_of(read)
    assert plan_of(read, io_type="io_stream").files


def test_products_that_would_not_fit_the_stack_are_refused() -> None:
    program = mlp((1024, 513, 2))
    with pytest.raises(UnsupportedModel, match=r"'dense0' would keep 525,312 products.*reuse"):
        plan_of(program)
    assert plan_of(program, layers={"dense0": {"reuse": 2}}).files
    assert prod((1024, 513)) == 525_312
