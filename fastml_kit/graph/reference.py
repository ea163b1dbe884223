"""The reference engine: a QONNX graph in integer arithmetic, small enough to read.

Every tensor is an int64 array of codes with a count of fractional bits. The only rounding is in
Quant; everything else is exact. Accumulators are bounded by `graph.ranges`, which refuses a
graph whose sums could leave int64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest
from fastml_kit.fixedpoint import Codes, shift
from fastml_kit.graph.program import Node, Program


@dataclass(frozen=True)
class Tensor:
    """Integer codes of shape (samples, ...); value = codes * 2**-frac."""

    codes: Codes
    frac: int

    def aligned(self, frac: int) -> Codes:
        """Return the codes with `frac` fractional bits, at least as many as now."""
        return shift(self.codes, self.frac - frac)


def quant(node: Node, x: Tensor) -> Tensor:
    """Round and saturate to the node's format."""
    spec = node.attrs["spec"]
    return Tensor(spec.requantize(x.codes, x.frac, node.attrs["rounding"]), spec.frac)


def matmul(node: Node, x: Tensor, w: Tensor) -> Tensor:
    """(samples, k) @ (k, m); products add their fractional bits."""
    return Tensor(x.codes @ w.codes, x.frac + w.frac)


def add(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Add after aligning the binary points."""
    frac = max(a.frac, b.frac)
    return Tensor(a.aligned(frac) + b.aligned(frac), frac)


def relu(node: Node, x: Tensor) -> Tensor:
    """Replace negative codes by zero."""
    return Tensor(np.maximum(x.codes, 0), x.frac)


def windows(x: Codes, size: tuple[int, int], strides: tuple[int, int]) -> Codes:
    """Return the windows of x (n, c, h, w) as (n, c, oh, ow, kh, kw)."""
    every: Codes = sliding_window_view(x, size, axis=(2, 3))
    return every[:, :, :: strides[0], :: strides[1]]


def conv(node: Node, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve x (n, c, h, w) with w (out, c/group, kh, kw); zeros around the edge."""
    top, left, bottom, right = node.attrs["pads"]
    padded = np.pad(x.codes, ((0, 0), (0, 0), (top, bottom), (left, right)))
    views = windows(padded, w.codes.shape[2:], node.attrs["strides"])
    groups = node.attrs["group"]
    parts = [
        np.einsum("nchwij,ocij->nohw", view, weights, optimize=True)
        for view, weights in zip(
            np.split(views, groups, axis=1), np.split(w.codes, groups), strict=True
        )
    ]
    out = Tensor(np.concatenate(parts, axis=1), x.frac + w.frac)
    return out if bias is None else add(node, out, Tensor(bias.codes[:, None, None], bias.frac))


def max_pool(node: Node, x: Tensor) -> Tensor:
    """Take the largest code of each window."""
    views = windows(x.codes, node.attrs["kernel_shape"], node.attrs["strides"])
    return Tensor(views.max(axis=(4, 5)), x.frac)


def flatten(node: Node, x: Tensor) -> Tensor:
    """Keep the samples, join the other axes in row-major (channel first) order."""
    return Tensor(x.codes.reshape(len(x.codes), -1), x.frac)


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "Add": add,
    "Conv": conv,
    "Flatten": flatten,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "Quant": quant,
    "Relu": relu,
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

    Inputs are read as integers with 24 fractional bits, which must hold them exactly.

    Raises:
        BadRequest: the shape is wrong, or an input needs more fractional bits.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape[1:] != program.input_shape:
        raise BadRequest(
            f"inputs have shape {values.shape[1:]}, the graph wants {program.input_shape}"
        )
    scaled = values * 2.0**INPUT_FRAC
    if not np.array_equal(scaled, np.round(scaled)) or np.abs(scaled).max(initial=0) > 2**52:
        raise BadRequest(f"some inputs are no multiple of 2**-{INPUT_FRAC}; quantize them first")
    out = run_codes(program, Tensor(scaled.astype(np.int64), INPUT_FRAC))
    return np.asarray(out.codes * 2.0**-out.frac, dtype=np.float64)


INPUT_FRAC = 24
