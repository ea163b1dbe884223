"""Synthesis with yosys: the cells a design takes on an FPGA family, and its netlist to simulate.

What is counted is the whole design as simulated, valid line and reset included, without a
board's shell around it: no pads, no clock buffers. Counts are of cells before placement:

- `lut`: every LUT cell, whatever its number of inputs (a placer may pack two small ones into
  one), every inverter that no LUT absorbed, and the LUTs that distributed RAM, shift registers
  and (on ecp5, where a carry cell is made of two) adders use. xc7's CARRY4 uses none.
- `ff`: flip-flops and latches. `dsp`: multiplier blocks.
- `bram36`: 36 Kb blocks; an 18 Kb block is half of one.

There is no clock rate here: that takes place-and-route.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from fastml_kit import tools
from fastml_kit.backends.base import Cost
from fastml_kit.errors import BuildFailed, unknown_name
from fastml_kit.rtl.process import run_logged


@dataclass(frozen=True)
class Target:
    """An FPGA family: how yosys maps to it, its cells' models, and what each cell uses."""

    command: str
    models: str  # in yosys's own files
    luts: str  # ours, read first, in `rtl/hdl`
    uses: dict[str, dict[str, float]]  # resource -> cell -> how many one cell uses
    free: frozenset[str]  # cells that use none of the counted resources
    named: str  # ours too: the ports of cells that FINN's RTL instantiates by name


TARGETS = {
    "xc7": Target(
        command="synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -abc9",
        models="+/xilinx/cells_sim.v",
        luts="luts_xc7.v",
        uses={
            "lut": {
                **dict.fromkeys(
                    ("INV", "LUT1", "LUT2", "LUT3", "LUT4", "LUT5", "LUT6", "LUT6_2"), 1
                ),
                **dict.fromkeys(("SRL16E", "SRLC32E", "RAM32X1S", "RAM64X1S"), 1),
                **dict.fromkeys(("RAM32X1D", "RAM64X1D", "RAM128X1S"), 2),
                **dict.fromkeys(("RAM32M", "RAM64M", "RAM128X1D", "RAM256X1S"), 4),
            },
            "ff": dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE", "LDCE", "LDPE"), 1),
            "dsp": {"DSP48E1": 1},
            "bram36": {"RAMB36E1": 1, "RAMB18E1": 0.5},
        },
        free=frozenset({"CARRY4", "MUXF7", "MUXF8", "GND", "VCC"}),
        named="cells_xc7.sv",
    ),
    "ecp5": Target(
        command="synth_ecp5",
        models="+/ecp5/cells_sim.v",
        luts="luts_ecp5.v",
        uses={
            "lut": {"LUT4": 1, "INV": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4},
            "ff": {"TRELLIS_FF": 1},
            "dsp": {"MULT18X18D": 1},
            "bram36": {"DP16KD": 0.5, "PDPW16KD": 0.5},
        },
        free=frozenset({"PFUMX", "L6MUX21", "VLO", "VHI", "GND", "VCC"}),
        named="",
    ),
}


#: slang gives every instance a module of its own, called <module>$<path>.
SUFFIX = "$"


@dataclass(frozen=True)
class Synthesis:
    """A design mapped to the cells of one FPGA family."""

    target: str
    cost: Cost
    parts: dict[str, Cost]  # of each module that was kept apart
    cells: dict[str, int]  # cell -> count
    structure: Path  # Verilog netlist of the family's cells
    netlist: Path  # the same with every cell expanded to its function: what to simulate
    script: Path  # run it again: yosys synth.ys, in its folder
    log: Path
    seconds: float


def synthesize(
    sources: Sequence[Path],
    top: str,
    target: str,
    folder: Path,
    *,
    keep: Sequence[str] = (),
    data_files: Sequence[Path] = (),
) -> Synthesis:
    """Map the design to the cells of `target`, "xc7" or "ecp5", in `folder`.

    Modules named in `keep` are not dissolved into what is around them, so that each has a cost of
    its own. `data_files` are read by the design by name, and are copied into `folder`.

    Raises:
        BadRequest: there is no such target.
        BuildFailed: yosys failed, or used a cell that the table above does not count.
        ToolNotFound: the pyosys package is missing.
    """
    family = _target(target)
    folder.mkdir(parents=True, exist_ok=True)
    copy_data(data_files, folder)
    seconds = yosys(
        "synth",
        folder,
        *reading(sources, top, folder, target),
        *(f"setattr -mod -set keep_hierarchy 1 {name}{SUFFIX}*" for name in keep),
        "proc",
        "check -assert",  # an undriven wire would pass for a constant later
        f"{family.command} -top {top}",
        "delete t:$scopeinfo",
        "tee -q -o cells.json stat -json",
        "write_verilog -noattr structure.v",
    )
    report = json.loads((folder / "cells.json").read_text(encoding="utf-8"))
    cells: dict[str, int] = report["design"].get("num_cells_by_type", {})
    modules = {_plain(name): found for name, found in report["modules"].items()}
    parts = {name: count(modules[name].get("num_cells_by_type", {}), target) for name in keep}
    cells = {cell: number for cell, number in cells.items() if _plain(cell) not in keep}
    cost = count(cells, target)
    structure = folder / "structure.v"
    netlist, more_seconds = expand(structure, top, target, folder)
    return Synthesis(
        target=target,
        cost=cost,
        parts=parts,
        cells=dict(sorted(cells.items())),
        structure=structure,
        netlist=netlist,
        script=folder / "synth.ys",
        log=folder / "synth.log",
        seconds=seconds + more_seconds,
    )


def count(cells: dict[str, int], target: str) -> Cost:
    """Add up what `cells` use of each resource, by the rules in this module's head.

    Raises:
        BadRequest: there is no such target.
        BuildFailed: a cell is in no table, so that the sums would be wrong.
    """
    family = _target(target)
    known = family.free.union(*family.uses.values())
    if unknown := sorted(set(cells) - known):
        raise BuildFailed(
            f"the {target} netlist has cells that nobody counts: {', '.join(unknown)}; "
            "add them to fastml_kit.rtl.synthesize.TARGETS"
        )
    used = {
        resource: sum(number * cells.get(cell, 0) for cell, number in table.items())
        for resource, table in family.uses.items()
    }
    return Cost(
        source="yosys",
        lut=int(used["lut"]),
        ff=int(used["ff"]),
        dsp=int(used["dsp"]),
        bram36=used["bram36"],
    )


def expand(structure: Path, top: str, target: str, folder: Path) -> tuple[Path, float]:
    """Replace each cell of the netlist `structure` by its function; return the file and seconds.

    The result has no hierarchy, keeps the design's ports, and is what a simulator wants.

    Raises:
        BadRequest, BuildFailed, ToolNotFound: as `synthesize`.
    """
    family = _target(target)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        luts = stack.enter_context(as_file(files("fastml_kit.rtl") / "hdl" / family.luts))
        seconds = yosys(
            "expand",
            folder,
            f"read_verilog {_quoted([structure])}",
            f"read_verilog {_quoted([luts])}",
            f"read_verilog -nooverwrite {family.models}",
            f"hierarchy -check -top {top}",
            "proc",
            "flatten -noscopeinfo",
            "opt_clean -purge",
            "write_verilog -noattr netlist.v",
        )
    return folder / "netlist.v", seconds


def _target(name: str) -> Target:
    if name not in TARGETS:
        raise unknown_name("synthesis target", name, TARGETS)
    return TARGETS[name]


def _plain(module: str) -> str:
    return module.lstrip("\\").partition(SUFFIX)[0]


def copy_data(data_files: Sequence[Path], folder: Path) -> None:
    """Copy the files that a design reads by name into `folder`."""
    for path in data_files:
        if path.resolve().parent != folder.resolve():
            shutil.copy(path, folder)


def reading(sources: Sequence[Path], top: str, folder: Path, target: str) -> list[str]:
    """Return the passes that read a design: SystemVerilog by slang, plain Verilog by yosys.

    Raises:
        BadRequest: there is no such target.
    """
    family = _target(target)
    if all(path.suffix != ".sv" for path in sources):
        return [f"read_verilog -sv -defer {_quoted(sources)}", f"hierarchy -check -top {top}"]
    # slang takes quoted names from a file only. FINN uses parameters above their declaration, and
    # names some of the family's cells.
    read = [*sources]
    if family.named:
        with as_file(files("fastml_kit.rtl") / "hdl" / family.named) as named:
            read.append(Path(shutil.copy(named, folder)))
    lines = [_quoted([path]) for path in read]
    (folder / "sources.f").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = f"--top {top} --allow-use-before-declare --keep-hierarchy"
    return [
        f"read_slang {options} -f sources.f",
        f"hierarchy -check -top {top}",
        "delete t:$check t:$print",  # assertions are for simulators
    ]


def _quoted(paths: Sequence[Path]) -> str:
    return " ".join(f'"{path.resolve()}"' for path in paths)


def yosys(name: str, folder: Path, *passes: str) -> float:
    """Run `passes` in a process of its own, from the script `name`.ys; return its seconds.

    Raises:
        BuildFailed: a pass failed.
        ToolNotFound: the pyosys package is missing.
    """
    tools.require("pyosys")
    script = folder / f"{name}.ys"
    script.write_text("\n".join(passes) + "\n", encoding="utf-8")
    program = (
        "from pyosys import libyosys as yosys; "
        f"yosys.run_pass('script {script.name}', yosys.Design())"
    )
    return run_logged([sys.executable, "-c", program], folder=folder, log=folder / f"{name}.log")
