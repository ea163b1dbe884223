"""Float stretches worked out for every code: what becomes of them is a MultiThreshold.

A batch normalization and the quantizer behind it, with all the floats in them, is a function from
one integer code to another. There are few enough codes to ask qonnx's executor about each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import execute
from fastml_kit.graph.ranges import FLOAT32_SAFE, Range
from fastml_kit.graph.readers.base import dyadic, label

#: Codes, over all channels, that are asked about.
MAX_CASES = 2**24


@dataclass(frozen=True)
class Stretch:
    """Elementwise nodes from the tensor `source` on; all else that they read is constant."""

    source: str
    nodes: tuple[Any, ...]


def submodel(
    nodes: Sequence[Any], constants: Mapping[str, Any], ends: tuple[str, str],
    shapes: tuple[tuple[int, ...], tuple[int, ...] | None],
) -> Any:  # fmt: skip
    """Return a model of `nodes` between two tensors; shapes are with a batch of one."""
    from onnx import TensorProto, helper, numpy_helper

    from fastml_kit.graph.writer import OPSET, QONNX_DOMAIN

    read = {name for node in nodes for name in node.input}
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(ends, shapes, strict=True)
    )
    tensors = [numpy_helper.from_array(constants[n], n) for n in sorted(read & constants.keys())]
    return helper.make_model(
        helper.make_graph(nodes, "part", [x], [y], initializer=tensors),
        producer_name="fastml_kit",
        ir_version=8,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(QONNX_DOMAIN, 1)],
    )


def resolve(
    stretch: Stretch, bound: Range, constants: Mapping[str, Any], opset: int
) -> tuple[list[Any], dict[str, NDArray[Any]]]:
    """Return nodes that take codes within `bound` to what `stretch` makes of them, exactly.

    They are a MultiThreshold, after a product with -1 for the channels that fall where others
    rise; and their constants.

    Raises:
        UnsupportedModel: the stretch rises and falls within a channel, gives values on no grid,
            differs by position, or has too many cases to look at.
    """
    from onnx import helper

    from fastml_kit.graph.writer import QONNX_DOMAIN

    last, where = stretch.nodes[-1], label(stretch.nodes[-1])
    low, high = _by_channel(bound)
    first, final = int(low.min()), int(high.max())
    if (final - first + 1) * low.size > MAX_CASES or max(-first, final) >= FLOAT32_SAFE // 2:
        raise UnsupportedModel(
            f"{where} ends a float stretch that {final - first + 1:,} codes in {low.size} channels "
            "can reach, too many to look at each; quantize before it"
        )
    codes = np.arange(first, final + 1)
    levels = _ask(stretch, codes, bound, low.size, constants, opset)
    grid = dyadic(np.unique(levels), f"what {where} gives")
    step = int(np.gcd.reduce(np.diff(grid.codes))) or 1
    base = int(grid.codes.min())
    counts = ((levels * 2.0**grid.frac).astype(np.int64) - base) // step
    signs, thresholds = _thresholds(counts, codes, low, high, where)
    rank, name, output = bound.low.ndim, last.name or last.output[0], last.output[0]
    made: dict[str, NDArray[Any]] = {
        f"{name}_thresholds": (thresholds * 2.0**-bound.frac).astype(np.float32)
    }
    nodes, source = [], stretch.source
    if (signs < 0).any():
        made[f"{name}_signs"] = signs.reshape(1, -1, *(1,) * (rank - 2)).astype(np.float32)
        turned = f"{name}_turned"
        nodes.append(helper.make_node("Mul", [source, f"{name}_signs"], [turned], name=turned))
        source = turned
    scale = 2.0**-grid.frac
    nodes.append(
        helper.make_node(
            "MultiThreshold",
            [source, f"{name}_thresholds"],
            [output],
            name=name,
            domain=QONNX_DOMAIN,
            out_scale=step * scale,
            out_bias=base * scale,
            out_dtype=_datatype(base, step, int(counts.max()), grid.frac),
            data_layout={2: "NC", 3: "NCW"}.get(rank, "NCHW"),
        )
    )
    return nodes, made


def _by_channel(bound: Range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    others = tuple(axis for axis in range(bound.low.ndim) if axis != 1)
    return bound.low.min(axis=others), bound.high.max(axis=others)


def _ask(
    stretch: Stretch, codes: NDArray[np.int64], bound: Range, channels: int,
    constants: Mapping[str, Any], opset: int,
) -> NDArray[np.float64]:  # fmt: skip
    """Return what the stretch makes of every code in every channel: (codes, channels)."""
    last, where = stretch.nodes[-1], label(stretch.nodes[-1])
    shape = (1, channels, *(1,) * (bound.low.ndim - 2))
    model = submodel(stretch.nodes, constants, (stretch.source, last.output[0]), (shape, shape))
    model.opset_import[0].version = opset
    values = np.repeat(codes[:, None] * 2.0**-bound.frac, channels, axis=1)
    # A denominator of zero or the root of a negative number shows in the result.
    with np.errstate(all="ignore"):
        levels = execute.run(model, values.reshape(len(codes), *shape[1:]), batch=1 << 16)
    if prod(levels.shape) != codes.size * channels:
        raise UnsupportedModel(
            f"{where} ends a float stretch with constants for each position; one for each channel "
            "is supported"
        )
    if not np.isfinite(levels).all():
        raise UnsupportedModel(f"{where} ends a float stretch that gives NaN or infinite values")
    return levels.reshape(len(codes), channels)


def _thresholds(
    counts: NDArray[np.int64], codes: NDArray[np.int64], low: NDArray[np.int64],
    high: NDArray[np.int64], where: str,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:  # fmt: skip
    """Return each channel's direction, and its thresholds: halves between two codes."""
    channels, most = counts.shape[1], int(counts.max())
    signs = np.ones(channels, dtype=np.int64)
    thresholds = np.empty((channels, max(most, 1)))
    for channel in range(channels):
        inside = (codes >= low[channel]) & (codes <= high[channel])
        steps, at = counts[inside, channel], codes[inside]
        if (np.diff(steps) < 0).any():
            if (np.diff(steps) > 0).any():
                raise UnsupportedModel(
                    f"{where} ends a float stretch that rises and falls in channel {channel}"
                )
            signs[channel], steps, at = -1, steps[::-1], -at[::-1]
        reached = np.searchsorted(steps, np.arange(1, max(most, 1) + 1))
        # What no code reaches stands one above the last.
        thresholds[channel] = np.append(at, at[-1] + 1)[reached] - 0.5
    return signs, thresholds


def _datatype(base: int, step: int, most: int, frac: int) -> str:
    """Return qonnx's name for the integers that come out, if they are integers one apart."""
    if (base, step, most, frac) == (-1, 2, 1, 0):
        return "BIPOLAR"
    if step * 2.0**-frac != 1:
        return "FLOAT32"
    low = int(base * 2.0**-frac)
    high = low + most
    if low >= 0:
        return f"UINT{max(high.bit_length(), 1)}"
    return f"INT{max((-low - 1).bit_length(), high.bit_length()) + 1}"
