"""A board's top for Vivado: a folder with all sources and one script, from RTL to bitstream.

The script follows Vivado's flow without a project (AMD UG894), and was never run. What can be
checked without it is: that it is Tcl, what it calls in which order, and that its files are there.
"""

import shutil
from pathlib import Path

from fastml_kit.boards.top import Top
from fastml_kit.errors import BadRequest

SCRIPT = """\
# {title}: {top} from RTL to bitstream, without a project.
#   vivado -mode batch -source build.tcl
# This script was never run here: it was checked against stand-ins for Vivado's commands only.
set here [file normalize [file dirname [info script]]]
set out [file join $here build]
file mkdir $out

foreach name {{{verilog}}} {{ read_verilog [file join $here rtl $name] }}
foreach name {{{system}}} {{ read_verilog -sv [file join $here rtl $name] }}
foreach name {{{data}}} {{ file copy -force [file join $here rtl $name] $name }}
read_xdc [file join $here {top}.xdc]

synth_design -top {top} -part {part}
opt_design
place_design
phys_opt_design
route_design

report_utilization -file [file join $out utilization.rpt]
report_timing_summary -file [file join $out timing.rpt]
report_drc -file [file join $out drc.rpt]

# The slowest path's slack says what clock the design would have reached.
set slack [get_property SLACK [get_timing_paths -max_paths 1 -setup]]
set file [open [file join $out timing.txt] w]
puts $file "period_ns {period:.3f}"
puts $file "wns_ns $slack"
close $file
if {{$slack < 0}} {{ error "the clock of {mhz:g} MHz is missed by [expr {{-$slack}}] ns" }}
write_bitstream -force [file join $out {top}.bit]
"""


def write(top: Top, folder: Path, *, data_files: tuple[Path, ...] = ()) -> Path:
    """Write the design and its script into `folder`; return the script, build.tcl.

    `data_files` are read by the core by name; Vivado finds them in the folder it runs in.

    Raises:
        BadRequest: the board is none of Vivado's, or two files have one name.
    """
    if top.board.family != "xc7":
        raise BadRequest(f"{top.board.name} has a part of family {top.board.family}, not Vivado's")
    rtl = folder / "rtl"
    given = [path.name for path in (*top.core, *data_files)]
    taken = {*top.sources}
    if twice := sorted(name for name in given if given.count(name) > 1 or name in taken):
        raise BadRequest(f"two files of the design are called {twice[0]}; rename one")
    rtl.mkdir(parents=True, exist_ok=True)
    for path in (*top.core, *data_files):
        shutil.copy(path, rtl)
    for name in top.sources:
        (rtl / name).write_text(top.files[name], encoding="utf-8")
    constraints = f"{top.name}.xdc"
    (folder / constraints).write_text(top.files[constraints], encoding="utf-8")
    script = folder / "build.tcl"
    script.write_text(_script(top, [path.name for path in data_files]), encoding="utf-8")
    return script


def _script(top: Top, data: list[str]) -> str:
    names = [path.name for path in top.core] + list(top.sources)
    return SCRIPT.format(
        title=top.board.title,
        top=top.name,
        part=top.board.part,
        verilog=" ".join(name for name in names if not name.endswith(".sv")),
        system=" ".join(name for name in names if name.endswith(".sv")),
        data=" ".join(data),
        period=1000 / top.clock_mhz,
        mhz=top.clock_mhz,
    )
