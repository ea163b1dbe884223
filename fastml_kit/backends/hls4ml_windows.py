"""hls4ml's layers over images and series: convolutions, pools, edges, enlargements.

What hls4ml 1.3.0 does not have exactly is built from what it has: an average is a depthwise
convolution with equal weights (hls4ml divides in the accumulator's type), dilated and grouped
kernels are written out with zeros, and a transposed convolution is an enlarged image, masked.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.backends.hls4ml_design import Design, Shape, Wire, channel_last, weight_type
from fastml_kit.backends.hls4ml_quantizers import take_activation
from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.ir import Node

#: hls4ml's names of axes and edges, for images and series.
AXES: dict[int, tuple[str, ...]] = {1: ("width",), 2: ("height", "width")}
BEGIN: dict[int, tuple[str, ...]] = {1: ("left",), 2: ("top", "left")}
END: dict[int, tuple[str, ...]] = {1: ("right",), 2: ("bottom", "right")}


def conv(design: Design, node: Node) -> None:
    """A convolution with its bias."""
    output, bias = design.take_bias(node, 0)
    wire = design.image(node.inputs[0], node.name)
    kernel = design.constant(node.inputs[1])
    _conv(design, node, wire, kernel, bias, output, node.attrs["pads"])


def conv_transpose(design: Design, node: Node) -> None:
    """A transposed convolution: the image spread out by the strides, then convolved."""
    output, bias = design.take_bias(node, 0)
    attrs, kernel = node.attrs, design.constant(node.inputs[1])
    rank, strides = kernel.ndim - 2, attrs["strides"]
    wire = design.image(node.inputs[0], node.name)
    if max(strides) > 1:
        wire = _resize(design, wire, strides, f"{node.name}_spread")
        mask = np.ones(wire.shape)
        for axis, step in enumerate(strides):
            index = np.arange(wire.shape[axis]).reshape(-1, *(1,) * (rank - axis))
            mask = mask * (index % step == 0)
        wire = design.scaled(
            wire, f"{node.name}_mask", np.moveaxis(mask, -1, 0), 0.0, wire.type,
            (wire.shape[-1], *wire.shape[:-1]),
        )  # fmt: skip
    edges = zip(
        kernel.shape[2:], attrs["dilations"], attrs["pads"][:rank], attrs["pads"][rank:],
        attrs["output_padding"], strides, strict=True,
    )  # fmt: skip
    begins, ends = [], []
    for k, gap, before, after, extra, step in edges:
        begins.append((k - 1) * gap - before)
        ends.append((k - 1) * gap - after + extra - (step - 1))
    cuts = tuple(max(-edge, 0) for edge in (*begins, *ends))
    if any(cuts):
        wire = _cropped(design, wire, cuts, f"{node.name}_cut")
    flipped = np.flip(kernel, axis=tuple(range(2, 2 + rank)))
    parts = [part.swapaxes(0, 1) for part in np.split(flipped, attrs["group"])]
    plain = Node("Conv", node.name, node.inputs, output, {**attrs, "strides": (1,) * rank})
    pads = tuple(max(edge, 0) for edge in (*begins, *ends))
    _conv(design, plain, wire, np.concatenate(parts), bias, output, pads)


def sum_pool(design: Design, node: Node) -> None:
    """The sum behind an average, times the power of two in its divisor."""
    wire, size = design.image(node.inputs[0], node.name), node.attrs["kernel_shape"]
    channels = wire.shape[-1]
    kernel = np.full((channels, 1, *size), 2.0 ** -node.attrs["shift"])
    plain = Node("Conv", node.name, node.inputs, node.output, {**node.attrs, "group": channels})
    _conv(design, plain, wire, kernel, np.zeros(channels), node.output, node.attrs["pads"])


def max_pool(design: Design, node: Node) -> None:
    """The largest of each window."""
    attrs, size = node.attrs, node.attrs["kernel_shape"]
    wire, rank, pads = design.image(node.inputs[0], node.name), len(size), node.attrs["pads"]
    if max(attrs.get("dilations") or (1,)) > 1:
        raise UnsupportedModel(
            f"hls4ml backend: MaxPool {node.name!r} is dilated, which hls4ml ignores"
        )
    if any(pads) and wire.type.startswith("u"):
        # hls4ml pads with the sign bit, the largest number of a type without one.
        wire, pads = _padded(design, wire, pads, f"{node.name}_edge"), (0,) * 2 * rank
    if design.stream and (any(pads) or (rank == 2 and tuple(size) != tuple(attrs["strides"]))):
        raise UnsupportedModel(
            f"hls4ml backend: MaxPool {node.name!r} has windows that overlap, or pads below zero, "
            "which hls4ml's streams do not take; use io_parallel"
        )
    after = design.shape(node.output)
    inside = {"n_in": wire.shape[0], "n_out": after[1]} if rank == 1 else {}
    design.wires[node.output] = design.add(
        f"MaxPooling{rank}D", node.name, (wire,), (*after[1:], after[0]), channel_last(after),
        {"result": wire.type, "accum": wire.type},
        **inside, **_named("in_{}", rank, wire.shape), **_named("out_{}", rank, after[1:]),
        **_named("pool_{}", rank, size), **_named("stride_{}", rank, attrs["strides"]),
        **_pads(rank, pads), n_filt=wire.shape[-1], data_format="channels_last", count_pad=False,
    )  # fmt: skip


def pad(design: Design, node: Node) -> None:
    """Zeros around an image or a series."""
    pairs = node.attrs["pads"]
    if len(pairs) not in (2, 3) or any(pairs[0]):
        raise UnsupportedModel(
            f"hls4ml backend: Pad {node.name!r} pads channels or a vector; hls4ml pads images and "
            "series. Use the da4ml backend"
        )
    wire = design.image(node.inputs[0], node.name)
    begins, ends = zip(*pairs[1:], strict=True)
    design.wires[node.output] = _padded(design, wire, (*begins, *ends), node.name)


def upsample(design: Design, node: Node) -> None:
    """Every element repeated."""
    wire = design.image(node.inputs[0], node.name)
    design.wires[node.output] = _resize(design, wire, node.attrs["scales"], node.name)


def _conv(
    design: Design, node: Node, wire: Wire, kernel: NDArray[np.float64],
    bias: NDArray[np.float64], output: str, pads: tuple[int, ...],
) -> None:  # fmt: skip
    """Add a convolution of `wire` with `kernel` (outputs, inputs of a group, *size).

    What comes of it, with a bias or an activation that it takes in, becomes the wire.
    """
    accum = design.type(output)
    output, result = take_activation(design, output)
    if design.stream and any(pads):  # hls4ml would put in the same layer, under a name of its own
        wire, pads = _padded(design, wire, pads, f"{node.name}_pad"), (0,) * len(pads)
    rank, after, groups = kernel.ndim - 2, design.shape(output), node.attrs["group"]
    kernel = _dilated(kernel, node.attrs.get("dilations") or (1,) * rank)
    channels, size = wire.shape[-1], kernel.shape[2:]
    types = {
        "result": result, "accum": accum,
        "weight": weight_type(kernel), "bias": weight_type(bias),
    }  # fmt: skip
    turned = np.moveaxis(kernel, (0, 1), (-1, -2))  # (*size, inputs, outputs)
    # hls4ml's headers for depthwise series and images exclude each other.
    alone = rank == 2 or all(bound.low.ndim < 4 for bound in design.found.values())
    depthwise = groups == channels == len(kernel) and channels > 1 and alone
    weights: dict[str, Any] = {}
    if depthwise:
        weights = {"depthwise_data": turned.swapaxes(-1, -2), "depth_multiplier": 1}
    else:
        full = np.zeros((*size, channels, len(kernel)))
        for group in range(groups):
            rows, columns = channels // groups, len(kernel) // groups
            inside = slice(group * columns, (group + 1) * columns)
            full[..., group * rows : (group + 1) * rows, inside] = turned[..., inside]
        weights = {"weight_data": full}
        types["weight"] = weight_type(full)
    design.wires[output] = design.add(
        f"{'Depthwise' if depthwise else ''}Conv{rank}D", node.name, (wire,),
        (*after[1:], after[0]), channel_last(after), types, bias_data=bias, use_bias=True,
        n_chan=channels, n_filt=len(kernel), data_format="channels_last", **weights,
        **_named("in_{}", rank, wire.shape), **_named("out_{}", rank, after[1:]),
        **_named("filt_{}", rank, size), **_named("stride_{}", rank, node.attrs["strides"]),
        **_pads(rank, pads),
    )  # fmt: skip


def _padded(design: Design, wire: Wire, pads: tuple[int, ...], where: str) -> Wire:
    rank, channels = len(wire.shape) - 1, wire.shape[-1]
    after = tuple(n + pads[i] + pads[i + rank] for i, n in enumerate(wire.shape[:-1]))
    return design.add(
        f"ZeroPadding{rank}D", where, (wire,), (*after, channels),
        channel_last((channels, *after)), {"result": wire.type}, n_chan=channels,
        data_format="channels_last", **_named("in_{}", rank, wire.shape),
        **_named("out_{}", rank, after), **_pads(rank, pads),
    )  # fmt: skip


def _cropped(design: Design, wire: Wire, cuts: tuple[int, ...], where: str) -> Wire:
    rank, channels = len(wire.shape) - 1, wire.shape[-1]
    after = tuple(n - cuts[i] - cuts[i + rank] for i, n in enumerate(wire.shape[:-1]))
    return design.add(
        f"Cropping{rank}D", where, (wire,), (*after, channels),
        channel_last((channels, *after)), {"result": wire.type}, n_chan=channels,
        data_format="channels_last", **_named("in_{}", rank, wire.shape),
        **_named("out_{}", rank, after), **_pads(rank, cuts, "crop"),
    )  # fmt: skip


def _resize(design: Design, wire: Wire, scales: tuple[int, ...], where: str) -> Wire:
    after = tuple(n * times for n, times in zip(wire.shape[:-1], scales, strict=True))
    flat = {"in_height": 1, "out_height": 1} if len(after) == 1 else {}
    return design.add(
        "Resize", where, (wire,), (*after, wire.shape[-1]),
        channel_last((wire.shape[-1], *after)), {"result": wire.type}, n_chan=wire.shape[-1],
        data_format="channels_last", algorithm="nearest", **flat,
        **_named("in_{}", len(after), wire.shape), **_named("out_{}", len(after), after),
    )  # fmt: skip


def _dilated(kernel: NDArray[np.float64], gaps: tuple[int, ...]) -> NDArray[np.float64]:
    size = tuple((k - 1) * gap + 1 for k, gap in zip(kernel.shape[2:], gaps, strict=True))
    wide = np.zeros((*kernel.shape[:2], *size))
    wide[(slice(None), slice(None), *(slice(None, None, gap) for gap in gaps))] = kernel
    return wide


def _named(pattern: str, rank: int, values: Shape) -> dict[str, int]:
    return {pattern.format(a): int(v) for a, v in zip(AXES[rank], values, strict=False)}


def _pads(rank: int, pads: tuple[int, ...], word: str = "pad") -> dict[str, int]:
    return {f"{word}_{e}": int(p) for e, p in zip(BEGIN[rank] + END[rank], pads, strict=True)}
