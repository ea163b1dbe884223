"""A small convolution as one matrix, and its outputs in the order of the max-pool behind it."""

from math import prod

import numpy as np
from numpy.typing import NDArray

from fastml_kit.fixedpoint import Codes
from fastml_kit.graph import reference
from fastml_kit.graph.ir import Constant, Node, Tensor

#: A convolution is small if its matrix has at most so many elements, and at most so many for each
#: of its multiplications: then the matrix costs less than onnxruntime's small windows.
MAX_ELEMENTS, MAX_WASTE = 2**15, 16


def is_small(source: tuple[int, ...], made: tuple[int, ...], weights: Constant) -> bool:
    """Tell whether a convolution from shape `source` to shape `made` is faster as a matrix."""
    multiplications = weights.codes.size * prod(made[1:])
    return prod(source) * prod(made) <= min(MAX_ELEMENTS, MAX_WASTE * multiplications)


def matrix(node: Node, source: tuple[int, ...], weights: Constant) -> Codes:
    """Return the convolution `node` as (inputs, outputs): what it makes of each unit vector."""
    size = prod(source)
    unit_vectors = np.eye(size, dtype=np.int64).reshape(size, *source)
    made = reference.conv(node, Tensor(unit_vectors, 0), Tensor(weights.codes, weights.frac))
    return made.codes.reshape(size, -1)


def by_window(
    shape: tuple[int, ...], pool: Node | None, after: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return which of a tensor's elements meet in each window of `pool`.

    The tensor has `shape` before and `after` behind the pool. The answer has a row for each place
    in a window and a column for each window, so that the pool is a maximum over rows, which
    onnxruntime does faster than a MaxPool. Where there is no pool, or its windows do not lie side
    by side, it is one row of all elements.
    """
    whole = np.arange(prod(shape)).reshape(1, -1)
    if pool is None or pool.op != "MaxPool":
        return whole
    kernel, attrs = pool.attrs["kernel_shape"], pool.attrs
    apart = tuple(attrs["strides"]) == tuple(kernel) and max(attrs.get("dilations") or (1,)) == 1
    tiled = tuple(n // k for n, k in zip(shape[1:], kernel, strict=True)) == after[1:]
    if not apart or not tiled or any(attrs["pads"]):
        return whole
    kept = (slice(n * k) for n, k in zip(after[1:], kernel, strict=True))
    cropped = whole.reshape(shape)[(slice(None), *kept)]
    pairs = [side for n, k in zip(after[1:], kernel, strict=True) for side in (n, k)]
    places = range(2, 2 + 2 * len(kernel), 2)
    grouped = np.moveaxis(cropped.reshape(shape[0], *pairs), places, range(len(kernel)))
    return grouped.reshape(prod(kernel), -1)
