"""Reading the waves that a simulation left: when each stream's word was there, and when taken.

A binary that `stream.build` made with `trace=True` writes waves.vcd, which wave viewers such as
GTKWave and Surfer open. Here just what a figure of handshakes needs is read from it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import BadRequest, unknown_name

Bits = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Handshakes:
    """A stream's two wires, (cycles,) each, from the first cycle after the reset."""

    valid: Bits  # the giver offers a word
    ready: Bits  # the taker would take one

    @property
    def moved(self) -> Bits:
        """Cycles in which a word passes."""
        return self.valid & self.ready

    @property
    def held(self) -> Bits:
        """Cycles in which the taker holds the giver back."""
        return self.valid & ~self.ready

    @property
    def starved(self) -> Bits:
        """Cycles in which the taker would take a word, and none is there."""
        return self.ready & ~self.valid


def streams(path: Path, names: Sequence[str]) -> dict[str, Handshakes]:
    """Return the handshakes of the streams `names` of the design's top, from its waves.vcd.

    Raises:
        BadRequest: the design has no such stream, or the file is no such trace.
    """
    with path.open(encoding="ascii") as file:
        found = _wires(file)
        for wire in ("clk", "rst"):
            if wire not in found:
                raise BadRequest(f"{path} has no wire {wire!r}: no trace that stream.run wrote")
        known = [wire.removesuffix("_valid") for wire in found if wire.endswith("_valid")]
        for name in names:
            if name not in known or f"{name}_ready" not in found:
                raise unknown_name("stream", name, known)
        wanted = [f"{name}_{wire}" for name in names for wire in ("valid", "ready")]
        codes = [found[wire] for wire in ("clk", "rst", *wanted)]
        seen = np.array(list(_steps(file, codes)), dtype=bool).reshape(-1, len(codes))
    # Both sides look at a stream just before the rising edge, which is where a cycle ends.
    cycles = seen[~seen[:, 0] & ~seen[:, 1], 2:]
    return {
        name: Handshakes(cycles[:, 2 * place], cycles[:, 2 * place + 1])
        for place, name in enumerate(names)
    }


def titles(dataflow: Mapping[str, Any]) -> dict[str, str]:
    """Return what each stream of a FINN dataflow joins: ``dense1 → relu1``.

    What FINN put between layers, and belongs to none, is a converter of widths.
    """
    ends = {name: ["in", "out"] for name in dataflow["streams"]}
    for node in dataflow["nodes"]:
        name = node.get("layer", "converter")
        for place, side in enumerate(("outputs", "inputs")):
            for stream in node[side]:
                ends[stream][place] = name
    return {stream: " → ".join(pair) for stream, pair in ends.items()}


def _wires(file: Iterator[str]) -> dict[str, str]:
    """Return the code of each wire of the top and of its ports, and read up to the values."""
    depth, found = 0, dict[str, str]()
    for line in file:
        match line.split():
            case ["$scope", *_]:
                depth += 1
            case ["$upscope", *_]:
                depth -= 1
            case ["$var", _, "1", code, name, *_] if depth <= 2:
                found[name] = code
            case ["$enddefinitions", *_]:
                break
    return found


def _steps(file: Iterator[str], codes: Sequence[str]) -> Iterator[list[bool]]:
    """Yield the values of the wires `codes` at the end of each step of time."""
    now, begun = dict.fromkeys(codes, False), False
    for line in file:
        if line.startswith("#"):
            if begun:
                yield [now[code] for code in codes]
            begun = True
        elif line[0] in "01" and (code := line[1:].strip()) in now:
            now[code] = line[0] == "1"
    if begun:
        yield [now[code] for code in codes]
