"""What a run found, for people and for programs: the ladder, the cost, the quality, the stages."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fastml_kit.errors import RunError, unknown_name
from fastml_kit.flow import FLOW, Flow
from fastml_kit.manifest import load_summary
from fastml_kit.records import Record, Value
from fastml_kit.verify import ENGINES

RECORD_FIELDS = ("name", "value", "unit", "source", "stage", "model", "flow", "target", "remark")
#: Columns of the cost table, in order, with their headings.
COSTS = {
    "lut": "LUT",
    "ff": "FF",
    "dsp": "DSP",
    "bram36": "BRAM36",
    "latency_cycles": "latency",
    "interval_cycles": "interval",
}

#: Columns that hold numbers, and are set to the right.
NUMERIC = frozenset({*COSTS.values(), "seconds", "samples", "mismatches", "value"})

Summary = Mapping[str, Any]


def find(root: Path, name: str | None = None) -> Path:
    """Return the folder of the run `name` under `root` (its id, or a path); the latest if `None`.

    Raises:
        RunError: there is no run at all.
        BadRequest: there is no run of this name.
    """
    runs = sorted(root.glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    if name is None:
        if not runs:
            raise RunError(f"there is no run in {root} yet; start one with: fastml run digits")
        return runs[-1].parent
    for folder in (Path(name), root / name):
        if (folder / "run.json").is_file():
            return folder
    raise unknown_name("run", name, [path.parent.name for path in runs])


def summarize(folder: Path, flow: Flow = FLOW) -> dict[str, Any]:
    """Return what ``fastml report --json`` prints: every stage of the flow, records, skips.

    Raises:
        RunError: the run's summary cannot be read.
    """
    summary = load_summary(folder)
    parameters = summary.get("parameters", {})
    flow = flow.serving(parameters).along(parameters)
    known = {stage["name"]: stage for stage in summary["stages"]}
    stages = []
    broken = None
    for name in (spec.name for spec in flow.stages):
        stage = known.pop(name, None)
        if stage is None:
            reason = f"{broken['name']}: {broken['status']}" if broken else "not run yet"
            stage = {"name": name, "status": "skipped", "seconds": None, "reason": reason}
        if stage["status"] in ("failed", "interrupted"):
            broken = broken or stage
        stages.append(stage)
    stages += known.values()
    fields = ("name", "status", "seconds", "reason")
    return {
        "run": summary["run"],
        "task": summary["task"],
        "status": _overall(stage["status"] for stage in stages),
        "stages": [{key: stage[key] for key in fields} for stage in stages],
        "records": [
            {key: record.get(key) for key in RECORD_FIELDS} for record in summary["records"]
        ],
        "skipped": summary["skipped"],
    }


def render(report: Summary, reused: Mapping[str, str | None] | None = None) -> RenderableType:
    """Return what `summarize` made as tables; `reused` tells which stages did not run."""
    found = [Record(**record) for record in report["records"]]
    remarks = dict.fromkeys(record.remark for record in found if record.remark)
    tables = [_stages(report, reused or {}), ladder(found), costs(found), quality(found)]
    contrast = two_circuits(found)
    return Group(
        f"[bold]{report['run']}[/]: {report['status']}",
        *(table for table in tables if table.row_count),
        *([Text(contrast)] if contrast else []),
        *(Text(f"remark: {remark}", style="yellow") for remark in remarks),
        *(Text(f"skipped {skip['name']}: {skip['reason']}") for skip in report["skipped"]),
    )


def ladder(found: Iterable[Record]) -> Table:
    """Return a table of rungs. One on fewer samples than the whole set has is never exact.

    The whole set is what the rung itself states, or at least the largest rung's samples.
    """
    rungs: dict[tuple[str, str], dict[str, Any]] = {}
    for record in found:
        kind, _, rest = record.name.partition(".")
        engine, _, what = rest.rpartition(".")
        if kind == "verify" and what in ("samples", "total_samples", "mismatches"):
            rungs.setdefault((engine, record.target or ""), {})[what] = record.value
    largest = max((rung.get("samples", 0) for rung in rungs.values()), default=0)
    order = {engine: place for place, engine in enumerate(ENGINES)}
    title = "Ladder: integer output codes, engine by engine"
    table = _table(title, "engine", "target", "samples", "mismatches", "verdict")
    for key in sorted(rungs, key=lambda key: (order.get(key[0], len(order)), key)):
        samples, mismatches = rungs[key].get("samples"), rungs[key].get("mismatches")
        total = max(rungs[key].get("total_samples", 0), largest)
        verdict = _verdict(samples, mismatches, total)
        table.add_row(*key, _number(samples), _number(mismatches), verdict)
    return table


def costs(found: Iterable[Record]) -> Table:
    """Return one row a flow, target and source: an estimate shares no row with a measurement."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in found:
        kind, _, rest = record.name.partition(".")
        flow, _, what = rest.rpartition(".")
        if kind == "cost" and what in COSTS:
            key = (flow, record.target or "", record.source)
            rows.setdefault(key, {})[what] = record.value
    table = _table(
        "Cost; latency and interval in cycles", "flow", "target", "source", *COSTS.values()
    )
    for key, values in sorted(rows.items()):
        table.add_row(*key, *(_number(values.get(what)) for what in COSTS))
    return table


def two_circuits(found: Iterable[Record]) -> str | None:
    """Return a paragraph that weighs da4ml's circuit against FINN's, in figures of the records.

    `None` where the two were not both synthesized for one FPGA family and simulated.
    """
    known = {(r.name, r.target, r.source): r.value for r in found}
    names = {"netlist": "da4ml", "finn_netlist": "finn"}
    for target in sorted({target for _, target, source in known if source == "yosys" and target}):
        said: dict[str, dict[str, Any]] = {}
        for engine, flow in names.items():
            keys = [(f"cost.{flow}.{what}", "yosys") for what in ("lut", "dsp", "bram36")]
            keys += [(f"cost.{flow}.{what}_cycles", "netlist") for what in ("interval", "latency")]
            keys += [(f"verify.{engine}.{what}", "netlist") for what in ("samples", "mismatches")]
            said[flow] = {
                name.rpartition(".")[2]: known.get((name, target, source)) for name, source in keys
            }
        if all(value is not None for values in said.values() for value in values.values()):
            return _weigh(target, said["da4ml"], said["finn"])
    return None


def _weigh(target: str, wired: Mapping[str, Any], folded: Mapping[str, Any]) -> str:
    """Say what two circuits cost, one whose weights are wires and one that shares multipliers."""

    def told(name: str, cost: Mapping[str, Any]) -> str:
        return (
            f"{name} circuit: {cost['lut']:,} LUT, {cost['dsp']} DSP, {cost['bram36']:g} BRAM36, "
            f"a sample every {_cycles(cost['interval_cycles'])}, an answer after "
            f"{cost['latency_cycles']:,}; {cost['mismatches']} codes differ on "
            f"{cost['samples']:,} samples."
        )

    space, time = (folded[key] / wired[key] for key in ("lut", "interval_cycles"))
    same = not (wired["mismatches"] or folded["mismatches"])
    answers = "the same answers" if same else "answers that differ"
    return " ".join(
        (
            f"One graph, two circuits, {answers}, different costs (on {target}).",
            told("da4ml's", wired),
            told("FINN's", folded),
            f"FINN's takes {space:.2g} times the LUT and {time:.3g} times the cycles, so "
            f"{space * time:.2g} times the LUT x cycles of a sample.",
            "Why: da4ml wires each weight into adders of its own, and all of them work on one "
            "sample at once. Nothing is stored, and what is common to two sums is built once; but "
            "nothing can be shared over time either, so asking for fewer samples makes it no "
            "smaller. FINN's layers multiply with units that take turns, fed from memories of "
            "weights, so how many there are is a choice: interval_cycles. But a multiplier for any "
            "weight is larger than the adders for one, and memories, queues between the layers and "
            "the counting of turns come on top.",
        )
    )


def _cycles(count: int) -> str:
    return "cycle" if count == 1 else f"{count:,} cycles"


def quality(found: Iterable[Record]) -> Table:
    """Return a table of all records of quality."""
    table = _table("Quality", "record", "value", "unit", "source")
    for record in found:
        if record.name.startswith("quality."):
            table.add_row(record.name, _number(record.value), record.unit, record.source)
    return table


def _stages(report: Summary, reused: Mapping[str, str | None]) -> Table:
    table = _table("Stages", "stage", "status", "seconds", "")
    for stage in report["stages"]:
        note = stage["reason"] or ""
        if origin := reused.get(stage["name"]):
            note = "reused" if origin.startswith(report["run"]) else f"reused from {origin}"
        table.add_row(stage["name"], stage["status"], _number(stage["seconds"]), note)
    return table


def _verdict(samples: int | None, mismatches: int | None, total: int) -> str:
    if not samples or mismatches is None:
        return "not compared"
    if mismatches:
        return "[red]different[/]"
    return "[green]exact[/]" if samples == total else f"partial, {samples} of {total}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in columns:
        numeric = name in NUMERIC
        table.add_column(name, justify="right" if numeric else "left", no_wrap=bool(name))
    return table


def _number(value: Value) -> str:
    """Return a value for a cell of a table; a dash where there is none."""
    match value:
        case None:
            return "-"
        case bool() | str():
            return str(value)
        case int():
            return f"{value:,}"
        case _:
            return f"{value:.4g}"


def _overall(statuses: Iterable[str]) -> str:
    """Return the worst of the stages' statuses."""
    found = set(statuses)
    return next((s for s in ("interrupted", "failed", "skipped") if s in found), "ok")
