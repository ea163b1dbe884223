"""The da4ml backend: exact rounding, exact networks, honest refusals, a plan that is pure."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastml_kit import backends
from fastml_kit.backends import da4ml_trace
from fastml_kit.backends.base import BuildPlan, BuildRequest
from fastml_kit.backends.da4ml_backend import Da4mlBackend, plan_program
from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec, Rounding
from fastml_kit.graph import host, reference
from fastml_kit.graph.program import Constant, Node, Program
from fastml_kit.tests.programs import cnn, inputs, mlp, programs, quant, specs

GRAPH = Path(__file__)  # any file: a plan only hashes it


def plan_of(program: Program, **request: Any) -> BuildPlan:
    return plan_program(program, GRAPH, BuildRequest(**request))


def every_code(spec: FixedSpec) -> np.ndarray:
    return np.arange(spec.low, spec.high + 1)


def circuit_codes(source: FixedSpec, to: FixedSpec, rounding: str, weight: int = 1) -> np.ndarray:
    """Return what one Quant's circuit makes of `weight` times every code of `source`."""
    program = Program(
        nodes=(
            quant("in", "x", "t", source),
            Node("MatMul", "times", ("t", "w"), "m", {}),
            quant("out", "m", "y", to, rounding),
        ),
        constants={"w": Constant(np.array([[weight]]), 0)},
        input="x",
        input_shape=(1,),
        output="y",
        output_shape=(1,),
    )
    values = source.to_values(every_code(source))
    return to.to_codes(da4ml_trace.trace(program).predict(values[:, None])[:, 0])


@pytest.mark.parametrize("rounding", get_args(Rounding))
@pytest.mark.parametrize("weight", [1, -1, 3, -5])
@settings(max_examples=40, deadline=None)
@given(source=specs, to=specs, narrow=st.booleans())
def test_every_code_of_a_small_format_is_requantized_exactly(
    rounding: Rounding, weight: int, source: FixedSpec, to: FixedSpec, narrow: bool
) -> None:
    to = replace(to, narrow=narrow)
    want = to.requantize(weight * every_code(source), source.frac, rounding)
    np.testing.assert_array_equal(circuit_codes(source, to, rounding, weight), want)


def test_ties_go_to_even_where_da4ml_alone_would_round_them_up() -> None:
    source, to = FixedSpec(6, 4), FixedSpec(6, 6)  # quarters to whole numbers
    ties = (every_code(source) & 3) == 2
    even, up = (circuit_codes(source, to, rounding) for rounding in ("ROUND", "HALF_CEIL"))
    assert (even[ties] % 2 == 0).all()
    assert (up[ties] % 2 != 0).any()
    np.testing.assert_array_equal(even[~ties], up[~ties])


def test_a_quant_that_drops_nothing_costs_nothing() -> None:
    program = replace(mlp((3, 2)), output="t0", output_shape=(3,))
    wide = quant("out", "t0", "y", FixedSpec(9, 3))
    program = replace(program, nodes=(program.nodes[0], wide), output="y")
    assert da4ml_trace.trace(program).cost == 0


@settings(max_examples=40, deadline=None)
@given(program=programs)
# A hidden value that is constant, and one that lies within one LSB below zero.
@example(mlp((5, 1, 2, 1), x=FixedSpec(2, 0, False), hidden=FixedSpec(2, 0, False)))
@example(mlp((2, 2, 1), x=FixedSpec(2, 0, False), hidden=FixedSpec(2, 1), bits=3, seed=1))
def test_random_networks_give_the_reference_engines_codes(program: Program) -> None:
    values = inputs(program, samples=50)
    want = reference.run(program, values)
    try:
        predict = plan_of(program).facts["predict"]
    except UnsupportedModel:  # right where every weight or activation happens to be dead
        assert (want == want[0]).all()
    else:
        np.testing.assert_array_equal(predict(values), want)


def test_inputs_off_the_grid_are_quantized_as_the_graph_does() -> None:
    program = mlp()
    values = np.random.default_rng(1).integers(-(2**23), 2**26, (200, 5)) / 2**24
    values[0] = 1 / 32  # a tie
    np.testing.assert_array_equal(
        plan_of(program).facts["predict"](values), reference.run(program, values)
    )


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(BadRequest, match=r"shape \(4,\), the graph wants \(5,\)"):
        plan_of(mlp()).facts["predict"](np.zeros((2, 4)))


def test_planning_writes_nothing_and_building_writes_what_was_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = plan_of(mlp(), name="tiny")
    assert not list(tmp_path.iterdir())
    result = Da4mlBackend().build(plan, tmp_path / "out", until="rtl")
    written = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    assert written == set(plan.files)
    assert result.top == "tiny_top"
    assert {p.suffix for p in result.sources} == {".v"}
    assert json.loads((tmp_path / "out/rtl/interface.json").read_text()) == result.interface


@pytest.mark.parametrize(
    ("until", "predicts", "sources"),
    [("estimate", False, False), ("csim", True, False), ("rtl", True, True)],
)
def test_a_build_goes_as_far_as_asked(
    tmp_path: Path, until: Any, predicts: bool, sources: bool
) -> None:
    result = Da4mlBackend().build(plan_of(mlp()), tmp_path, until=until)
    assert result.stage == until
    assert (result.predict is not None, bool(result.sources)) == (predicts, sources)
    assert any(tmp_path.iterdir()) == sources
    (cost,) = result.costs
    assert cost.source == "estimate"
    assert cost.lut and cost.ff and cost.interval_cycles == 1


def test_the_same_graph_gives_the_same_digest_in_every_process() -> None:
    program = "from fastml_kit.tests.test_da4ml_backend import *; print(plan_of(cnn()).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in "12"
    }
    assert digests == {plan_of(cnn()).digest}


def test_a_smaller_latency_cutoff_gives_more_pipeline_stages() -> None:
    latencies = [
        plan_of(mlp(), latency_cutoff=cutoff).facts["cost"].latency_cycles for cutoff in (1, 3, 99)
    ]
    assert latencies[0] > latencies[1] > latencies[2] == 2  # a register before and one after


def test_an_input_that_nothing_reads_has_no_bits_in_the_word() -> None:
    program = mlp()
    dead = program.constants["w0"].codes.copy()
    dead[1] = 0
    program = replace(program, constants={**program.constants, "w0": Constant(dead, 3)})
    word = plan_of(program).facts["interface"]["input"]
    assert word["width"] == [5, 0, 5, 5, 5]
    assert word["offset"] == [0, 5, 5, 10, 15]
    assert word["bits"] == 20


def test_a_network_without_any_live_weight_is_refused() -> None:
    program = mlp((3, 2))
    dead = {**program.constants, "w0": Constant(np.zeros((3, 2), dtype=np.int64), 3)}
    with pytest.raises(UnsupportedModel, match="depends on no input"):
        plan_of(replace(program, constants=dead))


def test_a_node_without_an_exact_form_is_refused_by_name() -> None:
    program = mlp()
    softmax = Node("Softmax", "the_softmax", (program.output,), "z", {})
    program = replace(program, nodes=(*program.nodes, softmax), output="z")
    with pytest.raises(UnsupportedModel, match=r"Softmax 'the_softmax'.*MatMul"):
        da4ml_trace.trace(program)


def test_an_input_that_bypasses_its_quant_is_refused() -> None:
    program = mlp()
    again = quant("again", "x", "z", FixedSpec(3, 1))
    with pytest.raises(UnsupportedModel, match="one Quant; it goes into Quant 'in', Quant 'again'"):
        host.input_quant(replace(program, nodes=(*program.nodes, again)))


def test_a_design_that_would_take_hours_is_refused_with_its_size_unless_asked_for() -> None:
    program = mlp((5, 4, 3))
    layers = [int(np.count_nonzero(program.constants[w].codes)) for w in ("w0", "w1")]
    size = da4ml_trace.multiplications(program, sum(layers))
    assert size == sum(layers)
    told = rf"{size} mul.*, {layers[0]} of them in MatMul 'dense0'; at most {size - 1} are.*raise"
    with pytest.raises(UnsupportedModel, match=told):
        plan_of(program, most_multiplications=size - 1)
    assert plan_of(program, most_multiplications=size).facts["multiplications"] == size


def test_a_convolution_counts_its_weights_at_every_position() -> None:
    program = cnn(stride=2)
    live = {w: np.count_nonzero(program.constants[w].codes) for w in ("w0", "w1")}
    assert da4ml_trace.multiplications(program, 10**6) == 3 * 4 * live["w0"] + live["w1"]


def test_weights_that_the_solver_would_round_are_refused() -> None:
    program = mlp((2, 1))
    wide = {**program.constants, "w0": Constant(np.array([[2**24 + 1], [1]]), 3)}
    with pytest.raises(UnsupportedModel, match="more than 24 bits"):
        plan_of(replace(program, constants=wide))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"name": "2fast"}, "name='2fast'"),
        ({"name": "a b"}, "name='a b'"),
        ({"latency_cutoff": 0.5}, "latency_cutoff=0.5"),
        ({"latency_cutoff": float("nan")}, "latency_cutoff=nan"),
    ],
)
def test_a_wrong_request_is_refused(request_: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        plan_of(mlp(), **request_)


def test_the_backend_is_found_by_name() -> None:
    assert isinstance(backends.get("da4ml"), Da4mlBackend)
