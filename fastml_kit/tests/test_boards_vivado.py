"""The script for Vivado: what it calls, in which order and on which files, without Vivado."""

from pathlib import Path

import pytest

from fastml_kit.boards import table, vivado
from fastml_kit.boards.top import uart_top
from fastml_kit.errors import BadRequest
from fastml_kit.tests import boardbench, programs

#: Stand-ins that write down how they were called.
STANDINS = """\
set calls {}
foreach command {
    read_verilog read_xdc synth_design opt_design place_design phys_opt_design route_design
    report_utilization report_timing_summary report_drc get_timing_paths write_bitstream
} {
    proc $command args "lappend ::calls \\[list $command {*}\\$args\\]; return $command"
}
proc get_property {name object} { return $::slack }
"""


def run(script: Path, slack: float) -> list[tuple[str, ...]]:
    """Source the script with stand-ins for Vivado's commands; return the calls."""
    tkinter = pytest.importorskip("tkinter", reason="needs Python's Tcl")
    tcl = tkinter.Tcl()
    tcl.eval(STANDINS)
    tcl.setvar("slack", slack)
    try:
        tcl.call("source", str(script))
    finally:
        calls = [tcl.splitlist(call) for call in tcl.splitlist(tcl.getvar("calls"))]
    return calls


@pytest.fixture
def script(tmp_path: Path) -> Path:
    top = boardbench.da4ml_top(table.get("arty-a7-100t"), programs.mlp((4, 3)), tmp_path)
    return vivado.write(top, tmp_path / "a folder")


def test_the_script_goes_from_rtl_to_bitstream(script: Path) -> None:
    calls = run(script, 0.25)
    steps = [call[0] for call in calls if call[0] not in ("read_verilog", "read_xdc")]
    assert steps == [
        "synth_design", "opt_design", "place_design", "phys_opt_design", "route_design",
        "report_utilization", "report_timing_summary", "report_drc", "get_timing_paths",
        "write_bitstream",
    ]  # fmt: skip
    (synthesis,) = (call for call in calls if call[0] == "synth_design")
    assert synthesis[1:] == ("-top", "arty_a7_100t_top", "-part", "xc7a100tcsg324-1")
    read = [call for call in calls if call[0] in ("read_verilog", "read_xdc")]
    assert {Path(str(call[-1])) for call in read} == {
        *(script.parent / "rtl").iterdir(),
        script.parent / "arty_a7_100t_top.xdc",
    }
    for call in read:
        assert (call[1] == "-sv") == str(call[-1]).endswith(".sv")
    told = (script.parent / "build" / "timing.txt").read_text()
    assert told == "period_ns 10.000\nwns_ns 0.25\n"


def test_a_clock_that_is_missed_ends_without_a_bitstream(script: Path) -> None:
    tkinter = pytest.importorskip("tkinter", reason="needs Python's Tcl")
    with pytest.raises(tkinter.TclError, match=r"100 MHz is missed by 0\.5 ns"):
        run(script, -0.5)


def test_every_constraint_is_tcl_that_names_a_port(script: Path) -> None:
    tkinter = pytest.importorskip("tkinter", reason="needs Python's Tcl")
    tcl = tkinter.Tcl()
    tcl.eval("set ports {}; proc get_ports names { lappend ::ports {*}$names; return $names }")
    for command in ("set_property", "create_clock", "set_false_path"):
        tcl.eval(f"proc {command} args {{}}")
    tcl.call("source", str(script.parent / "arty_a7_100t_top.xdc"))
    named = set(tcl.splitlist(tcl.getvar("ports")))
    assert named == {"clk", "rx", "tx", "led[0]", "led[1]", "led[2]"}


def test_what_vivado_cannot_build_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sums.v").write_text(boardbench.CORE)
    top = uart_top(table.get("ulx3s-85f"), [tmp_path / "sums.v"], boardbench.INTERFACE)
    with pytest.raises(BadRequest, match="ulx3s-85f has a part of family ecp5"):
        vivado.write(top, tmp_path / "out")
    (tmp_path / "kit_batch.v").write_text(boardbench.CORE)
    top = uart_top(table.get("arty-a7-100t"), [tmp_path / "kit_batch.v"], boardbench.INTERFACE)
    with pytest.raises(BadRequest, match=r"two files of the design are called kit_batch\.v"):
        vivado.write(top, tmp_path / "out")
