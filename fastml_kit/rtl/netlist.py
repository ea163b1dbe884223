"""Simulating a netlist: the same samples, the same test benches, whatever kind of design it is.

A pipeline without streams is timed as it runs (`simulate`). A design with streams (`stream`) runs
three times: all samples without a pause, which tells the interval; a few one at a time, which tells
the latency; and some with words withheld at random on both sides, whose codes must be the same.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import MismatchError
from fastml_kit.rtl import simulate as pipelines
from fastml_kit.rtl import stream
from fastml_kit.rtl.design import Design

#: Samples that go through alone, and samples that are stalled, with what probability on each side.
ALONE, STALLED, STALL = 20, 200, 0.3


@dataclass(frozen=True, eq=False)
class Answer:
    """What a netlist answered, and when."""

    values: NDArray[np.float64]  # (samples, *output shape)
    latency_cycles: int
    interval_cycles: int | None  # None for a single sample
    seconds_build: float
    seconds_run: float


def simulate(design: Design, netlist: Path, values: ArrayLike, folder: Path) -> Answer:
    """Build `netlist`, made of `design`, in `folder`, and run `values` through it.

    Raises:
        BadRequest: there are no values, or one is not on its input element's grid.
        BuildFailed: Verilator or the C++ compiler failed, or the netlist is stuck.
        MismatchError: stalls change its answers.
        ToolNotFound: the verilator package, g++ or make is missing.
    """
    values = np.asarray(values, dtype=np.float64)
    if "fifos" not in design.interface:
        ran = pipelines.simulate([netlist], design.top, design.interface, values, folder)
        return Answer(
            ran.values, ran.latency_cycles, ran.interval_cycles, ran.seconds_build, ran.seconds_run
        )
    stream.frame(design.interface, "input")[0].pack(values)  # refuse before the long build
    binary, seconds = stream.build([netlist], design.top, folder)

    run = partial(stream.run, binary, design.interface, folder=folder, watch=False)
    steady = run(values)
    alone = run(values[:ALONE], single=True)
    hindered = run(values[:STALLED], stall_in=STALL, stall_out=STALL)
    changed = np.count_nonzero(hindered.values != steady.values[:STALLED])
    if changed:
        raise MismatchError(
            f"with stalls, {changed} of {hindered.values.size} codes of {netlist.name} change; "
            "look for a word that is lost or taken twice"
        )
    interval = steady.interval_cycles
    return Answer(
        values=steady.values,
        latency_cycles=alone.latency_cycles,
        interval_cycles=None if interval is None else round(interval),
        seconds_build=seconds,
        seconds_run=steady.seconds_run + hindered.seconds_run + alone.seconds_run,
    )
