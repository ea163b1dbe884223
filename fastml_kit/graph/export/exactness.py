"""Proving that float32, in which Keras computes, rounds nowhere in the model that was written.

The graph is read back as integers and bounded (`ranges`): where every accumulator fits 24 bits,
float sums are exact in any order. Beyond what the graph itself computes, Keras

- quantizes as ``x + (q(x) - x)``, two sums that may round;
- divides averages, rounding once, before a quantizer sees them;
- adds the bias before it normalizes, where the graph has both folded into one.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import program, ranges
from fastml_kit.graph.export.site import Notes
from fastml_kit.graph.ir import Node
from fastml_kit.graph.ranges import FLOAT32_SAFE as LIMIT
from fastml_kit.graph.ranges import Range
from fastml_kit.graph.writer import OUTPUT, Writer


def prove(graph: Writer, name: str, notes: Notes) -> None:
    """Add to `notes` where `graph` may differ from what Keras computes.

    Raises:
        UnsupportedModel: there is such a place, by name, and the export must be exact.
    """
    if notes.inexact:  # then there is nothing left to prove, nor integers to prove it with
        return
    try:
        with TemporaryDirectory(prefix="fastml-") as folder:
            read = program.read(graph.save(Path(folder, "model.onnx"), name))
        found = ranges.analyse(read)
        reasons = [
            f"{node} can take more than 24 bits, which float32 rounds"
            for node in ranges.rounding_nodes(read)
        ]
    except UnsupportedModel as error:
        if notes.exact:
            raise
        notes.inexact.append(str(error))
        return
    last = graph.tensor  # called by the output's name in what was read
    # Keras subtracts what a quantizer reads before its bounds are applied.
    bounded = {node.output: node.inputs[0] for node in read.nodes if node.op == "Clip"}
    for node in read.nodes:
        source = found.get(bounded.get(node.inputs[0], node.inputs[0]))
        bound = found[node.output]
        own_name = last if node.output == OUTPUT else node.output
        if source is not None and node.op in ("Quant", "BipolarQuant", "MultiThreshold"):
            shrunk = notes.shrunk.get(own_name, 0)
            reasons += _quantizing(node, source, bound, shrunk)
        if own_name in notes.detours:
            frac, extra = notes.detours[own_name]
            largest = ranges.size(bound) * 2.0**-bound.frac + extra
            if largest * 2.0 ** max(frac, bound.frac) >= LIMIT:
                reasons.append(f"{node.name!r}: Keras's batch normalization can round in float32")
    if reasons and notes.exact:
        raise UnsupportedModel(
            f"{reasons[0]}, so that Keras itself is not exact; use fewer bits before it, or "
            "exact=False"
        )
    notes.inexact += reasons


def _quantizing(node: Node, x: Range, y: Range, shrunk: int) -> list[str]:
    """Return why Keras's quantizer may not give the code of the exact value; empty if it does.

    `shrunk` bits below those of `y` belong to its result too.
    """
    where = f"{node.op} {node.name!r}"
    finer = y.frac + shrunk - x.frac
    if node.attrs.get("divisor", 1) > 1 and ranges.size(x) * 2.0 ** max(0, finer + 1) >= LIMIT:
        # The quotient is rounded by 2**-24 of itself. From a tie that it is not on, it is away by
        # 1/divisor of its own step or of half the quantizer's, whichever is finer.
        return [f"{where} reads an average that float32 can round across a tie"]
    if node.op == "Quant" and not shrunk and _changes_nothing(x, y):
        return []
    # Where q is larger than x (never more than a step, or of x's sign and few bits), q - x may be
    # rounded, but x + (q - x) is then rounded back to q. Where it is smaller, q - x is a multiple
    # of x's last place, and exact, unless that place is above q's.
    if ranges.size(x) * 2.0**finer >= LIMIT:
        return [f"{where} takes a difference of more than 24 bits"]
    return []


def _changes_nothing(x: Range, y: Range) -> bool:
    """Tell whether a quantizer's grid holds all values that it can get."""
    if y.frac < x.frac:
        return False
    low, high = (v.astype(np.float64) * 2.0 ** (y.frac - x.frac) for v in (x.low, x.high))
    return bool((low >= y.low.min()).all() and (high <= y.high.max()).all())
