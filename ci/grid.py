"""Run the flow at several points of its parameters, as a user would, and judge the records.

Every point goes through the command line in a fresh runs folder, one of them with a graph as a user
would bring it; then three notebooks go through bare papermill, which must leave the same records.
Executed notebooks are left in ``build/site-notebooks/<point>/``, from which the site is made, so a
page shows what was tested.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from fastml_kit import example
from fastml_kit.flow import FLOW, IMPORT_FLOW, Flow

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "build" / "grid-runs"
PAGES = ROOT / "build" / "site-notebooks"

EXAMPLE = ROOT / "build" / "grid-example"

SAMPLES = 1797  # the whole digits set
ENGINES = frozenset({"qonnx", "reference", "fast", "csim", "da4ml", "rtl", "netlist"})
#: What FINN's way adds to them.
FINN_ENGINES = frozenset({"dataflow", "finn_rtl", "finn_netlist"})
RERUN_S = 5.0


@dataclass(frozen=True)
class Point:
    """One run of the flow: its arguments, and the quality below which something is broken."""

    name: str
    arguments: tuple[str, ...]
    quality: float
    targets: frozenset[str] = frozenset({"xc7"})
    flow: Flow = FLOW
    metric: str = "quality.qat"
    samples: int = SAMPLES
    engines: frozenset[str] = ENGINES


def values(**parameters: object) -> tuple[str, ...]:
    """Return `parameters` as the command line takes them."""
    return tuple(word for name, value in parameters.items() for word in ("-p", name, str(value)))


POINTS = (
    # The whole promise: both ways into hardware, both FPGA families, and the median of three seeds
    # at the task's target.
    Point(
        "default",
        ("digits", "--profile", "full", "--flow", "both"),
        quality=0.97,
        targets=frozenset({"xc7", "ecp5"}),
        engines=ENGINES | FINN_ENGINES,
    ),
    Point("cnn", ("digits", *values(model="cnn")), quality=0.95),
    # Nothing round: odd widths, unlike bits, deep pipelining, shared multipliers.
    Point(
        "odd",
        (
            "digits",
            *values(width=13, weight_bits=3, act_bits=5, seed=7, reuse_factor=3, latency_cutoff=2),
        ),
        quality=0.90,
    ),
    # A graph that was not made here, with floats in front, inside and behind; see `example`.
    Point(
        "brought",
        (
            *("--model", str(EXAMPLE / "model.onnx")),
            *("--data", str(EXAMPLE / "data.npy")),
            *("--labels", str(EXAMPLE / "labels.npy")),
        ),
        quality=0.85,
        flow=IMPORT_FLOW,
        metric="quality.accuracy",
        samples=359,
        engines=ENGINES - {"reference"},  # it is what the others are compared with
    ),
)


def main() -> int:
    """Run the grid; return 1 if anything is not as it must be."""
    for folder in (RUNS, PAGES, EXAMPLE):
        shutil.rmtree(folder, ignore_errors=True)
    EXAMPLE.mkdir(parents=True)
    example.write(EXAMPLE)
    os.environ["FASTML_RUNS_DIR"] = str(RUNS)
    faults: list[str] = []
    for point in POINTS:
        start = time.monotonic()
        found = run(point)
        seconds = time.monotonic() - start
        print(f"grid: {point.name}: {seconds:.0f} s, {len(found)} faults", flush=True)
        faults += [f"{point.name}: {fault}" for fault in found]
    faults += rerun(POINTS[0]) + bare_papermill()
    print("\n".join(f"grid: FAULT {fault}" for fault in faults) or "grid: all points are good")
    return 1 if faults else 0


def run(point: Point) -> list[str]:
    """Run one point, keep its notebooks for the site, and return what is wrong with it."""
    code = fastml("run", *point.arguments)
    if code != 0:
        return [f"fastml run ended with {code}"]
    report = latest()
    found = judge(report, point)
    for spec in (point.flow.stage(stage["name"]) for stage in report["stages"]):
        page = PAGES / point.name / f"{spec.notebook}.ipynb"
        page.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(RUNS / report["run"] / spec.name / "notebook.ipynb", page)
        found += unfinished(page)
    return found


def judge(report: dict[str, Any], point: Point) -> list[str]:
    """Return what the records of a run say against it."""
    stages = {stage["name"]: stage["status"] for stage in report["stages"]}
    bad = [f"{name} is {status}" for name, status in stages.items() if status != "ok"]
    found: dict[str, list[Any]] = {}
    for record in report["records"]:
        found.setdefault(record["name"], []).append(record["value"])
    for engine in sorted(point.engines):
        for name, wanted in (("samples", point.samples), ("mismatches", 0)):
            got = found.get(f"verify.{engine}.{name}", [])
            if not got or any(value != wanted for value in got):
                bad.append(f"verify.{engine}.{name} is {got or 'missing'}, not {wanted}")
    counted = {"netlist": "da4ml", "finn_netlist": "finn"}  # the rung, and its circuit's costs
    names = [f"verify.{engine}.mismatches" for engine in counted if engine in point.engines]
    names += [f"cost.{flow}.dsp" for engine, flow in counted.items() if engine in point.engines]
    for name in names:
        targets = {
            record["target"]
            for record in report["records"]
            if record["name"] == name and record["source"] != "estimate"  # made for no target
        }
        if targets != point.targets:
            there = sorted(map(str, targets))
            bad.append(f"{name} is there for {there}, not {sorted(point.targets)}")
    name = "quality.qat_median" if "quality.qat_median" in found else point.metric
    quality = found.get(name, [0.0])
    if min(quality) < point.quality:
        bad.append(f"{name} is {quality}, below {point.quality}")
    return bad


def rerun(point: Point) -> list[str]:
    """Run a finished point once more: nothing changed, so nothing is done, and at once."""
    start = time.monotonic()
    code = fastml("run", *point.arguments)
    seconds = time.monotonic() - start
    print(f"grid: a rerun with nothing changed takes {seconds:.1f} s", flush=True)
    if code or seconds > RERUN_S:
        return [f"rerun: ended with {code} after {seconds:.1f} s, not with 0 within {RERUN_S:g} s"]
    return []


def bare_papermill() -> list[str]:
    """Execute notebooks without the runner, from nothing; the records must be the runner's."""
    runs = RUNS.with_name("grid-runs-bare")
    shutil.rmtree(runs, ignore_errors=True)
    environment = {**os.environ, "FASTML_RUNS_DIR": str(runs)}
    pages = PAGES / "papermill"
    pages.mkdir(parents=True)
    found = []
    for name, arguments in (
        ("00_start_here", ()),
        ("flow/02_export_qonnx", values(weight_bits=4)),
        ("studies/formats_and_zoo", ()),
    ):
        page = pages / f"{Path(name).name}.ipynb"
        source = ROOT / "notebooks" / f"{name}.ipynb"
        papermill = [sys.executable, "-m", "papermill", "--no-progress-bar"]
        command = [*papermill, str(source), str(page), *arguments]
        code = subprocess.run(command, env=environment, check=False).returncode
        if code:
            return [f"papermill {name} ended with {code}"]
        found += unfinished(page)
    ours, bare = (
        [json.loads(path.read_text()) for path in folder.glob("digits-mlp-*/export/records.json")]
        for folder in (RUNS, runs)
    )
    if len(bare) != 1 or bare[0] not in ours:
        found.append("papermill: the records of export are not those of the runner")
    return found


def unfinished(page: Path) -> list[str]:
    """Return the cells of an executed notebook that failed or never ran."""
    cells = enumerate(nbformat.read(page, as_version=4).cells, 1)
    return [
        f"{page.name}: cell {number} failed or never ran"
        for number, cell in cells
        if cell.cell_type == "code"
        and cell.source.strip()
        and (
            cell.execution_count is None
            or any(output.output_type == "error" for output in cell.outputs)
        )
    ]


def fastml(*arguments: str) -> int:
    """Run the command line with its output passed through; return its exit code."""
    command = [sys.executable, "-m", "fastml_kit.cli", *arguments]
    return subprocess.run(command, check=False).returncode


def latest() -> dict[str, Any]:
    """Return the report of the run that was made last."""
    command = [sys.executable, "-m", "fastml_kit.cli", "report", "--latest", "--json"]
    report: dict[str, Any] = json.loads(subprocess.check_output(command))
    return report


if __name__ == "__main__":
    sys.exit(main())
