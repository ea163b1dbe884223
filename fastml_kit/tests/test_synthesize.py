"""Synthesis: cells are counted by rule; the netlist equals the design, or is found not to."""

import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from fastml_kit import tools
from fastml_kit.backends.base import BuildRequest, BuildResult, Cost
from fastml_kit.backends.da4ml_backend import Da4mlBackend, plan_program
from fastml_kit.errors import BadRequest, BuildFailed, ToolNotFound
from fastml_kit.graph import reference
from fastml_kit.graph.program import Program
from fastml_kit.rtl import simulate, synthesize
from fastml_kit.tests.programs import inputs, mlp

Design = tuple[Program, BuildResult]


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> Design:
    program = mlp((4, 4, 2))
    plan = plan_program(program, Path(__file__), BuildRequest())
    return program, Da4mlBackend().build(plan, tmp_path_factory.mktemp("design"), until="rtl")


@pytest.fixture(scope="module")
def mapped(
    design: Design, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, synthesize.Synthesis]:
    """The small design, synthesized for each target."""
    _, built = design
    return {
        target: synthesize.synthesize(
            built.sources, built.top, target, tmp_path_factory.mktemp(target)
        )
        for target in synthesize.TARGETS
    }


def answers(netlist: Path, design: Design, folder: Path) -> simulate.Simulation:
    program, built = design
    values = inputs(program, samples=500)
    return simulate.simulate([netlist], built.top, built.interface, values, folder)


@pytest.mark.parametrize("target", ["xc7", "ecp5"])
def test_the_netlist_gives_the_reference_engines_codes(
    design: Design, mapped: dict[str, synthesize.Synthesis], target: str, tmp_path: Path
) -> None:
    program, built = design
    ran = answers(mapped[target].netlist, design, tmp_path)
    np.testing.assert_array_equal(ran.values, reference.run(program, inputs(program, 500)))
    assert ran.latency_cycles == built.interface["latency_cycles"]
    assert ran.interval_cycles == 1


def test_one_flipped_bit_in_one_lut_is_found(
    design: Design, mapped: dict[str, synthesize.Synthesis], tmp_path: Path
) -> None:
    program, built = design
    text = mapped["xc7"].structure.read_text()
    lut = re.search(r"LUT2 #\(\s*\.INIT\(4'h(\w)\)", text)
    assert lut, "the design has no two-input LUT to break"
    broken = tmp_path / "broken.v"
    flipped = f"{int(lut[1], 16) ^ 0b0001:x}"
    broken.write_text(text[: lut.start(1)] + flipped + text[lut.end(1) :])
    netlist, _ = synthesize.expand(broken, built.top, "xc7", tmp_path)
    ran = answers(netlist, design, tmp_path)
    assert (ran.values != reference.run(program, inputs(program, 500))).any()


@pytest.mark.parametrize("target", ["xc7", "ecp5"])
def test_every_cell_is_counted_and_kept(
    mapped: dict[str, synthesize.Synthesis], target: str
) -> None:
    result = mapped[target]
    assert result.cost == synthesize.count(result.cells, target)
    assert result.cost.lut and result.cost.ff
    text = result.structure.read_text()
    for cell, number in result.cells.items():
        assert len(re.findall(rf"^  {cell} ", text, re.M)) == number


def test_the_estimate_is_near_what_synthesis_counts(
    design: Design, mapped: dict[str, synthesize.Synthesis]
) -> None:
    _, built = design
    estimate, counted = built.costs[0], mapped["xc7"].cost
    assert estimate.lut and counted.lut and estimate.ff and counted.ff
    assert 0.7 < estimate.lut / counted.lut < 1.4
    # da4ml does not know of the valid line, and yosys drops registers that hold no information.
    assert abs(estimate.ff - counted.ff) <= 0.1 * estimate.ff + built.interface["latency_cycles"]


def test_a_script_can_be_run_again_by_hand(
    mapped: dict[str, synthesize.Synthesis], tmp_path: Path
) -> None:
    result = mapped["xc7"]
    again = shutil.copy(result.script, tmp_path)
    run_yosys(Path(again))
    assert (tmp_path / "structure.v").read_bytes() == result.structure.read_bytes()


@pytest.mark.parametrize(
    ("target", "cells", "cost"),
    [
        (
            "xc7",
            {"LUT6": 5, "INV": 1, "RAM64M": 2, "FDRE": 7, "CARRY4": 9, "RAMB18E1": 3, "DSP48E1": 1},
            Cost("yosys", lut=14, ff=7, dsp=1, bram36=1.5),
        ),
        (
            "ecp5",
            {"LUT4": 5, "CCU2C": 3, "TRELLIS_FF": 4, "DP16KD": 1, "MULT18X18D": 2, "PFUMX": 8},
            Cost("yosys", lut=11, ff=4, dsp=2, bram36=0.5),
        ),
    ],
)
def test_cells_add_up_by_the_stated_rules(target: str, cells: dict[str, int], cost: Cost) -> None:
    assert synthesize.count(cells, target) == cost


def test_a_cell_in_no_table_is_named_instead_of_left_out() -> None:
    with pytest.raises(BuildFailed, match=r"nobody counts: URAM288"):
        synthesize.count({"LUT6": 1, "URAM288": 2}, "xc7")


def test_an_unknown_target_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadRequest, match="Did you mean 'xc7'"):
        synthesize.synthesize([], "top", "xc77", Path("unused"))


def test_a_failing_synthesis_shows_yosyss_words(tmp_path: Path) -> None:
    source = tmp_path / "broken.v"
    source.write_text("module broken (input clk;\n")
    with pytest.raises(BuildFailed, match=r"(?s)ended with status.*syntax error"):
        synthesize.synthesize([source], "broken", "xc7", tmp_path)


def test_an_undriven_output_is_an_error_not_a_zero(tmp_path: Path) -> None:
    source = tmp_path / "loose.v"
    source.write_text("module loose (input a, output b, output c); assign b = ~a; endmodule\n")
    with pytest.raises(BuildFailed, match="used but has no driver"):
        synthesize.synthesize([source], "loose", "xc7", tmp_path)


def test_without_yosys_the_error_says_so(
    design: Design, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        tools.TABLE,
        "pyosys",
        tools.TABLE["pyosys"].__class__(
            "package", (), "cell counts", "install it", dist="no-such-distribution"
        ),
    )
    with pytest.raises(ToolNotFound, match="pyosys"):
        synthesize.synthesize(design[1].sources, design[1].top, "xc7", tmp_path)


@pytest.mark.parametrize(
    ("target", "cell", "pins"),
    [
        *(("xc7", f"LUT{n}", [f"I{i}" for i in range(n)]) for n in range(1, 7)),
        *(("ecp5", f"LUT{n}", list("ABCD"[:n])) for n in (2, 4)),
    ],
)
def test_our_lut_models_equal_yosyss(
    target: str, cell: str, pins: list[str], tmp_path: Path
) -> None:
    """Prove with a SAT solver, over all inputs, that both models of a LUT agree."""
    family, bits = synthesize.TARGETS[target], 2 ** len(pins)
    out = "O" if target == "xc7" else "Z"
    inits = [int.from_bytes(np.random.default_rng(i).bytes(8)) % 2**bits for i in range(4)]
    instances = "".join(
        f"{cell} #(.INIT({bits}'h{init:x})) l{i} (.{out}(y[{i}]), "
        + ", ".join(f".{pin}(x[{p}])" for p, pin in enumerate(pins))
        + ");\n"
        for i, init in enumerate(inits)
    )
    (tmp_path / "luts.v").write_text(
        f"module luts (input [{len(pins) - 1}:0] x, output [3:0] y);\n{instances}endmodule\n"
    )
    ours = files("fastml_kit.rtl") / "hdl" / family.luts
    read = {"ours": f"read_verilog {ours}", "theirs": f"read_verilog -nooverwrite {family.models}"}
    lines = []
    for name, models in read.items():
        lines += [models, "read_verilog luts.v", "hierarchy -top luts", "proc", "flatten"]
        lines += ["opt_clean", f"rename luts {name}", f"design -stash {name}"]
    lines += [f"design -copy-from {name} -as {name} {name}" for name in read]
    lines += ["miter -equiv -flatten ours theirs miter", "sat -verify -prove trigger 0 miter"]
    (tmp_path / "prove.ys").write_text("\n".join(lines) + "\n")
    assert "SAT proof finished - no model found: SUCCESS" in run_yosys(tmp_path / "prove.ys")


def run_yosys(script: Path) -> str:
    program = f"from pyosys import libyosys as y; y.run_pass('script {script.name}', y.Design())"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=script.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
