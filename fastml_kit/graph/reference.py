"""The reference engine: a QONNX graph in integer arithmetic, small enough to read.

Every tensor is an int64 array of codes with a count of fractional bits. The only rounding is in
Quant and Trunc; everything else is exact. Accumulators are bounded by `graph.ranges`, which
refuses a graph whose sums could leave int64. `graph.fast` is the quick way to the same codes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest
from fastml_kit.fixedpoint import Codes, shift
from fastml_kit.graph.inputs import read_input
from fastml_kit.graph.ir import Node, Program, Tensor


def quant(node: Node, x: Tensor) -> Tensor:
    """Round and saturate to the node's format; the output code is ``q - zero_point``.

    The zero point is added before rounding, so that ties go where QONNX sends them. With scales
    of their own, channels are rounded at them and then brought to the finest one.
    """
    spec, attrs = node.attrs["spec"], node.attrs
    rules = {"rounding": attrs["rounding"], "overflow": attrs["overflow"]}
    zero, divisor = attrs.get("zero_point", 0), attrs.get("divisor", 1)

    def at(frac: int) -> Codes:
        """Quantize with a scale of ``2**-frac``."""
        own = type(spec)(spec.width, spec.width - frac, spec.signed, spec.narrow)
        if not zero:
            return own.requantize(x.codes, x.frac, divisor=divisor, **rules)
        common = max(x.frac, frac)
        moved = x.aligned(common) + (zero * divisor << (common - frac))
        return own.requantize(moved, common, divisor=divisor, **rules) - zero

    if attrs.get("fracs") is None:
        return Tensor(at(spec.frac), spec.frac)
    fracs, out = attrs["fracs"], np.zeros_like(x.codes)
    for frac in np.unique(fracs).tolist():
        out = np.where(fracs == frac, at(frac) << (spec.frac - frac), out)
    return Tensor(out, spec.frac)


def bipolar_quant(node: Node, x: Tensor) -> Tensor:
    """Give plus one step for zero and above, minus one below; `steps` in codes of the output."""
    steps = node.attrs["steps"]
    return Tensor(np.where(x.codes >= 0, steps, -steps), node.attrs["frac"])


def trunc(node: Node, x: Tensor) -> Tensor:
    """Drop low bits: round to the input's grid, divide by ``2**drop``, clip, round again.

    `drop` low bits go; the result keeps the scale ``2**-frac`` in version 1, so that it shrinks,
    and returns to its size in version 2, which also clips to `spec`.
    """
    attrs = node.attrs
    zero, drop, spec = attrs["zero_point"], attrs["drop"], attrs["spec"]
    common = max(x.frac, attrs["frac"])
    on_grid = shift(x.aligned(common) + (zero << (common - attrs["frac"])), common - attrs["frac"])
    kept = shift(on_grid, drop, attrs["rounding"])
    if spec is None:
        return Tensor(kept - zero, attrs["frac"])
    kept = spec.clip(kept)
    if drop >= 0:
        return Tensor((kept << drop) - zero, attrs["frac"])
    return Tensor(kept - (zero << -drop), attrs["frac"] - drop)


def multi_threshold(node: Node, x: Tensor) -> Tensor:
    """Count the thresholds that a value reaches: base + step * count, a row for each channel."""
    codes = np.ceil(node.attrs["thresholds"] * 2.0**x.frac)
    rows = np.clip(codes, -(2.0**62), 2.0**62).astype(np.int64)  # (channels or 1, thresholds)
    shape = (1, len(rows)) + (1,) * (x.codes.ndim - 2)
    count = np.zeros_like(x.codes)
    for column in rows.T:
        count += x.codes >= column.reshape(shape)
    return Tensor(node.attrs["base"] + node.attrs["step"] * count, node.attrs["frac"])


def matmul(node: Node, x: Tensor, w: Tensor) -> Tensor:
    """(samples, ..., k) @ (k, m); products add their fractional bits."""
    return Tensor(x.codes @ w.codes, x.frac + w.frac)


def add(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Add after aligning the binary points."""
    frac = max(a.frac, b.frac)
    return Tensor(a.aligned(frac) + b.aligned(frac), frac)


def sub(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Subtract after aligning the binary points."""
    return add(node, a, Tensor(-b.codes, b.frac))


def mul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Multiply element by element; fractional bits add up."""
    return Tensor(a.codes * b.codes, a.frac + b.frac)


def relu(node: Node, x: Tensor) -> Tensor:
    """Replace negative codes by zero."""
    return Tensor(np.maximum(x.codes, 0), x.frac)


def leaky_relu(node: Node, x: Tensor) -> Tensor:
    """Multiply negative codes by the slope ``alpha * 2**-alpha_frac``."""
    bits = node.attrs["alpha_frac"]
    return Tensor(
        np.where(x.codes < 0, x.codes * node.attrs["alpha"], x.codes << bits), x.frac + bits
    )


def clip(node: Node, x: Tensor) -> Tensor:
    """Bring every value between the codes `low` and `high`, which have `frac` fractional bits."""
    frac = max(x.frac, node.attrs["frac"])
    low, high = (
        None if bound is None else bound << (frac - node.attrs["frac"])
        for bound in (node.attrs["low"], node.attrs["high"])
    )
    return Tensor(np.clip(x.aligned(frac), low, high), frac)


def windows(x: Codes, node: Node, size: tuple[int, ...]) -> Codes:
    """Return the windows of x (n, c, *image) as (n, c, *positions, *size)."""
    rank = len(size)
    gaps = node.attrs.get("dilations") or (1,) * rank
    reach = tuple((s - 1) * gap + 1 for s, gap in zip(size, gaps, strict=True))
    every: Codes = sliding_window_view(x, reach, axis=tuple(range(2, 2 + rank)))
    steps = [slice(None, None, step) for step in (*node.attrs["strides"], *gaps)]
    return every[(slice(None), slice(None), *steps)]


def padded(x: Codes, pads: tuple[int, ...], value: int = 0) -> Codes:
    """Return x (n, c, *image) with an edge of `value`; pads are (begins..., ends...)."""
    begins, ends = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    edges = ((0, 0), (0, 0), *zip(begins, ends, strict=True))
    return np.pad(x, edges, constant_values=value) if any(pads) else x


def conv(node: Node, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve x (n, c, *image) with w (out, c/group, *kernel); zeros around the edge."""
    kernel = w.codes.shape[2:]
    views = windows(padded(x.codes, node.attrs["pads"]), node, kernel)
    groups, inside = node.attrs["group"], tuple(range(-len(kernel), 0))
    parts = [
        np.tensordot(view, weights, axes=((1, *inside), (1, *inside)))
        for view, weights in zip(
            np.split(views, groups, axis=1), np.split(w.codes, groups), strict=True
        )
    ]
    out = Tensor(np.moveaxis(np.concatenate(parts, axis=-1), -1, 1), x.frac + w.frac)
    if bias is None:
        return out
    return add(node, out, Tensor(bias.codes.reshape(-1, *(1,) * len(kernel)), bias.frac))


def conv_transpose(node: Node, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """Transposed convolution: x spread out by the strides, convolved with the flipped kernel.

    w is (c, out/group, *kernel), as ONNX has it.
    """
    attrs, kernel = node.attrs, w.codes.shape[2:]
    rank, groups = len(kernel), attrs["group"]
    spread = [
        (n - 1) * step + 1 for n, step in zip(x.codes.shape[2:], attrs["strides"], strict=True)
    ]
    apart = np.zeros((*x.codes.shape[:2], *spread), dtype=np.int64)
    apart[(slice(None), slice(None), *(slice(None, None, s) for s in attrs["strides"]))] = x.codes
    reach = [(k - 1) * gap for k, gap in zip(kernel, attrs["dilations"], strict=True)]
    begins = [r - p for r, p in zip(reach, attrs["pads"][:rank], strict=True)]
    extra = attrs["output_padding"]
    ends = [r - p + e for r, p, e in zip(reach, attrs["pads"][rank:], extra, strict=True)]
    flipped = np.flip(w.codes, axis=tuple(range(2, 2 + rank)))
    turned = np.concatenate([part.swapaxes(0, 1) for part in np.split(flipped, groups)])
    # A negative edge cuts off instead of padding.
    cut = [slice(max(-b, 0), n - max(-e, 0)) for b, e, n in zip(begins, ends, spread, strict=True)]
    pads = tuple(max(p, 0) for p in (*begins, *ends))
    plain = {"strides": (1,) * rank, "dilations": attrs["dilations"], "pads": pads, "group": groups}
    inner = Node("Conv", node.name, node.inputs, node.output, plain)
    source = Tensor(apart[(slice(None), slice(None), *cut)], x.frac)
    return conv(inner, source, Tensor(turned, w.frac), bias)


def max_pool(node: Node, x: Tensor) -> Tensor:
    """Take the largest code of each window; what lies beyond the edge never wins."""
    size = node.attrs["kernel_shape"]
    least = int(x.codes.min(initial=0))
    views = windows(padded(x.codes, node.attrs["pads"], least), node, size)
    return Tensor(views.max(axis=tuple(range(-len(size), 0))), x.frac)


def sum_pool(node: Node, x: Tensor) -> Tensor:
    """Add up each window; `shift` bits of the average's divisor are a shift of the point."""
    size = node.attrs["kernel_shape"]
    views = windows(padded(x.codes, node.attrs["pads"]), node, size)
    return Tensor(views.sum(axis=tuple(range(-len(size), 0))), x.frac + node.attrs["shift"])


def concat(node: Node, *parts: Tensor) -> Tensor:
    """Join along `axis` after aligning the binary points."""
    frac = max(part.frac for part in parts)
    return Tensor(np.concatenate([p.aligned(frac) for p in parts], node.attrs["axis"]), frac)


def reshape(node: Node, x: Tensor) -> Tensor:
    """Give every sample the shape `shape`, in row-major (channel first) order."""
    return Tensor(x.codes.reshape(len(x.codes), *node.attrs["shape"]), x.frac)


def flatten(node: Node, x: Tensor) -> Tensor:
    """Keep the samples, join the other axes in row-major (channel first) order."""
    return Tensor(x.codes.reshape(len(x.codes), -1), x.frac)


def transpose(node: Node, x: Tensor) -> Tensor:
    """Permute the axes; axis 0, the samples, stays."""
    return Tensor(x.codes.transpose(node.attrs["perm"]), x.frac)


def pad(node: Node, x: Tensor) -> Tensor:
    """Put zeros around; `pads` has a (begin, end) for every axis after the samples."""
    return Tensor(np.pad(x.codes, ((0, 0), *node.attrs["pads"])), x.frac)


def upsample(node: Node, x: Tensor) -> Tensor:
    """Repeat every element `scales` times along each axis of the image."""
    codes = x.codes
    for axis, times in enumerate(node.attrs["scales"], start=2):
        codes = codes.repeat(times, axis)
    return Tensor(codes, x.frac)


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Add": add,
    "BipolarQuant": bipolar_quant,
    "Clip": clip,
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Flatten": flatten,
    "LeakyRelu": leaky_relu,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "Mul": mul,
    "MultiThreshold": multi_threshold,
    "Pad": pad,
    "Quant": quant,
    "Relu": relu,
    "Reshape": reshape,
    "Sub": sub,
    "SumPool": sum_pool,
    "Transpose": transpose,
    "Trunc": trunc,
    "Upsample": upsample,
}


def run_codes(
    program: Program, x: Tensor, watch: Callable[[str, Tensor], Any] | None = None
) -> Tensor:
    """Run `program` on codes; `watch(name, tensor)` sees every tensor as it is made."""
    tensors = {name: Tensor(c.codes, c.frac) for name, c in program.constants.items()}
    tensors[program.input] = x
    for node in program.nodes:
        tensors[node.output] = OPERATIONS[node.op](node, *(tensors[i] for i in node.inputs))
        if watch:
            watch(node.output, tensors[node.output])
    return tensors[program.output]


def run(program: Program, values: ArrayLike) -> NDArray[np.float64]:
    """Run `program` on real inputs (samples, *input_shape) and return real outputs.

    Raises:
        BadRequest: the shape is wrong, a value is NaN or infinite, or inputs of many bits are
            used unquantized.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape[1:] != program.input_shape:
        raise BadRequest(
            f"inputs have shape {values.shape[1:]}, the graph wants {program.input_shape}"
        )
    out = run_codes(program, read_input(program, values))
    return np.asarray(out.codes * 2.0**-out.frac, dtype=np.float64)
