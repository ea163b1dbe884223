"""Layers that move elements and change none: in Keras's order, though the graph is channel first.

Where a layer's meaning depends on the order (Reshape, the model's output), the graph is turned
to channels last and back; where only weights depend on it (a dense layer behind Flatten), they
are permuted instead, see `Value.order`.
"""

from collections.abc import Callable
from math import prod

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.export.site import Site, Value, channel_first_shape


def nothing(site: Site, value: Value) -> Value:
    """Write nothing: the layer changes no value when the model predicts."""
    return value


def flatten(site: Site, value: Value) -> Value:
    """Write a Flatten layer; the graph's order is channel first and noted in the value."""
    shape = (prod(value.shape),)
    if len(value.shape) == 1:
        return value
    tensor = site.node("Flatten", value, shape=shape, axis=1)
    ordered = value.shape[-1] == 1 or prod(value.shape[:-1]) == 1
    return Value(tensor, shape, () if ordered else (channel_first_shape(value.shape),))


def reshape(site: Site, value: Value) -> Value:
    """Write a Reshape layer: elements keep the order that Keras has them in."""
    shape = site.shape
    tensor = in_keras_order(site, value)
    if len(shape) == 1:
        return Value(_reshape(site, tensor, shape, ""), shape)
    if shape[-1] == 1 or prod(shape[:-1]) == 1:
        return Value(_reshape(site, tensor, channel_first_shape(shape), ""), shape)
    tensor = _reshape(site, tensor, shape, "")
    rank = len(shape)
    tensor = _transpose(site, tensor, (rank, *range(1, rank)), "channels")
    return Value(tensor, shape)


def in_keras_order(site: Site, value: Value) -> str:
    """Return a tensor whose elements are in Keras's order, in any shape."""
    if len(value.shape) == 1:
        if not value.parts:
            return value.tensor
        if len(value.parts) > 1:
            raise UnsupportedModel(
                f"{site.layer.name} reads flattened images that were joined, in an order that "
                "the graph has changed; join them before Flatten, or put a QDense between"
            )
        (c, *spatial) = value.parts[0]
        tensor = _reshape(site, value.tensor, (c, *spatial), "image")
        return _channels_last(site, tensor, len(spatial))
    if value.shape[-1] == 1 or prod(value.shape[:-1]) == 1:
        return value.tensor
    return _channels_last(site, value.tensor, len(value.shape) - 1)


def vector_in_keras_order(site: Site, value: Value) -> Value:
    """Return a vector in Keras's order, as the model's output must be."""
    if not value.parts:
        return value
    tensor = in_keras_order(site, value)
    tensor = site.node("Flatten", tensor, part="ordered", shape=value.shape, axis=1)
    return Value(tensor, value.shape)


def _channels_last(site: Site, tensor: str, spatial: int) -> str:
    return _transpose(site, tensor, (*range(2, spatial + 2), 1), "last")


def _transpose(site: Site, tensor: str, perm: tuple[int, ...], part: str) -> str:
    """Write a Transpose; `perm` counts the batch as axis 0 and leaves it out."""
    shape = site.out.shapes[tensor]
    shape = tuple(shape[axis - 1] for axis in perm)
    return site.node("Transpose", tensor, part=part, shape=shape, perm=[0, *perm])


def _reshape(site: Site, tensor: str, shape: tuple[int, ...], part: str) -> str:
    target = site.constant(f"{part}_shape" if part else "shape", [-1, *shape], np.int64)
    return site.node("Reshape", tensor, target, part=part, shape=shape)


def permute(site: Site, value: Value) -> Value:
    """Write a Permute layer; its `dims` speak of Keras's axes, from 1."""
    rank = len(value.shape)
    last_to_first = (rank, *range(1, rank))  # graph axis -> Keras axis
    graph_axis = {keras_axis: i for i, keras_axis in enumerate(last_to_first, start=1)}
    dims = tuple(site.layer.dims)
    perm = tuple(graph_axis[dims[axis - 1]] for axis in last_to_first)
    if perm == tuple(range(1, rank + 1)):
        return value
    return Value(_transpose(site, value.tensor, perm, ""), site.shape)


def zero_padding(site: Site, value: Value) -> Value:
    """Write a ZeroPadding1D or 2D layer."""
    pairs = site.layer.padding
    pairs = (pairs,) if isinstance(pairs[0], int) else pairs
    before, after = zip(*pairs, strict=True)
    pads = site.constant("pads", [0, 0, *before, 0, 0, *after], np.int64)
    tensor = site.node("Pad", value, pads, shape=channel_first_shape(site.shape), mode="constant")
    return Value(tensor, site.shape)


def up_sampling(site: Site, value: Value) -> Value:
    """Write an UpSampling1D or 2D layer that repeats elements."""
    layer = site.layer
    if getattr(layer, "interpolation", "nearest") != "nearest":
        raise UnsupportedModel(
            f"{layer.name}: interpolation {layer.interpolation!r} is not exact; use 'nearest'"
        )
    size = layer.size if isinstance(layer.size, tuple) else (layer.size,)
    scales = site.constant("scales", [1.0, 1.0, *size])
    tensor = site.node(
        "Resize",
        value,
        "",
        scales,
        shape=channel_first_shape(site.shape),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    return Value(tensor, site.shape)


def merge(op: str) -> Callable[..., Value]:
    """Return the writer of a layer that combines tensors of one shape, element by element."""

    def write(site: Site, first: Value, *others: Value) -> Value:
        for other in others:
            if other.shape != first.shape:
                raise UnsupportedModel(
                    f"{site.layer.name} combines shapes {first.shape} and {other.shape}; "
                    "equal shapes are supported"
                )
        if any(other.parts != first.parts for other in others):
            raise UnsupportedModel(
                f"{site.layer.name} combines a flattened image with another vector; "
                "put Flatten behind it instead"
            )
        value = first
        for number, other in enumerate(others):
            part = str(number) if number < len(others) - 1 else ""
            value = Value(site.node(op, value, other.tensor, part=part), first.shape, first.parts)
        return value

    return write


def concatenate(site: Site, *values: Value) -> Value:
    """Write a Concatenate layer along any axis but the batch."""
    rank = len(site.shape)
    axis = site.layer.axis % (rank + 1)
    if axis == 0:
        raise UnsupportedModel(f"{site.layer.name} joins samples; axes from 1 are supported")
    if rank == 1:
        parts: tuple[tuple[int, ...], ...] = ()
        if any(value.parts for value in values):
            parts = tuple(part for value in values for part in value.parts or (value.shape,))
        shape, graph_axis = site.shape, 1
    else:
        parts, shape = (), channel_first_shape(site.shape)
        graph_axis = 1 if axis == rank else axis + 1
    first, *rest = values
    tensor = site.node("Concat", first, *(v.tensor for v in rest), shape=shape, axis=graph_axis)
    return Value(tensor, site.shape, parts)
