"""Readers of what moves elements without changing them."""

from typing import Any

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.ir import Constant
from fastml_kit.graph.readers.arithmetic import label_name
from fastml_kit.graph.readers.base import Reading, attributes, label


def reshape(reading: Reading, node: Any) -> None:
    """Read Reshape, Flatten, Squeeze or Unsqueeze: {shape}, without the batch axis.

    The target is the output's inferred shape; the batch must stay the first axis.
    """
    source, shape = reading.operand(node.input[0]), reading.shapes[node.output[0]]
    if source in reading.constants:
        given = reading.constants[source]
        reading.constants[node.output[0]] = Constant(given.codes.reshape(shape), given.frac)
        return
    before = reading.shapes[source]
    if before[0] != shape[0] or not shape:
        raise UnsupportedModel(f"{label(node)} moves the batch axis: {before} becomes {shape}")
    _carry(reading, source, node.output[0])
    op = "Flatten" if node.op_type == "Flatten" else "Reshape"
    attrs = {} if op == "Flatten" else {"shape": tuple(shape[1:])}
    reading.emit(op, label_name(node), (source,), node.output[0], **attrs)


def transpose(reading: Reading, node: Any) -> None:
    """Read a Transpose: {perm}, the batch axis in its place."""
    source = reading.operand(node.input[0])
    rank = len(reading.shapes[node.output[0]])
    perm = tuple(attributes(node).get("perm", range(rank - 1, -1, -1)))
    if source not in reading.constants and perm[0] != 0:
        raise UnsupportedModel(f"{label(node)} moves the batch axis; perm is {perm}")
    _carry(reading, source, node.output[0])
    reading.emit("Transpose", label_name(node), (source,), node.output[0], perm=perm)


def concat(reading: Reading, node: Any) -> None:
    """Read a Concat of data: {axis}, counted with the batch axis."""
    inputs = tuple(reading.operand(i) for i in node.input)
    rank = len(reading.shapes[node.output[0]])
    axis = attributes(node)["axis"] % rank
    if axis == 0 or any(i in reading.constants for i in inputs):
        raise UnsupportedModel(f"{label(node)} joins samples or constants; data is joined")
    divisors = {reading.divisors.get(i, 1) for i in inputs}
    if len(divisors) > 1:
        raise UnsupportedModel(f"{label(node)} joins averages over different numbers of elements")
    _carry(reading, inputs[0], node.output[0])
    reading.emit("Concat", label_name(node), inputs, node.output[0], axis=axis)


def pad(reading: Reading, node: Any) -> None:
    """Read a Pad with zeros: {pads}, a (begin, end) for every axis after the samples."""
    attrs, where = attributes(node), label(node)
    source, rank = reading.operand(node.input[0]), len(reading.shapes[node.output[0]])
    values = attrs.get("pads") or reading.raw(node.input[1], where).tolist()
    filler = attrs.get("value", 0.0)
    if len(node.input) > 2 and node.input[2]:
        filler = reading.scalar(node.input[2], where)
    pairs = tuple(zip(values[:rank], values[rank:], strict=True))
    if attrs.get("mode", "constant") != "constant" or filler or any(pairs[0]):
        raise UnsupportedModel(f"{where} pads with something else than zeros, or the batch axis")
    if min(values) < 0 or source in reading.constants:
        raise UnsupportedModel(f"{where} cuts off, or pads a constant")
    _carry(reading, source, node.output[0])
    reading.emit("Pad", label_name(node), (source,), node.output[0], pads=pairs[1:])


def resize(reading: Reading, node: Any) -> None:
    """Read Resize or Upsample to the nearest element by whole factors: {scales}, of the image."""
    attrs, where = attributes(node), label(node)
    source = reading.operand(node.input[0])
    before, after = reading.shapes[source], reading.shapes[node.output[0]]
    scales = tuple(b // a for a, b in zip(before[2:], after[2:], strict=True))
    whole = tuple(a * s for a, s in zip(before[2:], scales, strict=True)) == tuple(after[2:])
    mode = attrs.get("coordinate_transformation_mode", "half_pixel")
    near = attrs.get("nearest_mode", "round_prefer_floor")
    # With whole factors these put the centre of every copy at the element it came from.
    repeats = (mode, near) in {
        ("asymmetric", "floor"),
        ("half_pixel", "round_prefer_floor"),
        ("half_pixel", "round_prefer_ceil"),
    }
    if node.op_type == "Upsample":
        repeats = True
    nearest = attrs.get("mode", "nearest") == "nearest"
    if not (nearest and whole and repeats) or before[:2] != after[:2] or min(scales) < 1:
        raise UnsupportedModel(
            f"{where}: mode nearest by whole factors is read (asymmetric with floor, or half_pixel)"
        )
    if not np.prod(scales) >= 1 or source in reading.constants:
        raise UnsupportedModel(f"{where} enlarges a constant")
    _carry(reading, source, node.output[0])
    reading.emit("Upsample", label_name(node), (source,), node.output[0], scales=scales)


def _carry(reading: Reading, source: str, output: str) -> None:
    """Let an average that is still to be divided pass through."""
    if source in reading.divisors:
        reading.divisors[output] = reading.divisors[source]
