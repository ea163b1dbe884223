"""Simulation: packed words come through, answers are exact, latency and interval are measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastml_kit.backends.base import BuildRequest, BuildResult
from fastml_kit.backends.da4ml_backend import Da4mlBackend, plan_program
from fastml_kit.errors import BadRequest, BuildFailed, ToolNotFound
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import reference
from fastml_kit.graph.program import Program
from fastml_kit.rtl import simulate
from fastml_kit.rtl.words import Word
from fastml_kit.tests.programs import cnn, inputs, mlp

#: Adds one to its first element in two cycles; the second says what is wrong with its valid line.
PLUS_ONE = """\
module plus_one (
    input clk, input rst, input valid_in, input [9:0] data_in,
    output valid_out, output reg [7:0] data_out
);
    reg [1:0] valid;
    reg [7:0] sum;
    always @(posedge clk) begin
        valid <= rst ? 2'b0 : {valid[0], valid_in};
        sum <= data_in[7:0] + 1;
        data_out <= sum;
    end
    wire [3:0] choice = {valid[0] | valid[1], 1'b0, valid[0], valid[1]};
    assign valid_out = choice[data_in[9:8]];
endmodule
"""
RIGHT, EARLY, NEVER, TWICE = range(4)
PORTS = {
    "input": {
        "bits": 10,
        "shape": [2],
        "offset": [0, 8],
        "width": [8, 2],
        "frac": [0, 0],
        "signed": [False, False],
    },
    "output": {
        "bits": 8,
        "shape": [1],
        "offset": [0],
        "width": [8],
        "frac": [0],
        "signed": [False],
    },
}


def layout(specs: list[FixedSpec | None]) -> Word:
    widths = [spec.width if spec else 0 for spec in specs]
    return Word(
        bits=sum(widths),
        shape=(len(specs),),
        offset=tuple(np.cumsum([0, *widths[:-1]]).tolist()),
        width=tuple(widths),
        frac=tuple(spec.frac if spec else 0 for spec in specs),
        signed=tuple(bool(spec and spec.signed) for spec in specs),
    )


formats = st.builds(
    FixedSpec, width=st.integers(1, 40), integer=st.integers(-5, 45), signed=st.booleans()
)


@given(
    specs=st.lists(st.none() | formats, min_size=1, max_size=6).filter(any),
    seed=st.integers(0, 2**32 - 1),
)
def test_words_hold_every_value_of_every_format(specs: list[FixedSpec | None], seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = [
        spec.to_values([spec.low, spec.high, *rng.integers(spec.low, spec.high + 1, 5)])
        if spec
        else np.zeros(7)
        for spec in specs
    ]
    values, word = np.stack(columns, axis=1), layout(specs)
    packed = word.pack(values)
    assert packed.shape == (7, word.byte_count)
    np.testing.assert_array_equal(word.unpack(packed), values)


def test_the_first_element_lies_in_the_lowest_bits() -> None:
    word = layout([FixedSpec(4, 4, signed=False), FixedSpec(3, 1), FixedSpec(4, 4)])
    assert word.pack([[9, -0.25, -2]]).tolist() == [[0b0111_1001, 0b0000_0111]]


@pytest.mark.parametrize(
    ("value", "reason"), [(0.3, "off the grid"), (2.0, "too large"), (-0.5, "-")]
)
def test_a_value_that_its_element_cannot_hold_is_refused(value: float, reason: str) -> None:
    word = layout([FixedSpec(3, 1, signed=False)] * 2)
    with pytest.raises(BadRequest, match=rf"element 1 is {value}, which is no ufixed<3,1>"):
        word.pack([[0.0, 0.0], [0.25, value]])


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(BadRequest, match=r"shape \(3,\), the design wants \(2,\)"):
        layout([FixedSpec(3, 1)] * 2).pack(np.zeros((2, 3)))


def built(program: Program, folder: Path, **request: Any) -> BuildResult:
    plan = plan_program(program, Path(__file__), BuildRequest(**request))
    return Da4mlBackend().build(plan, folder, until="rtl")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, BuildResult, Path]:
    """A small MLP with several pipeline stages, and its compiled simulation."""
    folder = tmp_path_factory.mktemp("tiny")
    program = mlp((6, 5, 3))
    design = built(program, folder, latency_cutoff=2)
    binary, _ = simulate.build(design.sources, design.top, folder / "sim")
    return program, design, binary


@pytest.mark.parametrize("gap", [0.0, 0.2, 0.9])
def test_rtl_is_exact_with_and_without_gaps_between_the_samples(
    tiny: tuple[Program, BuildResult, Path], gap: float
) -> None:
    program, design, binary = tiny
    values = inputs(program, samples=300)
    ran = simulate.run(binary, design.interface, values, binary.parent, gap=gap, seed=5)
    np.testing.assert_array_equal(ran.values, reference.run(program, values))
    assert (
        ran.latency_cycles == design.interface["latency_cycles"] == design.costs[0].latency_cycles
    )
    assert ran.interval_cycles == 1
    assert ran.cycles >= 300 / (1 - gap) * 0.8


def test_a_single_sample_has_a_latency_but_no_interval(
    tiny: tuple[Program, BuildResult, Path],
) -> None:
    program, design, binary = tiny
    ran = simulate.run(binary, design.interface, inputs(program, 1), binary.parent)
    assert ran.latency_cycles == design.interface["latency_cycles"]
    assert ran.interval_cycles is None


@pytest.mark.parametrize("gap", [-0.1, 1.0])
def test_a_gap_that_never_ends_is_refused(
    tiny: tuple[Program, BuildResult, Path], gap: float
) -> None:
    program, design, binary = tiny
    with pytest.raises(BadRequest, match="gap="):
        simulate.run(binary, design.interface, inputs(program, 1), binary.parent, gap=gap)


def test_no_samples_are_refused(tiny: tuple[Program, BuildResult, Path]) -> None:
    _, design, binary = tiny
    with pytest.raises(BadRequest, match="no values"):
        simulate.run(binary, design.interface, np.zeros((0, 6)), binary.parent)


def test_a_convolutional_network_is_exact_in_rtl(tmp_path: Path) -> None:
    program = cnn(filters=2, group=2)
    design, values = built(program, tmp_path), inputs(program, samples=100)
    ran = simulate.simulate(
        design.sources, design.top, design.interface, values, tmp_path / "sim", optimize=True
    )
    np.testing.assert_array_equal(ran.values, reference.run(program, values))
    assert ran.seconds_build > ran.seconds_run > 0


@pytest.fixture(scope="module")
def plus_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plus_one")
    source = folder / "plus_one.v"
    source.write_text(PLUS_ONE)
    return simulate.build([source], "plus_one", folder)[0]


def ask(binary: Path, fault: int) -> tuple[np.ndarray, simulate.Simulation]:
    """Return what plus_one should answer, and what it did, to 200 samples with gaps."""
    values = np.full((200, 2), fault)
    values[:, 0] = np.random.default_rng(0).integers(0, 255, 200)
    return values[:, :1] + 1, simulate.run(binary, PORTS, values, binary.parent, gap=0.5)


def test_a_build_leaves_the_program_and_its_log_only(plus_one: Path) -> None:
    assert {path.name for path in plus_one.parent.iterdir()} >= {"simulator", "verilator.log"}
    assert not list(plus_one.parent.rglob("*.o"))


def test_a_hand_written_design_is_simulated_like_a_generated_one(plus_one: Path) -> None:
    want, ran = ask(plus_one, RIGHT)
    np.testing.assert_array_equal(ran.values, want)
    assert ran.latency_cycles == 2


def test_an_answer_marked_valid_a_cycle_early_is_seen_as_wrong(plus_one: Path) -> None:
    want, ran = ask(plus_one, EARLY)
    assert np.count_nonzero(ran.values != want) > 100


@pytest.mark.parametrize(("fault", "answers"), [(NEVER, "0 answers"), (TWICE, r"\d+ answers")])
def test_missing_and_surplus_answers_are_failures(plus_one: Path, fault: int, answers: str) -> None:
    with pytest.raises(BuildFailed, match=rf"gave {answers} to 200 samples.*valid_out"):
        ask(plus_one, fault)


def test_verilog_that_does_not_parse_fails_with_verilators_words(tmp_path: Path) -> None:
    source = tmp_path / "broken.v"
    source.write_text("module broken (input clk;\n")
    with pytest.raises(BuildFailed, match=r"(?s)verilator_bin ended with status 1.*syntax error"):
        simulate.build([source], "broken", tmp_path / "sim")


def test_without_a_compiler_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolNotFound, match=r"g\+\+"):
        simulate.build([tmp_path / "any.v"], "any", tmp_path / "sim")


def test_bad_values_are_refused_before_the_long_build(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"element 0 is 0\.5"):
        simulate.simulate([], "plus_one", PORTS, [[0.5, RIGHT]], tmp_path / "sim")
    assert not (tmp_path / "sim").exists()
