"""Batch normalization: folded into the weights before it, or kept as a factor and an offset.

The factor is computed as Keras computes it, in float32, and taken only if it comes out as a
short binary fraction. With Keras's default epsilon that never happens: 1/sqrt(2**k + 0.001) is no
power of two. QBatchNormalization, whose quantizers make powers of two, is exact with an epsilon
that float32 drops (1e-12).
"""

from typing import Any

import numpy as np

from fastml_kit.graph.export.constants import (
    quantized,
    refuse_noise,
    smallest_grid,
)
from fastml_kit.graph.export.linear import by_channel, convolution
from fastml_kit.graph.export.quantizers import activate
from fastml_kit.graph.export.site import Affine, Array, Site, Value, fraction_bits

#: A factor of more bits than this is taken for a rounded real number.
FACTOR_BITS = 16


def affine_of(layer: Any) -> Affine | None:
    """Return what a batch normalization computes, by channel; None if that is not exact."""
    import tensorflow as tf

    gamma, beta, mean, variance = _statistics(layer)
    factor = tf.math.rsqrt(variance + layer.epsilon)
    if gamma is not None:
        factor = factor * gamma
    beta = np.zeros(mean.shape) if beta is None else beta
    affine = Affine(*(np.asarray(v, dtype=np.float64) for v in (factor, mean, beta)))
    terms = (affine.factor, affine.center, affine.shift, affine.offset)
    return affine if all(_short(term) for term in terms) else None


def _short(values: Array) -> bool:
    """Tell whether all of `values` are codes of one grid of few bits."""
    if not np.isfinite(values).all():
        return False
    scaled = np.abs(values) * 2.0 ** fraction_bits(values)
    return bool(scaled.max(initial=0) < 2**FACTOR_BITS)


def _statistics(layer: Any) -> tuple[Any, Any, Any, Any]:
    """Return gamma, beta, moving mean and moving variance, quantized if the layer does that."""
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    values = [getattr(layer, name, None) for name in names]
    if type(layer).__name__ == "QBatchNormalization":
        quantizers = [
            getattr(layer, f"{name}_quantizer_internal")
            for name in ("gamma", "beta", "mean", "variance")
        ]
        for quantizer in quantizers:
            refuse_noise(quantizer, layer.name)
        values = [
            value if value is None or quantizer is None else quantizer(value)
            for value, quantizer in zip(values, quantizers, strict=True)
        ]
    gamma, beta, mean, variance = values
    return gamma, beta, mean, variance


def batch_norm(site: Site, value: Value) -> Value:
    """Write a batch normalization that was not folded into the layer before it."""
    layer = site.layer
    axis = list(layer.axis) if hasattr(layer.axis, "__iter__") else [layer.axis]
    rank = len(value.shape)
    if axis not in ([rank], [-1]):
        site.inexact(f"{layer.name} normalizes along axis {axis}; the last one is supported")
    affine = affine_of(layer)
    order = value.order() if rank == 1 else slice(None)
    if affine is None:
        site.inexact(
            f"{layer.name} multiplies by gamma / sqrt(variance + epsilon), which is no short "
            f"binary fraction with epsilon={layer.epsilon:g}; use QConv2DBatchnorm, or "
            "QBatchNormalization with epsilon=1e-12"
        )
        return _float_batch_norm(site, value, order)
    column = (-1, *(1,) * (rank - 1))
    factor, offset = (v[order].reshape(column) for v in (affine.factor, affine.offset))
    tensor = value.tensor
    if np.any(factor != 1):
        grid = smallest_grid(factor, f"{layer.name}'s factor")
        tensor = site.node("Mul", tensor, grid.write(site, "factor"), part="mul")
    grid = smallest_grid(offset, f"{layer.name}'s offset")
    tensor = site.node("Add", tensor, grid.write(site, "offset"), part="add")
    site.notes.detours[tensor] = affine.detour(0.0)
    return Value(tensor, value.shape, value.parts)


def _float_batch_norm(site: Site, value: Value, order: Any) -> Value:
    gamma, beta, mean, variance = _statistics(site.layer)
    ones = np.ones(mean.shape)
    values = (ones if gamma is None else gamma, 0 * ones if beta is None else beta, mean, variance)
    names = [
        site.constant(part, np.asarray(v)[order])
        for part, v in zip(("scale", "bias", "mean", "variance"), values, strict=True)
    ]
    tensor = site.node("BatchNormalization", value, *names, epsilon=float(site.layer.epsilon))
    return Value(tensor, value.shape, value.parts)


def folded_conv(site: Site, value: Value) -> Value:
    """Write a QConv2DBatchnorm or QDepthwiseConv2DBatchnorm layer.

    In both folding modes it predicts with its moving statistics: kernel and bias are folded in
    float, then quantized.
    """
    import tensorflow as tf

    layer = site.layer
    norm = layer.batchnorm
    depthwise = hasattr(layer, "depthwise_kernel")
    part = "depthwise" if depthwise else "kernel"
    kernel = layer.depthwise_kernel if depthwise else layer.kernel
    inverse = tf.math.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.gamma is not None:
        inverse = inverse * norm.gamma
    bias = layer.bias if layer.use_bias else 0
    folded_bias = inverse * (bias - norm.moving_mean) + norm.beta
    shaped = tf.reshape(inverse, kernel.shape[2:]) if depthwise else inverse
    weights = quantized(site, part, shaped * kernel, getattr(layer, f"{part}_quantizer_internal"))
    offset = quantized(site, "bias", folded_bias, layer.bias_quantizer_internal)
    if depthwise:
        value = convolution(site, value, weights.map(by_channel), offset, group=value.shape[-1])
    else:
        weights = weights.map(lambda w: w.transpose(3, 2, 0, 1))
        value = convolution(site, value, weights, offset)
    return activate(site, value)
