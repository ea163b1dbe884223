"""Wires for da4ml: which element of a tensor goes where, and what slides over images and series.

No shape rule is written twice: the reference engine itself is run on the elements' numbers, and
says with its answer which element each place of the result shows.
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.graph import reference
from fastml_kit.graph.ir import Node, Tensor

Indices = NDArray[np.int64]


def move(node: Node, x: Any) -> Any:
    """Carry out an operation that only moves elements, or puts zeros between them."""
    numbers = np.arange(1, x.size + 1).reshape(x.shape)
    return _with_zero(x.ravel())[reference.OPERATIONS[node.op](node, Tensor(numbers, 0)).codes]


def conv(node: Node, x: Any, weights: NDArray[np.float64], *bias: NDArray[np.float64]) -> Any:
    """Convolve, or convolve transposed: each window a row, times the same constant matrix."""
    size, groups = weights.shape[2:], node.attrs["group"]
    seen = windows(node, x.shape[2:], size)
    planes = _with_zero(x.reshape(x.shape[1], -1))
    if node.op == "Conv":
        weights = weights.swapaxes(0, 1)  # (inputs of a group, outputs, ...)
        parts = np.split(weights, groups, axis=1)
    else:
        parts = np.split(weights, groups)
    inside, found = len(planes) // groups, []
    for group, kernels in enumerate(parts):
        views = planes[group * inside : (group + 1) * inside][:, seen]  # (inputs, *positions, taps)
        order = (*range(1, seen.ndim), 0, seen.ndim)
        rows = views.transpose(order).reshape(-1, inside * prod(size))
        matrix = kernels.swapaxes(0, 1).reshape(kernels.shape[1], -1).T
        found.append((rows @ matrix).T)
    y = np.concatenate(found).reshape(1, -1, *seen.shape[:-1])
    return y + bias[0].reshape(1, -1, *(1,) * len(size)) if bias else y


def max_pool(node: Node, x: Any) -> Any:
    """Take each window's largest element; what lies beyond the edge never wins.

    da4ml 0.6.0 compares wrongly with a constant that it keeps negated: those are made anew.
    """
    from da4ml.trace import FixedVariableArray

    plain = np.empty(x.size, dtype=object)
    plain[:] = [v.from_const(v.low, hwconf=v.hwconf) if v.low == v.high else v for v in x.ravel()]
    return _reduce(node, FixedVariableArray(plain.reshape(x.shape), hwconf=x.hwconf), np.amax)


def sum_pool(node: Node, x: Any) -> Any:
    """Add up each window, and move the point by the powers of two in an average's divisor."""
    return _reduce(node, x, np.sum) * 2.0 ** -node.attrs["shift"]


def windows(node: Node, image: tuple[int, ...], size: tuple[int, ...]) -> Indices:
    """Return what each position sees through each tap of a kernel: (*positions, taps).

    Elements of the image (one channel) count from 1; 0 is where nothing lies. The reference
    engine convolves the numbers with a kernel that is one at that tap and zero elsewhere.
    """
    rank = len(size)
    numbers = Tensor(np.arange(1, prod(image) + 1).reshape(1, 1, *image), 0)
    attrs = {"dilations": (1,) * rank, **node.attrs, "group": 1}
    plain = Node(node.op, node.name, node.inputs[:1], node.output, attrs)
    slide = reference.conv_transpose if node.op == "ConvTranspose" else reference.conv
    taps = np.eye(prod(size), dtype=np.int64).reshape(-1, 1, 1, *size)
    return np.stack([slide(plain, numbers, Tensor(tap, 0)).codes[0, 0] for tap in taps], axis=-1)


def products(node: Node, image: tuple[int, ...], weights: NDArray[Any]) -> int:
    """Return how many products with a weight that is not zero a transposed convolution adds up."""
    seen = windows(node, image, weights.shape[2:])
    at_tap = (seen > 0).reshape(-1, seen.shape[-1]).sum(axis=0)
    live = np.count_nonzero(weights, axis=(0, 1)).ravel()
    return int(at_tap @ live)


def _reduce(node: Node, x: Any, join: Any) -> Any:
    from da4ml.trace import FixedVariableArray

    seen = windows(node, x.shape[2:], tuple(node.attrs["kernel_shape"]))
    planes = x.reshape(x.shape[1], -1)
    out = np.empty((1, len(planes), *seen.shape[:-1]), dtype=object)
    for place in np.ndindex(out.shape):
        inside = seen[place[2:]]
        views = planes[place[1]][inside[inside > 0] - 1]
        out[place] = join(views.reshape(1, -1), axis=1)[0] if len(views) else 0.0
    return FixedVariableArray(out, hwconf=x.hwconf)


def _with_zero(x: Any) -> Any:
    """Return `x` with a zero at index 0 of its last axis."""
    return np.concatenate([np.zeros((*x.shape[:-1], 1)), x], axis=-1)
