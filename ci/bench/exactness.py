"""Samples per second of every engine of the ladder, on one network, with every output compared.

    .venv/bin/python ci/bench/exactness.py [--samples N] [--repeats N]

Trains the default MLP for a few epochs, exports it once, and asks each engine for the same
samples, in turn, several times over. Building (compiling C++, Verilating) is timed apart. One
thread each. A rate counts only if all output codes are equal: otherwise the row says so and the
program ends with 1.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(variable, "1")  # before anything that reads them is loaded

import numpy as np
from rich.console import Console
from rich.table import Table

from fastml_kit import backends, models, tasks, verify
from fastml_kit.graph import execute, export, program, ranges, reference
from fastml_kit.models import train
from fastml_kit.rtl import simulate


@dataclass
class Engine:
    """One row: how to ask it, what it took to build, and how long each repeat took."""

    name: str
    ask: Callable[[], Any]
    build_s: float = 0.0
    own_time: Callable[[], float] | None = None  # seconds inside, where asking has an overhead
    seconds: list[float] = field(default_factory=list)
    mismatches: int = 0


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `work` returns, and the seconds it took."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def engines(folder: Path, samples: int) -> tuple[list[Engine], Any]:
    """Build every engine in `folder`; return them and the format of the outputs."""
    data = tasks.load("digits")
    request = models.ModelRequest(data.x.shape[1:], len(data.classes), data.input_spec)
    network, _ = train.train("mlp", request, data, epochs=5, seed=0)
    path = export.export_qonnx(network, folder / "model.onnx")
    graph = program.read(path)
    images = np.resize(data.x, (samples, *data.x.shape[1:]))
    x = train.shaped(network, images)

    def build(name: str, until: Any) -> tuple[Any, float]:
        backend = backends.get(name)
        plan = backend.plan(path, backends.BuildRequest())
        return timed(lambda: backend.build(plan, folder / name, until=until))

    csim, csim_s = build("hls4ml", "csim")
    circuit, da4ml_s = build("da4ml", "rtl")
    binary, verilator_s = simulate.build(
        circuit.sources, circuit.top, folder / "simulation", optimize=True
    )
    last: dict[str, Any] = {}

    def run_rtl() -> Any:
        last["rtl"] = simulate.run(binary, circuit.interface, x, folder / "simulation")
        return last["rtl"].values

    return [
        Engine("keras", lambda: train.predict(network, images)),
        Engine("qonnx executor, batch 1024", lambda: execute.run(path, x)),
        Engine("reference", lambda: reference.run(graph, x)),
        Engine("hls4ml csim", lambda: csim.predict(x), csim_s),
        Engine("da4ml interpreter", lambda: circuit.predict(x), da4ml_s),
        Engine("Verilated RTL", run_rtl, verilator_s, lambda: float(last["rtl"].seconds_run)),
    ], ranges.output_spec(graph)


def main() -> int:
    """Print the table; return 1 if any output differed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastml-bench-") as folder:
        rows, spec = engines(Path(folder), options.samples)
        want = rows[0].ask()
        for _ in range(options.repeats):  # in turn, so that a drift of the machine hits all alike
            for row in rows:
                got, seconds = timed(row.ask)
                row.seconds.append(row.own_time() if row.own_time else seconds)
                labels = (row.name, "keras")
                row.mismatches += verify.compare(got, want, spec=spec, labels=labels).mismatches
    keras = options.samples / median(rows[0].seconds)
    table = Table(title=f"default MLP, {options.samples:,} samples, median of {options.repeats}")
    table.add_column("engine", no_wrap=True)
    for heading in ("samples/s", "slowest .. fastest", "x keras", "build s", "codes differ"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        rates = sorted(options.samples / seconds for seconds in row.seconds)
        table.add_row(
            row.name,
            f"{median(rates):,.0f}",
            f"{rates[0]:,.0f} .. {rates[-1]:,.0f}",
            f"{median(rates) / keras:.2f}",
            f"{row.build_s:.1f}" if row.build_s else "",
            f"{row.mismatches:,}",
        )
    Console().print(table)
    return int(any(row.mismatches for row in rows))


if __name__ == "__main__":
    sys.exit(main())
