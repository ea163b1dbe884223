"""Activations made of straight lines: QKeras's hard and smooth sigmoid, and what is built on it.

They are written as the multiplication, addition and bounds that QKeras computes, then one Quant.
"""

from typing import Any

from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph.export.site import Site, Value


def _slope(where: str) -> float:
    """Return the slope of QKeras's sigmoid in the middle: it is a setting of the library."""
    from qkeras import quantizers

    slopes = {"hard_sigmoid": 0.5, "smooth_sigmoid": 0.1875}
    name = getattr(quantizers._sigmoid, "__name__", "")
    if name not in slopes:
        raise UnsupportedModel(
            f"{where} uses the real sigmoid, which no grid describes exactly; "
            "call qkeras.quantizers.set_internal_sigmoid('hard')"
        )
    return slopes[name]


def line(site: Site, tensor: str, slope: float, offset: float, part: str) -> str:
    """Write ``slope * x + offset``."""
    factor = site.constant(sub(part, "slope"), slope)
    tensor = site.node("Mul", tensor, factor, part=sub(part, "line"))
    return site.node(
        "Add", tensor, site.constant(sub(part, "offset"), offset), part=sub(part, "shifted")
    )


def clip(site: Site, tensor: str, low: float, high: float, part: str) -> str:
    """Write bounds that the Quant behind them does not have."""
    bounds = [site.constant(sub(part, n), v) for n, v in (("low", low), ("high", high))]
    return site.node("Clip", tensor, *bounds, part=sub(part, "clip"))


def sigmoid_relu(site: Site, value: Value, q: Any, part: str, where: str) -> str:
    """Write a quantized_relu with use_sigmoid: twice what the sigmoid is above a half."""
    if float(q.negative_slope) or (q.relu_upper_bound and not q.is_quantized_clip):
        raise UnsupportedModel(
            f"{where} uses quantized_relu with use_sigmoid and a slope or bound; use one of them"
        )
    bits, integer = int(q.bits), int(q.integer)
    # A sigmoid on a grid of `bits` bits, doubled and moved down by one, in units of 2**integer.
    tensor = line(site, value.tensor, _slope(where) * 2.0**-integer, 0.5, part)
    tensor = clip(site, tensor, 0.0, 1.0, sub(part, "unit"))
    tensor = quantize(site, tensor, FixedSpec(bits + 1, 1, signed=False), sub(part, "sigmoid"))
    tensor = line(site, tensor, 2.0 ** (integer + 1), -(2.0**integer), sub(part, "back"))
    return clip(site, tensor, 0.0, 2.0**integer - 2.0 ** (integer - bits), part)


def sigmoid(site: Site, value: Value, q: Any, part: str, where: str) -> str:
    """Write a quantized_sigmoid."""
    if q.use_real_sigmoid:
        raise UnsupportedModel(
            f"{where} uses the real sigmoid, which no grid describes exactly; "
            "use use_real_sigmoid=False"
        )
    bits = int(q.bits)
    tensor = line(site, value.tensor, _slope(where), 0.5, part)
    if q.symmetric:
        tensor = clip(site, tensor, 2.0**-bits, 1 - 2.0**-bits, part)
    return quantize(site, tensor, FixedSpec(bits, 0, signed=False), part)


def tanh(site: Site, value: Value, q: Any, part: str, where: str) -> str:
    """Write a quantized_tanh, which is twice the sigmoid, less one."""
    if q.use_real_tanh:
        raise UnsupportedModel(
            f"{where} uses the real tanh, which no grid describes exactly; use use_real_tanh=False"
        )
    if (bits := int(q.bits)) < 2:
        raise UnsupportedModel(
            f"{where} has one bit, for -1 and 0 only; use two or more, or binary"
        )
    tensor = line(site, value.tensor, _slope(where), 0.5, part)
    tensor = line(site, tensor, 2.0, -1.0, sub(part, "tanh"))
    return quantize(site, tensor, FixedSpec(bits, 1, narrow=bool(q.symmetric)), part)


def sub(part: str, name: str) -> str:
    """Return the name of a part's part."""
    return f"{part}_{name}" if part else name


def quantize(site: Site, tensor: str, spec: FixedSpec, part: str, rounding: str = "ROUND") -> str:
    """Write a Quant of this layer, or of a `part` of it."""
    return site.out.quantize(site.part(part), spec, source=tensor, rounding=rounding)
