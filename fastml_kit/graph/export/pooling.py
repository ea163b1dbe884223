"""Pooling: maxima as they are; averages only where the division is exact or a Quant follows.

TensorFlow adds up a window and divides by its size. By a power of two that is exact. Otherwise
the quotient is rounded once, and a Quant that reads it gives the code of the true quotient:
distinct quotients lie further apart than the rounding moves them, and one that is a tie is a
binary fraction, which no rounding moves (`exactness` makes sure of the bounds this needs).
"""

from math import prod

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.export.linear import box, window_pads
from fastml_kit.graph.export.quantizers import activate
from fastml_kit.graph.export.site import Shape, Site, Value, channel_first_shape


def max_pool(site: Site, value: Value) -> Value:
    """Write a MaxPooling1D or 2D layer."""
    return _windows(site, value, "MaxPool", site.layer.padding)


def average_pool(site: Site, value: Value) -> Value:
    """Write an AveragePooling1D or 2D layer, or QAveragePooling2D."""
    layer = site.layer
    size, strides = _tuple(layer.pool_size), _tuple(layer.strides)
    pads = window_pads(layer.padding, value.shape[:-1], size, strides, (1,) * len(size))
    if any(pads):
        raise UnsupportedModel(
            f"{layer.name}: padding 'same' makes windows of different sizes at the border; "
            "use padding 'valid' behind a ZeroPadding layer"
        )
    if getattr(layer, "average_quantizer", None):
        weight = _quantized_average(site, prod(size))
        if weight * prod(size) != 1:
            return activate(site, box(site, value, weight, size))
    value = _windows(site, value, "AveragePool", "valid")
    return activate(site, _divided(site, value, prod(size)))


def global_pool(site: Site, value: Value) -> Value:
    """Write a global pooling layer, of maxima or averages, or QGlobalAveragePooling2D."""
    layer = site.layer
    kind = "GlobalMaxPool" if "Max" in type(layer).__name__ else "GlobalAveragePool"
    size = value.shape[:-1]
    quantized = getattr(layer, "average_quantizer", None)
    weight = _quantized_average(site, prod(size)) if quantized else None
    if weight is not None and weight * prod(size) != 1:
        pooled = box(site, value, weight, size)
    else:
        shape = (value.shape[-1], *(1,) * len(size))
        if kind == "GlobalMaxPool":  # a MaxPool of the image's size says the same
            zeros = [0] * (2 * len(size))
            tensor = site.node(
                "MaxPool",
                value,
                shape=shape,
                kernel_shape=list(size),
                pads=zeros,
                strides=[1] * len(size),
            )
        else:
            tensor = site.node(kind, value, shape=shape)
        pooled = Value(tensor, (*(1,) * len(size), value.shape[-1]))
        if kind == "GlobalAveragePool":
            pooled = _divided(site, pooled, prod(size))
    if not layer.keepdims:
        average = site.notes.odd.pop(pooled.tensor, None)
        shape = (value.shape[-1],)
        pooled = Value(site.node("Flatten", pooled, part="flat", shape=shape, axis=1), shape)
        if average:
            site.notes.odd[pooled.tensor] = average
    return activate(site, pooled)


def _windows(site: Site, value: Value, op: str, padding: str) -> Value:
    size, strides = _tuple(site.layer.pool_size), _tuple(site.layer.strides)
    pads = window_pads(padding, value.shape[:-1], size, strides, (1,) * len(size))
    tensor = site.node(
        op,
        value,
        shape=channel_first_shape(site.shape),
        kernel_shape=list(size),
        strides=list(strides),
        pads=list(pads),
    )
    return Value(tensor, site.shape)


def _divided(site: Site, value: Value, count: int) -> Value:
    """Note a division that is not exact, for the Quant that must follow."""
    if count & (count - 1):
        site.notes.odd[value.tensor] = (
            f"the average of {count} elements that {site.layer.name} makes"
        )
    return value


def _quantized_average(site: Site, count: int) -> float:
    """Return the quantized 1/count that QKeras multiplies sums with.

    QKeras computes ``(sum / count) * count * weight`` in float, and TensorFlow may multiply the
    constants first: that is ``sum * weight`` only where the division is exact.
    """
    layer = site.layer
    if count & (count - 1):
        site.inexact(
            f"{layer.name} averages {count} elements with an average_quantizer, where QKeras's "
            f"(sum / {count}) * {count} rounds; use a window of a power of two, or leave out the "
            "average_quantizer and put a QActivation behind"
        )
    return float(np.asarray(layer.average_quantizer_internal(1.0 / count)))


def _tuple(value: int | Shape) -> Shape:
    return (value,) if isinstance(value, int) else tuple(value)
