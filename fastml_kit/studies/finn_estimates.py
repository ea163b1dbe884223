"""How far estimates hold: a network built by FINN, simulated and counted beside what was foreseen.

Two parties foresee: FINN, with its own models, and the kit's plan. Interval and latency are found
in simulation, cells by yosys, both with every answer compared. A ratio is the estimate over what
was found: below 1 too low, above 1 too high.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fastml_kit.backends.base import BuildRequest, BuildResult, Cost
from fastml_kit.backends.finn_backend import FinnBackend, folding
from fastml_kit.errors import BadRequest
from fastml_kit.graph import program, ranges, reference
from fastml_kit.rtl import fifos, stitch, stream, synthesize
from fastml_kit.verify import Comparison, compare

ALONE = 20  # samples that are sent one at a time, for the latency
STALL = 0.3  # of the cycles in which each side withholds, in the run that is to be hard
FAMILY = "xc7"
#: What each kind of node in a dataflow does.
KINDS = {
    "mvau": "products",
    "thresholding": "thresholds",
    "swg": "windows",
    "padding": "padding",
    "pool": "pooling",
    "add": "sums",
    "duplicate": "copies",
}


@dataclass(frozen=True)
class Row:
    """One quantity: what FINN and the kit's plan say, and what was found.

    None is what nobody told; an estimate never stands in for it.
    """

    name: str  # a field of Cost
    unit: str
    finn: float | None
    plan: float | None
    found: float
    source: str  # of what was found

    @property
    def finn_ratio(self) -> float | None:
        """FINN's estimate over what was found."""
        return ratio(self.finn, self.found)

    @property
    def plan_ratio(self) -> float | None:
        """The plan's estimate over what was found."""
        return ratio(self.plan, self.found)

    def told(self) -> list[str]:
        """Return the row as text: what was found, and each estimate with its ratio."""
        told = [_text(self.found)]
        for value, part in ((self.finn, self.finn_ratio), (self.plan, self.plan_ratio)):
            told += [_text(value), "-" if part is None else f"{part:.2f}"]
        return told


@dataclass(frozen=True)
class Layer:
    """A layer with the width converters and the queues before it. FINN counts no queues."""

    name: str
    kind: str  # what it does: see KINDS
    cycles: int  # a sample, FINN's
    finn: Cost
    plan: Cost
    found: Cost

    @property
    def rows(self) -> list[Row]:
        """What was counted, beside the estimates."""
        return rows(self.finn, self.plan, self.found)


@dataclass(frozen=True)
class Measurement:
    """A network's circuit: estimates, what was found, and the design, to be looked at further."""

    finn: Cost
    plan: Cost
    analysis_latency_cycles: int  # foreseen by the analysis that sizes the queues; an estimate
    bound_cycles: int  # an interval that no circuit of this folding can beat
    simulated: Cost
    interval_cycles: float  # as it was measured: a mean, which need not be whole
    counted: Cost | None  # None where nothing was synthesized
    layers: list[Layer]  # likewise empty
    comparisons: dict[str, Comparison]  # "steady", "alone", "stalled", with the reference engine
    build: BuildResult  # what FINN left
    dataflow: dict[str, Any]

    @property
    def rows(self) -> list[Row]:
        """What was measured, beside the estimates: cycles, then cells."""
        found = [cost for cost in (self.simulated, self.counted) if cost]
        return [
            replace(row, found=self.interval_cycles) if row.name == "interval_cycles" else row
            for cost in found
            for row in rows(self.finn, self.plan, cost)
        ]

    @property
    def mismatches(self) -> int:
        """Codes that differ from the reference engine's, in all runs together."""
        return sum(found.mismatches for found in self.comparisons.values())


def ratio(estimate: float | None, found: float | None) -> float | None:
    """Return the estimate over what was found; None where one is missing, or nothing was found."""
    return None if estimate is None or not found else estimate / found


def rows(finn: Cost, plan: Cost, found: Cost) -> list[Row]:
    """Return a row for each quantity that was found."""
    return [
        Row(name, unit, getattr(finn, name), getattr(plan, name), value, found.source)
        for name, (value, unit) in found.told().items()
    ]


def measure(
    graph: Path,
    values: NDArray[Any],
    request: BuildRequest,
    folder: Path,
    *,
    synthesized: bool = True,
) -> Measurement:
    """Build `graph` in `folder`, stream `values` through its RTL, and count its cells.

    `values`, (samples, *the graph's input shape), lie on the grid of its first quantizer. They go
    through three times: in a steady stream; the first few one by one; with both sides stalled.

    Raises:
        BadRequest: there are fewer than two samples.
        UnsupportedModel, DoesNotFit, BuildFailed, ToolNotFound: see `FinnBackend`, `stitch`,
            `stream` and `synthesize`.
    """
    if len(values) < 2:
        raise BadRequest(f"{len(values)} samples have no interval between them; give at least two")
    backend = FinnBackend()
    built = backend.build(backend.plan(graph, request), folder / "finn", until="rtl")
    described = json.loads((built.folder / "dataflow.json").read_text(encoding="utf-8"))
    depths = fifos.depths(described)
    design = stitch.stitch(built, folder / "design", depths=depths)
    memories = [Path(name) for name in design.interface["data_files"]]
    where = folder / "simulation"
    binary, _ = stream.build(design.sources, design.top, where)

    def run(part: NDArray[Any], **how: Any) -> stream.StreamSimulation:
        return stream.run(binary, design.interface, part, where, data_files=memories, **how)

    runs = {
        "steady": run(values),
        "alone": run(values[:ALONE], single=True),
        "stalled": run(values, stall_in=STALL, stall_out=STALL),
    }
    read = program.read(graph)
    wanted, spec = reference.run(read, values), ranges.output_spec(read)
    counts = count(design, folder / FAMILY) if synthesized else None
    interval = runs["steady"].interval_cycles
    assert interval is not None  # there are two samples or more
    plan, finn = built.costs
    return Measurement(
        finn=finn,
        plan=plan,
        analysis_latency_cycles=fifos.latency(described, depths),
        bound_cycles=fifos.lower_bound(described),
        simulated=Cost(
            "rtlsim",
            latency_cycles=runs["alone"].latency_cycles,
            interval_cycles=round(interval),
        ),
        interval_cycles=interval,
        counted=counts.cost if counts else None,
        layers=by_layer(built.plan.facts["folding"], described, counts.parts) if counts else [],
        comparisons={
            name: compare(
                got.values, wanted[: len(got.values)], spec=spec, labels=(name, "reference"),
                total_samples=len(values),
            )
            for name, got in runs.items()
        },
        build=built,
        dataflow=described,
    )  # fmt: skip


def count(design: BuildResult, folder: Path) -> synthesize.Synthesis:
    """Map a stitched design to the cells of an xc7, each layer kept apart."""
    memories = [Path(name) for name in design.interface["data_files"]]
    return synthesize.synthesize(
        design.sources, design.top, FAMILY, folder,
        keep=design.interface["modules"], data_files=memories,
    )  # fmt: skip


def by_layer(
    plan: folding.Plan, dataflow: Mapping[str, Any], parts: Mapping[str, Cost]
) -> list[Layer]:
    """Return the layers of a design, what was counted of each beside the estimates.

    `parts` are the counts of the nodes of `dataflow`, in its order. What FINN put between two
    layers, width converters, belongs to the second of them, as it does in `plan`.
    """
    planned = {
        layer.name: Cost("estimate", round(used.lut), round(used.ff), round(used.dsp), used.bram36)
        for layer, used in zip(plan.layers, plan.used, strict=True)
    }
    made, between = list[Layer](), list[tuple[Cost, Cost]]()
    for node, part in zip(dataflow["nodes"], parts.values(), strict=True):
        between.append((said(node), part))
        if "layer" in node:
            finn, found = (reduce(_sum, costs) for costs in zip(*between, strict=True))
            name, kind = node["layer"], KINDS.get(node["kind"], node["kind"])
            made.append(Layer(name, kind, node["cycles"], finn, planned[name], found))
            between = []
    return made


def said(node: Mapping[str, Any]) -> Cost:
    """Return FINN's estimate of one node's cells. It has none of flip-flops."""
    told = node["estimate"]
    cells = {"lut": round(told.get("LUT", 0)), "dsp": round(told.get("DSP", 0))}
    return Cost("estimate", **cells, bram36=told.get("BRAM_18K", 0) / 2)


def _sum(one: Cost, other: Cost) -> Cost:
    """Add up cells; what one of the two does not tell, the sum does not either."""
    total = {}
    for name in ("lut", "ff", "dsp", "bram36"):
        pair = getattr(one, name), getattr(other, name)
        total[name] = None if None in pair else sum(pair)
    return Cost(one.source, **total)


def lines(found: Sequence[Row]) -> list[str]:
    """Return a table of rows as lines of text."""
    heads = ["measured", "FINN", "ratio", "plan", "ratio", "unit (source)"]
    table = [["", *heads]]
    table += [[row.name, *row.told(), f"{row.unit} ({row.source})"] for row in found]
    return [f"{a:16}{b:>10}{c:>9}{d:>7}{e:>9}{f:>7}  {g}" for a, b, c, d, e, f, g in table]


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) and value % 1 else f"{value:,.0f}"
