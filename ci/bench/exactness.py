"""Samples per second of every engine of the ladder, with every output compared.

    .venv/bin/python ci/bench/exactness.py [--network digits-mlp ...] [--repeats N]

Three networks: the digits MLP and CNN that the tutorial trains, and an MLP of the size that MLPerf
Tiny's keyword spotting takes (490-256-256-256-12, 3 bits, random weights). Each is exported once,
and each engine is asked for the same samples, in turn, several times over; of a turn the shortest
call counts, of the turns the median. Building (compiling C++, Verilating) is timed apart. One
thread each, but for the row that says otherwise. A rate counts only if all output codes are equal:
otherwise the row says so and the program ends with 1. Slow engines answer for a part of the
samples, as the row says.

The machine's own limit is sgemm at the network's multiplications: what a float32 matrix product
reaches on this machine, measured in the same run.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

for variable in (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
):
    os.environ.setdefault(variable, "1")  # before anything that reads them is loaded

import numpy as np
from rich.console import Console
from rich.table import Table

from fastml_kit import backends, models, tasks, verify
from fastml_kit.errors import FastmlError
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import cost, execute, export, fast, program, ranges, reference
from fastml_kit.graph.formats import clipped
from fastml_kit.models import train
from fastml_kit.models.keras2 import keras, seed_everything
from fastml_kit.rtl import simulate

#: What the engines should reach: engine, network, against which row, times how much.
TARGETS = [
    ("fast", "digits-mlp", "qonnx, batch 1024", 50),
    ("fast", "digits-mlp", "hls4ml csim", 500),
    ("fast", "digits-cnn", "hls4ml csim", 200),
    ("fast", "kws-mlp", "qonnx, batch 1024", 4),
    ("fast", "kws-mlp", "sgemm limit", 0.8),
    ("fast, int8", "kws-mlp", "qonnx, batch 1024", 10),
]
SGEMM_SIZE = 1024
TURN_S = 0.3  # what an engine has of each turn, where one call takes less


@dataclass
class Engine:
    """One row: how to ask it, on how many samples, what it took to build, and each repeat."""

    name: str
    ask: Callable[[Any], Any]
    samples: int
    build_s: float = 0.0
    own_time: Callable[[], float] | None = None  # seconds inside, where asking has an overhead
    seconds: list[float] = field(default_factory=list)
    mismatches: int = 0
    refused: str = ""

    @property
    def rate(self) -> float:
        """Samples per second, the median of all repeats."""
        return self.samples / median(self.seconds)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `work` returns, and the seconds it took."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def shortest(work: Callable[[], Any], own: Callable[[], float] | None = None) -> tuple[Any, float]:
    """Return what `work` returns, and the shortest time among the calls that fit in TURN_S.

    The first call of a turn finds the caches full of another engine's data; what is shorter than a
    turn is so asked again, as `timeit` does, and what is longer is asked once.
    """
    got, seconds = timed(work)
    times, spent = [own() if own else seconds], seconds
    while spent + seconds < TURN_S:
        seconds = timed(work)[1]
        times.append(own() if own else seconds)
        spent += seconds
    return got, min(times)


def digits(name: str, samples: int) -> tuple[Any, Any]:
    """Return a digits network, trained a little, and images."""
    data = tasks.load("digits")
    request = models.ModelRequest(data.x.shape[1:], len(data.classes), data.input_spec)
    network, _ = train.train(name, request, data, epochs=5, seed=0)
    images = np.resize(data.x, (samples, *data.x.shape[1:]))
    return network, train.shaped(network, images)


def keyword_spotting(samples: int) -> tuple[Any, Any]:
    """Return an MLP of MLPerf Tiny's size with random 3-bit weights, and inputs of 8 bits."""
    from qkeras import QActivation, QDense, quantized_bits, quantized_relu

    seed_everything(0)
    spec = FixedSpec(8, 1)
    layers = [keras.Input(shape=(490,), name="x"), QActivation(quantized_bits(8, 0, alpha=1))]
    for units in (256, 256, 256, 12):
        weights = quantized_bits(3, 0, symmetric=1, alpha=1)
        bias = quantized_bits(8, 1, alpha=1)
        layers.append(QDense(units, kernel_quantizer=weights, bias_quantizer=bias))
        layers.append(QActivation(quantized_relu(3, 2)))
    network = keras.Sequential(layers[:-1], name="kws")
    rng = np.random.default_rng(0)
    for layer in network.layers:
        layer.set_weights([rng.normal(0, 0.3, w.shape) for w in layer.get_weights()])
    train.freeze(network)
    values = spec.to_values(rng.integers(spec.low, spec.high + 1, (samples, 490)))
    return network, values.astype(np.float32)


#: Networks: how to make one, and how many samples the quick and the slow engines answer for.
NETWORKS: dict[str, tuple[Callable[[int], tuple[Any, Any]], int, int]] = {
    "digits-mlp": (lambda samples: digits("mlp", samples), 40_000, 10_000),
    "digits-cnn": (lambda samples: digits("cnn", samples), 20_000, 4_000),
    "kws-mlp": (keyword_spotting, 8_192, 256),
}


def built(name: str, path: Path, folder: Path, until: Any) -> tuple[Any, float]:
    """Return a backend's result, and the seconds it took to build."""
    backend = backends.get(name)
    plan = backend.plan(path, backends.BuildRequest())
    return timed(lambda: backend.build(plan, folder / name, until=until))


def hardware(path: Path, folder: Path, few: int, rtl: bool) -> list[Engine]:
    """Build what a vendor-free flow compiles: hls4ml's C++, da4ml's interpreter and, asked, RTL."""
    csim, csim_s = built("hls4ml", path, folder, "csim")
    rows = [
        Engine("hls4ml csim", lambda x: csim.predict(x, threads=1), few, csim_s),
        Engine(f"hls4ml csim, {len(os.sched_getaffinity(0))} cores", csim.predict, few, csim_s),
    ]
    try:
        circuit, da4ml_s = built("da4ml", path, folder, "rtl")
    except FastmlError as error:
        rows.append(Engine("da4ml", lambda x: None, few, refused=str(error)))
        return rows
    rows.append(Engine("da4ml interpreter", circuit.predict, few, da4ml_s))
    if not rtl:
        return rows
    binary, verilator_s = simulate.build(
        circuit.sources, circuit.top, folder / "simulation", optimize=True
    )
    last: dict[str, Any] = {}

    def run_rtl(x: Any) -> Any:
        last["rtl"] = simulate.run(binary, circuit.interface, x, folder / "simulation")
        return last["rtl"].values

    own = lambda: float(last["rtl"].seconds_run)  # noqa: E731
    rows.append(Engine("Verilated RTL", run_rtl, few, verilator_s, own))
    return rows


def engines(folder: Path, name: str, rtl: bool) -> tuple[list[Engine], Any, Any, int]:
    """Build every engine in `folder`; return them, the inputs, the outputs' format and the MACs."""
    make, many, few = NETWORKS[name]
    network, x = make(many)
    path = export.export_qonnx(network, folder / "model.onnx")
    graph = program.read(path)
    x = export.channel_first(x)
    last = (lambda v: v.transpose(0, 2, 3, 1)) if x.ndim == 4 else (lambda v: v)
    compiled, fast_s = timed(lambda: fast.compile(graph))
    int8, int8_s = timed(lambda: clipped.session(graph))

    def ask_keras(v: Any) -> Any:
        return network.predict(last(v), batch_size=8192, verbose=0)

    macs = cost.count(path).total.macs
    rows = [
        Engine("keras", ask_keras, many),
        Engine("qonnx, batch 1024", lambda v: execute.run(path, v), many),
        Engine("reference", lambda v: reference.run(graph, v), few),
        Engine("fast", compiled, many, fast_s),
        Engine("fast, int8", int8, many, int8_s),
        *hardware(path, folder, few, rtl),
    ]
    return rows, x, ranges.output_spec(graph), macs


def sgemm_rate() -> float:
    """Return the multiply-accumulates a second of a square float32 product on one thread."""
    a = np.random.default_rng(0).random((SGEMM_SIZE, SGEMM_SIZE), dtype=np.float32)
    return SGEMM_SIZE**3 / shortest(lambda: a @ a)[1]


def measure(name: str, folder: Path, repeats: int, rtl: bool) -> list[Engine]:
    """Ask every engine `repeats` times, in turn, so that a drift of the machine hits all alike."""
    rows, x, spec, macs = engines(folder, name, rtl)
    want = rows[0].ask(x)
    limit = Engine("sgemm limit", lambda v: None, len(x))
    for _ in range(repeats):
        limit.seconds.append(len(x) * macs / sgemm_rate())
        for row in rows:
            if row.refused:
                continue
            got, seconds = shortest(partial(row.ask, x[: row.samples]), row.own_time)
            row.seconds.append(seconds)
            labels = (row.name, "keras")
            found = verify.compare(got, want[: row.samples], spec=spec, labels=labels)
            row.mismatches += found.mismatches
    return [*rows, limit]


def show(name: str, rows: list[Engine], repeats: int) -> None:
    """Print one network's table."""
    keras_rate = rows[0].rate
    table = Table(title=f"{name}, median of {repeats}")
    table.add_column("engine", no_wrap=True)
    for heading in ("samples/s", "slowest .. fastest", "x keras", "samples", "build s", "differ"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        if row.refused:
            table.add_row(row.name, "refused", "", "", "", "", "")
            continue
        rates = sorted(row.samples / seconds for seconds in row.seconds)
        table.add_row(
            row.name,
            f"{row.rate:,.0f}",
            f"{rates[0]:,.0f} .. {rates[-1]:,.0f}",
            f"{row.rate / keras_rate:.3g}",
            f"{row.samples:,}",
            f"{row.build_s:.1f}" if row.build_s else "",
            "" if row.name == "sgemm limit" else f"{row.mismatches:,}",
        )
    console = Console(width=110)
    console.print(table)
    for row in rows:
        if row.refused:
            console.print(f"{row.name}: {row.refused}", soft_wrap=True)
    by_name = {row.name: row for row in rows}
    for engine, network, other, times in TARGETS:
        if network == name:
            ratio = by_name[engine].rate / by_name[other].rate
            reached = "reached" if ratio >= times else "NOT reached"
            console.print(f"{engine} / {other}: {ratio:.3g}, target {times:g}: {reached}")
    console.print()


def main() -> int:
    """Print the tables; return 1 if any output differed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without-rtl", action="store_true", help="Verilating takes minutes")
    options = parser.parse_args()
    differed = 0
    for name in options.network:
        with tempfile.TemporaryDirectory(prefix="fastml-bench-") as folder:
            rows = measure(name, Path(folder), options.repeats, not options.without_rtl)
        show(name, rows, options.repeats)
        differed += sum(row.mismatches for row in rows)
    return int(differed > 0)


if __name__ == "__main__":
    sys.exit(main())
