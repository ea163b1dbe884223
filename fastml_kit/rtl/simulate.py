"""Simulating a design, RTL or netlist, with Verilator: packed words in, packed words out.

The test bench (`hdl/bench.cpp`) streams one word a cycle, measures latency and interval, and
takes an answer only where the design says that it is valid. Compiling the model takes most of
the time, so the C++ compiler's optimizer stays off unless asked for. For a 64-16-10 MLP with
4-bit weights (7,600 LUTs on xc7):

    what is simulated      CPU seconds to build      words a second
    RTL                                       8             360,000
    RTL, optimized                           23           1,000,000
    xc7 netlist                              31              35,000
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit import tools
from fastml_kit.errors import BadRequest, BuildFailed
from fastml_kit.rtl.process import run_logged
from fastml_kit.rtl.words import Word

WARNINGS = "-Wno-fatal"  # generated code is not ours to lint; its warnings are in the log

#: Operations below which a model is one C++ file: small ones then compile twice as fast.
SPLIT_ABOVE = "100000"


@dataclass(frozen=True, eq=False)
class Simulation:
    """What a design answered, and when. Cycles are measured, from valid_in to valid_out."""

    values: NDArray[np.float64]  # (samples, *output shape)
    latency_cycles: int  # the longest that any sample took
    interval_cycles: int | None  # the shortest between two answers; None for a single sample
    cycles: int  # the whole run, reset included
    seconds_build: float
    seconds_run: float
    binary: Path


def simulate(
    sources: Sequence[Path],
    top: str,
    interface: Mapping[str, Any],
    values: ArrayLike,
    folder: Path,
    *,
    optimize: bool = False,
) -> Simulation:
    """Build the design in `folder` and run `values`, (samples, *input shape), through it.

    Raises:
        BadRequest: there are no values, or one is not on its input element's grid.
        BuildFailed: Verilator or the C++ compiler failed, or the design did not answer.
        ToolNotFound: the verilator package, g++ or make is missing.
    """
    Word.of(interface["input"]).pack(values)  # refuse bad values before the long build
    binary, seconds = build(sources, top, folder, optimize=optimize)
    return run(binary, interface, values, folder, seconds_build=seconds)


def build(
    sources: Sequence[Path], top: str, folder: Path, *, optimize: bool = False
) -> tuple[Path, float]:
    """Compile the design to a program; return it and the seconds that took.

    `optimize` takes three times as long, and the program then runs three times as fast.

    Raises:
        BuildFailed, ToolNotFound: as `simulate`.
    """
    with as_file(files("fastml_kit.rtl") / "hdl" / "bench.cpp") as bench:
        return verilate([*sources, bench], top, folder, optimize=optimize)


def verilate(
    sources: Sequence[Path],
    top: str,
    folder: Path,
    *,
    optimize: bool = False,
    options: Sequence[str] = (),
) -> tuple[Path, float]:
    """Compile a design and its test bench, the C++ among `sources`, as `build` does.

    `options` are more words for Verilator's command line.

    Raises:
        BuildFailed, ToolNotFound: as `simulate`.
    """
    verilator, environment = tools.verilator()
    objects, binary = folder / "verilator", folder / "simulator"
    shutil.rmtree(objects, ignore_errors=True)  # what an earlier, failed build left
    folder.mkdir(parents=True, exist_ok=True)
    level = "-O1" if optimize else "-O0"
    cores = str(len(os.sched_getaffinity(0)))
    seconds = run_logged(
        [
            *(verilator, "--cc", "--exe", "--build", "-j", cores),
            *("--top-module", top, "--prefix", "Vtop", "--Mdir", objects.name),
            *("--no-assert", WARNINGS, "--output-split", SPLIT_ABOVE),
            *("-CFLAGS", level, "-MAKEFLAGS"),
            f"OPT_FAST={level} OPT_SLOW={level} OPT_GLOBAL={level}",
            *options,
            *(source.resolve() for source in sources),
        ],
        folder=folder,
        log=folder / "verilator.log",
        environment=environment,
    )
    (objects / "Vtop").replace(binary)
    shutil.rmtree(objects)  # up to hundreds of MB, and of no more use
    return binary, seconds


def run(
    binary: Path,
    interface: Mapping[str, Any],
    values: ArrayLike,
    folder: Path,
    *,
    gap: float = 0.0,
    seed: int = 0,
    seconds_build: float = 0.0,
) -> Simulation:
    """Run `values` through a `binary` that `build` made.

    In a fraction `gap` of the cycles, drawn with `seed`, no word is offered.

    Raises:
        BadRequest, BuildFailed: as `simulate`.
    """
    if not 0 <= gap < 1:
        raise BadRequest(f"gap={gap}; a fraction of idle cycles, at least 0 and below 1")
    questions, answers = Word.of(interface["input"]), Word.of(interface["output"])
    words = questions.pack(values)
    if not len(words):
        raise BadRequest("no values to simulate; give at least one sample")
    asked, answered = folder / "input.bin", folder / "output.bin"
    words.tofile(asked)
    log = folder / "bench.json"
    seconds = run_logged(
        [
            binary.resolve(),
            asked.name,
            answered.name,
            questions.byte_count,
            answers.byte_count,
            gap,
            seed,
        ],
        folder=folder,
        log=log,
    )
    said = json.loads(log.read_text(encoding="utf-8"))
    if said["answered"] != said["samples"] or said["surplus"]:
        raise BuildFailed(
            f"the design gave {said['answered'] + said['surplus']} answers to {said['samples']} "
            f"samples in {said['cycles']} cycles; look at valid_out. Build folder: {folder}"
        )
    out = np.fromfile(answered, dtype=np.uint8).reshape(len(words), answers.byte_count)
    return Simulation(
        values=answers.unpack(out),
        latency_cycles=said["latency_max"],
        interval_cycles=said["interval_min"] or None,
        cycles=said["cycles"],
        seconds_build=seconds_build,
        seconds_run=seconds,
        binary=binary,
    )
