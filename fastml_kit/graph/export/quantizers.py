"""Activations: each QKeras quantizer as the nodes that compute exactly its function.

Most are one Quant node, whose grid must be uniform and a power of two. Others need a node or two
around it: a slope, a bound that is not the grid's, a piecewise linear sigmoid.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph.export.constants import powers_of_two, refuse_noise
from fastml_kit.graph.export.logits import HOST_FUNCTIONS
from fastml_kit.graph.export.piecewise import clip, quantize, sigmoid, sigmoid_relu, sub, tanh
from fastml_kit.graph.export.site import Site, Value
from fastml_kit.graph.writer import INPUT, QONNX_DOMAIN

HINT = "use quantized_bits, quantized_relu, quantized_tanh or quantized_sigmoid"


def quantizer_spec(quantizer: Any, where: str) -> FixedSpec:
    """Return the format of a QKeras quantizer whose grid is uniform and a power of two.

    Raises:
        UnsupportedModel: the quantizer has no such format; names what to use instead.
    """
    kind = type(quantizer).__name__
    refuse_noise(quantizer, where)
    if kind == "quantized_bits":
        bits, signed = int(quantizer.bits), bool(quantizer.keep_negative)
        if quantizer.alpha is not None and not _is_one(quantizer.alpha):
            raise UnsupportedModel(
                f"{where} uses quantized_bits with alpha={quantizer.alpha!r}; use alpha=1"
            )
        if bits - signed < 1:
            raise UnsupportedModel(
                f"{where} has {bits} bits, which QKeras makes binary; use two or more"
            )
        narrow = bool(quantizer.symmetric) and signed
        return FixedSpec(bits, int(quantizer.integer) + signed, signed, narrow)
    if kind == "quantized_relu":
        odd = {"use_sigmoid", "negative_slope", "relu_upper_bound"}
        if quantizer.is_quantized_clip:
            odd.remove("relu_upper_bound")
        if used := sorted(name for name in odd if getattr(quantizer, name)):
            raise UnsupportedModel(f"{where} uses quantized_relu with {used}; use the plain form")
        return FixedSpec(int(quantizer.bits), int(quantizer.integer), signed=False)
    raise UnsupportedModel(
        f"{where} uses {kind}; a single format describes quantized_bits(alpha=1), quantized_relu"
    )


def _is_one(alpha: Any) -> bool:
    return not isinstance(alpha, str) and np.ndim(alpha) == 0 and float(alpha) == 1.0


def activate(site: Site, value: Value) -> Value:
    """Write a layer's own activation, if it has one."""
    activation = getattr(site.layer, "activation", None)
    return value if activation is None else apply(site, value, activation, "activation")


def apply(site: Site, value: Value, activation: Any, part: str = "") -> Value:
    """Write `activation`, a quantizer or one of Keras's functions, under the layer's name.

    Raises:
        UnsupportedModel: it has no exact form; names what to use instead.
    """
    where = site.part(part) if not part else f"{site.layer.name}'s activation"
    kind = type(activation).__name__
    if kind in QUANTIZERS:
        refuse_noise(activation, where)
        tensor = QUANTIZERS[kind](site, value, activation, part, where)
        return Value(tensor, value.shape, value.parts)
    name = getattr(activation, "__name__", kind)
    if name == "linear":
        return value
    if name == "relu":
        return Value(site.node("Relu", value, part=sub(part, "relu")), value.shape, value.parts)
    if name in HOST_FUNCTIONS and site.last:
        site.notes.host.append(f"{site.layer.name}: {name}")
        return value
    if name == "softmax":
        raise UnsupportedModel(
            f"{where} is a softmax inside the model; only as the last layer can the host compute it"
        )
    raise UnsupportedModel(f"{where} is {name}, which no grid describes exactly; {HINT}")


def _bits(site: Site, value: Value, q: Any, part: str, where: str) -> str:
    alpha = 1.0 if q.alpha is None else q.alpha
    if isinstance(alpha, str) or np.ndim(alpha):
        raise UnsupportedModel(
            f"{where} uses quantized_bits with alpha={q.alpha!r}, so that its scale depends on "
            "the batch or the channel; use alpha=1"
        )
    bits, signed = int(q.bits), bool(q.keep_negative)
    if bits - signed < 1:
        if not signed:
            raise UnsupportedModel(f"{where} has {bits} bits; use one or more")
        return _bipolar(site, value, float(alpha), part, where)
    narrow = bool(q.symmetric) and signed
    spec = FixedSpec(bits, int(q.integer) + signed, signed, narrow)
    tensor = quantize(site, value.tensor, spec, part)
    return tensor if float(alpha) == 1.0 else _times(site, tensor, float(alpha), part, where)


def _times(site: Site, tensor: str, alpha: float, part: str, where: str) -> str:
    if not powers_of_two(np.abs(alpha)):
        site.inexact(f"{where} has alpha={alpha:g}, which is no power of two; use alpha=1")
    else:
        site.notes.shrunk[tensor] = -round(np.log2(abs(alpha)))
    factor = site.constant(sub(part, "alpha"), alpha)
    return site.node("Mul", tensor, factor, part=sub(part, "scaled"))


def _relu(site: Site, value: Value, q: Any, part: str, where: str) -> str:
    bits, integer, slope = int(q.bits), int(q.integer), float(q.negative_slope)
    count = bits - (slope != 0)  # bits of a positive value
    step, top = 2.0 ** (integer - count), 2.0**integer - 2.0 ** (integer - count)
    if count < 1:
        raise UnsupportedModel(f"{where} has no bit for positive values; use more bits")
    bound = None if q.is_quantized_clip else q.relu_upper_bound
    if bound and float(bound) % step and float(bound) < top:
        raise UnsupportedModel(
            f"{where}: relu_upper_bound={bound} is no multiple of its step {step:g}; "
            f"use {step * round(bound / step):g}, or is_quantized_clip=True"
        )
    high = min(top, float(bound)) if bound else top
    if q.use_sigmoid:
        return sigmoid_relu(site, value, q, part, where)
    tensor, low = value.tensor, 0.0
    if slope:
        low = -slope * 2.0**integer
        if low % step:
            raise UnsupportedModel(
                f"{where}: negative_slope={slope:g} needs at least {1 / slope:g} levels, and "
                f"{bits} bits have {2**count} positive ones; use more bits"
            )
        if slope != 1:
            tensor = site.node("LeakyRelu", tensor, part=sub(part, "slope"), alpha=slope)
    elif tensor != INPUT and tensor not in site.notes.odd:  # both need a Quant to read them
        tensor = site.node("Relu", tensor, part=sub(part, "relu"))
    spec = FixedSpec.spanning(round(low / step), round(top / step), count - integer)
    if (low, high) != (spec.low * step, spec.high * step):
        tensor = clip(site, tensor, low, high, part)
    return quantize(site, tensor, spec, part)


def _scale_of(q: Any, where: str) -> float:
    alpha = 1.0 if q.alpha is None else q.alpha
    if isinstance(alpha, str) or np.ndim(alpha):
        raise UnsupportedModel(
            f"{where} uses {type(q).__name__} with alpha={q.alpha!r}, so that its scale depends "
            "on the batch or the channel; use alpha=1"
        )
    return float(alpha)


def _bipolar(site: Site, value: Value, alpha: float, part: str, where: str) -> str:
    if not powers_of_two(np.asarray(alpha)):
        site.inexact(f"{where} has alpha={alpha:g}, which is no power of two; use alpha=1")
    site.refuse_odd(value.tensor)
    return site.out.bipolar(site.part(part), value.tensor, alpha)


def _binary(site: Site, value: Value, q: Any, part: str, where: str) -> str:
    alpha = _scale_of(q, where)
    if getattr(q, "use_stochastic_rounding", False):
        raise UnsupportedModel(
            f"{where}: QKeras's binary fails on data with use_stochastic_rounding; leave it off"
        )
    if not getattr(q, "use_01", False):
        return _bipolar(site, value, alpha, part, where)
    return _steps(site, value, [0.0], alpha, 0.0, part, where)


def _ternary(site: Site, value: Value, q: Any, part: str, where: str) -> str:
    alpha = _scale_of(q, where)
    threshold = np.float32(q.default_threshold if q.threshold is None else q.threshold)
    # x > -t is x >= the float that follows -t
    above = np.nextafter(-threshold, np.float32(1), dtype=np.float32)
    return _steps(site, value, [float(above), float(threshold)], alpha, -alpha, part, where)


def _steps(
    site: Site,
    value: Value,
    thresholds: list[float],
    step: float,
    base: float,
    part: str,
    where: str,
) -> str:
    """Write ``base + step * (how many thresholds x has reached)``."""
    if not powers_of_two(np.asarray(step)):
        site.inexact(f"{where} has alpha={step:g}, which is no power of two; use alpha=1")
    name = site.constant(sub(part, "thresholds"), np.array([thresholds]))
    return site.node(
        "MultiThreshold",
        value,
        name,
        part=part,
        domain=QONNX_DOMAIN,
        out_dtype="INT2" if base < 0 else "BINARY",
        out_scale=step,
        out_bias=base,
        data_layout=("NC", "NCW", "NCHW")[len(value.shape) - 1],
    )


def _none(site: Site, value: Value, q: Any, part: str, where: str) -> str:
    raise UnsupportedModel(
        f"{where} uses {type(q).__name__}, whose values lie on no uniform grid; {HINT}"
    )


QUANTIZERS: dict[str, Callable[[Site, Value, Any, str, str], str]] = {
    "bernoulli": _none,
    "binary": _binary,
    "quantized_bits": _bits,
    "quantized_hswish": _none,
    "quantized_po2": _none,
    "quantized_relu": _relu,
    "quantized_relu_po2": _none,
    "quantized_sigmoid": sigmoid,
    "quantized_tanh": tanh,
    "quantized_ulaw": _none,
    "stochastic_binary": _binary,
    "stochastic_ternary": _ternary,
    "ternary": _ternary,
}
