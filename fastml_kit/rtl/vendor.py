"""AMD's own tools, where they are installed: C synthesis of an hls4ml project.

The scripts here were written from hls4ml 1.3's templates and the parser from public reports of
Vivado HLS 2018.2 and Vitis HLS 2023.1. They were never run against the tools themselves.
"""

import re
from pathlib import Path
from xml.etree import ElementTree

from fastml_kit import tools
from fastml_kit.backends.base import Cost
from fastml_kit.errors import BuildFailed, ToolNotFound
from fastml_kit.rtl.process import run_logged

#: hls4ml's `build_prj.tcl` reads its steps from this file; C simulation was done without Vitis.
STEPS = """\
array set opt {
    reset      1
    csim       0
    synth      1
    cosim      0
    validation 0
    export     0
    vsynth     0
    fifo_opt   0
}
"""


def synthesize_c(project: Path, top: str) -> Cost:
    """Run Vitis HLS's C synthesis on the hls4ml `project` whose top function is `top`.

    Raises:
        ToolNotFound: neither vitis-run nor vitis_hls is here.
        BuildFailed: Vitis failed, or left no complete report.
    """
    command = _vitis()
    (project / "build_opt.tcl").write_text(STEPS, encoding="utf-8")
    log = project / "csynth.log"
    run_logged(command, folder=project, log=log)
    report = project / f"{top}_prj" / "solution1" / "syn" / "report" / f"{top}_csynth.xml"
    if not report.is_file():
        raise BuildFailed(f"Vitis ended well, but wrote no {report}; see {log}")
    return parse_csynth(report)


def parse_csynth(report: Path) -> Cost:
    """Read a `*_csynth.xml` report: an estimate by the HLS compiler, before logic synthesis.

    Latency is the worst case, the interval the longest; what the compiler could not tell
    (a loop without a bound) is None.

    Raises:
        BuildFailed: the file is no report, or was cut short.
    """
    try:
        root = ElementTree.parse(report).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise BuildFailed(f"{report} is no complete csynth report: {error}") from error
    resources = root.find("AreaEstimates/Resources")
    timing = root.find("PerformanceEstimates/SummaryOfOverallLatency")
    if resources is None or timing is None:
        raise BuildFailed(
            f"{report} lacks {'AreaEstimates' if resources is None else 'PerformanceEstimates'}; "
            "the synthesis was cut short. Run it again."
        )
    bram18 = _number(resources, "BRAM_18K")
    dsp = _number(resources, "DSP")
    return Cost(
        source="csynth",
        lut=_number(resources, "LUT"),
        ff=_number(resources, "FF"),
        dsp=_number(resources, "DSP48E") if dsp is None else dsp,  # its name before Vitis
        bram36=None if bram18 is None else bram18 / 2,
        latency_cycles=_number(timing, "Worst-caseLatency"),
        interval_cycles=_number(timing, "Interval-max"),
    )


def _number(parent: ElementTree.Element, tag: str) -> int | None:
    text = (parent.findtext(tag) or "").strip()
    return int(text) if re.fullmatch(r"\d+", text) else None


def _vitis() -> list[str]:
    """Return the command that runs hls4ml's script with whichever Vitis is here."""
    ways = {"vitis-run": ["--mode", "hls", "--tcl"], "vitis_hls": ["-f"]}  # the newer first
    for name, options in ways.items():
        if not tools.find(name).missing:
            return [str(tools.require(name)), *options, "build_prj.tcl"]
    raise ToolNotFound(
        "neither vitis-run nor vitis_hls is on PATH. Source Vitis's settings64.sh, or set "
        f"{tools.override('vitis-run')}; everything down to the netlist works without"
    )
