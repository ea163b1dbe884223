"""How deep the FIFOs of a stream design must be, from the order in which its nodes take and give.

Each node is a `Unit`: steps in a fixed order, the words that each needs, the words that it makes
room for, and which steps give a word. Timing depends on nothing else, as no node looks at its data:
every time is the latest of several others plus a delay, which is max-plus algebra.

With FIFOs that never fill, one pass forward gives the earliest answers of a steady stream of
frames. One pass backward finds how late the source may give its words without delaying an answer;
another forward, with these words, is a schedule, in which some units then wait for their receivers.
What lies in a FIFO between the two sides of the schedule is the depth that it needs: units that
start each step as soon as they can are, with these depths, never later than it (Baccelli et al.,
"Synchronization and Linearity", 1992). So they cost no throughput and cannot lock up; a skip
connection's FIFO holds just what arrives while the other branch works.

All cycles here are estimates, read from the sources of FINN's RTL and of the kit's own. The
measurements are those of `rtl.stream`.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import ceil
from typing import Any

from fastml_kit.errors import BadRequest
from fastml_kit.rtl import stitch
from fastml_kit.rtl.fifo_schedule import Design, run
from fastml_kit.rtl.fifo_units import Unit, units, words_of

MARGIN = 2  # words beyond the analysed fill, for the cycle here or there that a model lacks
SHALLOWEST = 3  # the least that kit_fifo takes in either kind of memory
LUT_DEPTHS = (32, 64)  # words that a LUT memory holds at no more cost than fewer
#: What holds its answers in a register until they are taken, and what takes words by registers of
#: its own: between these, wires do where no word waits for another.
HELD = frozenset({"mvau", "thresholding", "width"})
DIRECT = frozenset({"mvau", "thresholding", "width"})
SETTLING = 4096  # frames: a stream that has not become periodic by then is not going to


def depths(dataflow: Mapping[str, Any], *, exact: bool = False) -> dict[str, int]:
    """Return a depth for each FIFO of a FINN dataflow, by the names of `stitch.fifos`.

    The largest fill of a steady stream at the design's own interval, and MARGIN words more; at
    least SHALLOWEST. Unless `exact`, what LUT memory holds for free is used too. Where no word
    ever waits for another, and both sides have registers of their own (see HELD and DIRECT), there
    is no FIFO: a depth of 0.

    Raises:
        UnsupportedModel: a node is of a kind whose timing is not known here.
    """
    parts, streams = units(dataflow), dataflow["streams"]
    bits = {name: stream["elements"] * stream["element_bits"] for name, stream in streams.items()}
    wires = _joints(dataflow)
    late: set[str] = set()
    while True:
        hops = dict.fromkeys(late, 2) | dict.fromkeys(wires, 0)
        held = fills(parts, dataflow["input"], dataflow["output"], hops=hops, bits=bits)
        kept = {name for name in wires if held[name] == 1}
        found = {name: 0 if name in kept else _rounded(fill + MARGIN, exact)
                 for name, fill in held.items()}  # fmt: skip
        slow = late | {name for name, cycles in _hops(dataflow, found).items() if cycles > 1}
        if (kept, slow) == (wires, late):
            return found
        wires, late = kept, slow - kept


def _joints(dataflow: Mapping[str, Any]) -> set[str]:
    """Return the FIFOs that could be left out, by what stands on both sides of them."""
    kinds = {name: node["kind"] for node in dataflow["nodes"] for name in node["outputs"]}
    takers = {name: node["kind"] for node in dataflow["nodes"] for name in node["inputs"]}
    return {
        fifo.name
        for fifo in stitch.fifos(dataflow)
        if kinds.get(fifo.stream) in HELD and takers[fifo.stream] in DIRECT
    }


def _hops(dataflow: Mapping[str, Any], depths: Mapping[str, int]) -> dict[str, int]:
    """Return the cycles through each FIFO, where they are not one."""
    made, streams = stitch.fifos(dataflow, depths), dataflow["streams"]
    late = {fifo.name: 2 for fifo in made if _is_block(fifo.depth, streams[fifo.stream])}
    return late | {fifo.name: 0 for fifo in made if not fifo.depth}


def interval(dataflow: Mapping[str, Any]) -> int:
    """Predict the cycles from one frame to the next: those of the slowest node by itself."""
    return slowest(units(dataflow))


def latency(dataflow: Mapping[str, Any], queues: Mapping[str, int] | None = None) -> int:
    """Predict the cycles from a lone frame's first word in to its last word out.

    `queues` are the depths of the FIFOs, by default those of `depths`: wires take no cycle, and
    block memory takes two.
    """
    parts = units(dataflow)
    hops = _hops(dataflow, depths(dataflow) if queues is None else queues)
    length = int(dataflow["streams"][dataflow["input"]]["words"])
    design = Design(parts, dataflow["input"], dataflow["output"], hops, {})
    made = design.forward(list(range(length)), 1)
    return made[design.last.name].gives(design.last)[-1]


def lower_bound(dataflow: Mapping[str, Any]) -> int:
    """Return an interval that no circuit with these folds can beat.

    Every stream passes one word a cycle, and PE x SIMD multipliers make one product each. This is
    `folding.lower_bound` of the plan once more, from what FINN says that it built instead of what
    was planned: a measurement is held against this one, and a test holds the two equal.
    """
    bound = max(int(stream["words"]) for stream in dataflow["streams"].values())
    for node in dataflow["nodes"]:
        if node["kind"] == "mvau":
            given = node["parameters"]
            vectors = words_of(dataflow["streams"], node["inputs"]) * given["SIMD"] // given["MW"]
            products = vectors * given["MW"] * given["MH"]
            bound = max(bound, ceil(products / (given["PE"] * given["SIMD"])))
    return bound


def slowest(parts: Sequence[Unit]) -> int:
    """Return the interval of the slowest unit, were each fed as fast as it takes words."""
    return max(_period(unit) for unit in parts)


@lru_cache(maxsize=64)
def _period(unit: Unit, frames: int = 8) -> int:
    count = len(unit.need)
    if unit.room is None:
        return count
    made = run(unit, [0] * (unit.words * frames), frames).steps
    settled = frames - frames // 2
    return ceil((made[-1] - made[(frames - settled) * count - 1]) / settled)


def fills(
    parts: Sequence[Unit],
    source: str,
    sink: str,
    *,
    period: int | None = None,
    hops: Mapping[str, int] | None = None,
    bits: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Return what each FIFO must hold so that a frame comes every `period` cycles (the least).

    `parts` stand in the order of the data; `source` and `sink` are the streams at the ends. `hops`
    are FIFOs whose words take more than one cycle from coming to leaving; `bits` the widths of
    streams, where a word in one FIFO costs more than in another.

    Raises:
        BadRequest: the period is below what the slowest unit needs.
    """
    least = slowest(parts)
    period = period or least
    if period < least:
        raise BadRequest(f"period={period}: the slowest unit needs {least} cycles a frame")
    design = Design(parts, source, sink, hops or {}, bits or {})
    frames = 4
    while frames < SETTLING:
        frames *= 2
        made = design.forward(
            [frame * period + word for frame in range(frames) for word in range(design.length)],
            frames,
        )
        if not design.settled(made, frames - 1, period):
            continue
        # The answers are asked for as late after their frames as the last, steady one comes.
        last = made[design.last.name].gives(design.last)[-len(design.last.emits) :]
        if frames < 4 * ceil((last[-1] - (frames - 2) * period) / period):
            continue  # the middle frame is to have whole frames under way on both sides
        answers = [time + (frame + 1) * period for frame in range(-frames, 0) for time in last]
        made = design.forward(design.backward(answers, frames), frames)
        if design.settled(made, frames // 2, period):
            return design.held(made, frames)
    raise BadRequest(f"after {frames} frames the stream is not periodic; is a unit's room wrong?")


def _rounded(fill: int, exact: bool) -> int:
    depth = max(fill, SHALLOWEST)
    return depth if exact else next((held for held in LUT_DEPTHS if depth <= held), depth)


def _is_block(depth: int, stream: Mapping[str, Any]) -> bool:
    """Tell whether kit_fifo.sv puts such a FIFO in block memory."""
    return depth > 64 and depth * stream["elements"] * stream["element_bits"] >= 4096
