"""FINN designs in RTL: how far estimates hold, beside what is measured, with every output compared.

    .venv/bin/python ci/bench/finn.py [--network digits-mlp ...] [--interval N] [--no-synthesis]

Each network is folded for xc7z020 to the interval asked for, built by FINN, joined, simulated in
Verilator (a steady stream; single samples; stalls on both sides), and mapped by yosys. Cycles and
cells stand beside the estimates of FINN and of the kit, and the ratio of each. The program ends
with 1 if any code of any sample differs. Networks: the digits MLP and CNN of the tutorial, a small
residual network with random weights, and the keyword-spotting MLP (490-256-256-256-12, 3 bits)
trained on the task's synthetic stand-in. The last took a quarter of an hour with synthesis.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from exactness import digits
from rich.console import Console
from rich.table import Table

from fastml_kit import models, tasks
from fastml_kit.backends.base import BuildRequest, BuildResult, Cost
from fastml_kit.backends.finn_backend import FinnBackend
from fastml_kit.graph import export, program, reference
from fastml_kit.graph.host import quantize_input
from fastml_kit.models import train
from fastml_kit.rtl import fifos, stitch, stream, synthesize
from fastml_kit.tests import networks

SINGLE = 20  # samples that are sent one at a time


def trained_digits(name: str, path: Path) -> Any:
    """Write a digits network, trained a little; return the whole set."""
    network, images = digits(name, 1797)
    export.export_model(network, path)
    return images


def keyword_spotting(path: Path) -> Any:
    """Write the keyword-spotting network, trained for ten epochs; return its test set."""
    data = tasks.load("kws")
    request = models.ModelRequest(
        data.x.shape[1:], len(data.classes), data.input_spec, width=256, weight_bits=3, act_bits=3
    )
    network, _ = train.train("mlp_bn", request, data, epochs=10, seed=0)
    export.export_model(network, path)
    return train.shaped(network, data.select("test")[0])


def residual(path: Path) -> Any:
    """Write a residual network with random weights; return random samples."""
    networks.residual(path)
    shape = program.read(path).input_shape
    return np.random.default_rng(0).integers(0, 17, (500, *shape)) / 16


#: Networks: what writes one and returns samples, and the interval it is folded for.
NETWORKS: dict[str, tuple[Callable[[Path], Any], int]] = {
    "digits-mlp": (lambda path: trained_digits("mlp", path), 16),
    "digits-cnn": (lambda path: trained_digits("cnn", path), 72),
    "residual": (residual, 100),
    "kws": (keyword_spotting, 128),
}


def measure(name: str, interval: int, folder: Path, *, mapped: bool) -> dict[str, Any]:
    """Build, simulate and count one network; return what the tables show."""
    path = folder / f"{name}.onnx"
    samples = NETWORKS[name][0](path)
    read = program.read(path)
    values = quantize_input(read, samples.reshape(-1, *read.input_shape))
    wanted = reference.run(read, values)
    request = BuildRequest(name=name.replace("-", "_"), interval_cycles=interval)
    plan = FinnBackend().plan(path, request)
    built = FinnBackend().build(plan, folder / "finn", until="rtl", samples=values)
    described = json.loads((built.folder / "dataflow.json").read_text(encoding="utf-8"))
    depths = fifos.depths(described)
    design = stitch.stitch(built, folder / "design", depths=depths)
    memories = [Path(memory) for memory in design.interface["data_files"]]
    where = folder / "simulation"
    binary, seconds = stream.build(design.sources, design.top, where)

    def run(part: Any, **how: Any) -> stream.StreamSimulation:
        return stream.run(binary, design.interface, part, where, data_files=memories, **how)

    steady, alone = run(values), run(values[:SINGLE], single=True)
    stalled = run(values, stall_in=0.3, stall_out=0.3)
    answers = ((steady, wanted), (alone, wanted[:SINGLE]), (stalled, wanted))
    return {
        "interval": steady.interval_cycles,
        "bound": fifos.lower_bound(described),
        "latency": alone.latency_cycles,
        "foreseen": fifos.latency(described),
        "samples": len(values),
        "differ": sum(int((got.values != want).sum()) for got, want in answers),
        "seconds": seconds,
        "costs": built.costs,
        "cells": count(design, folder, memories) if mapped else None,
    }


def count(design: BuildResult, folder: Path, memories: list[Path]) -> Cost:
    """Return what yosys counts on xc7."""
    keep = design.interface["modules"]
    return synthesize.synthesize(
        design.sources, design.top, "xc7", folder / "xc7", keep=keep, data_files=memories
    ).cost


def ratio(estimate: float | None, found: float | None) -> str:
    """Return an estimate with how often it goes into what was found."""
    if estimate is None or not found:
        return "-" if estimate is None else f"{estimate:,.0f}"
    return f"{estimate:,.0f} ({estimate / found:.2f})"


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Print both tables."""
    cycles = Table(title="Cycles; an estimate is followed by its ratio to what was measured")
    for heading in ("network", "samples", "differ", "bound", "interval", "FINN's", "latency",
                    "queues' analysis", "the plan's", "FINN's"):  # fmt: skip
        cycles.add_column(heading, justify="left" if heading == "network" else "right")
    cells = Table(title="Cells on xc7, counted by yosys, and the estimates with their ratio to it")
    for heading in ("network", "LUT", "the plan's", "FINN's", "FF", "the plan's",
                    "DSP", "FINN's", "BRAM36", "the plan's", "FINN's"):  # fmt: skip
        cells.add_column(heading, justify="left" if heading == "network" else "right")
    for name, row in rows.items():
        own, finns = row["costs"]
        interval, latency = row["interval"], row["latency"]
        cycles.add_row(
            name, f"{row['samples']:,}", str(row["differ"]), str(row["bound"]), f"{interval:g}",
            ratio(finns.interval_cycles, interval), str(latency), ratio(row["foreseen"], latency),
            ratio(own.latency_cycles, latency), ratio(finns.latency_cycles, latency),
        )  # fmt: skip
        if (got := row["cells"]) is not None:
            cells.add_row(
                name, f"{got.lut:,}", ratio(own.lut, got.lut), ratio(finns.lut, got.lut),
                f"{got.ff:,}", ratio(own.ff, got.ff), str(got.dsp), ratio(finns.dsp, got.dsp),
                f"{got.bram36:g}", ratio(own.bram36, got.bram36), ratio(finns.bram36, got.bram36),
            )  # fmt: skip
    console = Console(width=170)
    console.print(cycles)
    if cells.row_count:
        console.print(cells)


def main() -> int:
    """Measure the networks asked for; return 1 if a code differs."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--interval", type=int, help="cycles, instead of each network's own")
    parser.add_argument("--no-synthesis", action="store_true", help="count no cells")
    asked = parser.parse_args()
    rows = {}
    for name in asked.network:
        with tempfile.TemporaryDirectory() as folder:
            interval = asked.interval or NETWORKS[name][1]
            rows[name] = measure(name, interval, Path(folder), mapped=not asked.no_synthesis)
            show({name: rows[name]})
    show(rows)
    return int(any(row["differ"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
