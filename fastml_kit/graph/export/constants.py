"""Weights as integers: what a layer's own quantizer makes of them, and the grid that holds it.

The quantizer itself is asked for the values that Keras computes with; then a grid of steps that
are powers of two is found on which all of them lie. So whatever a quantizer does inside (scales
from the data, powers of two, ternary thresholds), the file holds exactly its values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph.export.site import Array, Site, fraction_bits

#: float32 holds integers of this many bits, and so do all engines that compute in it.
FLOAT_BITS = 24


@dataclass(frozen=True)
class Constants:
    """Quantized weights: `values` are whole multiples of `scale`, one for each of them.

    Width, signedness and narrowness are those of `spec`; `bipolar` weights are +scale or -scale.
    Without a `spec` the weights are plain floats.
    """

    values: Array
    scale: Array
    spec: FixedSpec | None
    bipolar: bool = False

    def map(self, change: Callable[[Array], Array]) -> "Constants":
        """Return the weights in another shape or order; `change` moves elements only."""
        return Constants(change(self.values), change(self.scale), self.spec, self.bipolar)

    def scaled(self, factor: Array, where: str) -> "Constants":
        """Return the weights times `factor`, which broadcasts against them; exactly."""
        if self.spec is None:
            return plain(self.values * factor)
        if powers_of_two(factor):
            return Constants(self.values * factor, self.scale * factor, self.spec, self.bipolar)
        return smallest_grid(self.values * factor, where)

    def write(self, site: Site, part: str) -> str:
        """Write the weights as an initializer behind its quantizer; return that one's output."""
        name = site.part(part)
        if self.spec is None:
            return site.constant(part, self.values)
        scale = _smallest_shape(self.scale)
        if self.bipolar and scale.size == 1:
            initializer = site.constant(part, self.values)
            return site.out.bipolar(f"{name}_quant", initializer, scale.item())
        if scale.size == 1:
            # hls4ml reads scalars; FINN finds a bias by its scale of shape (1,).
            scale = scale.reshape((1,) if self.values.ndim == 1 else ())
        spec = FixedSpec(2, 2, narrow=True) if self.bipolar else self.spec
        return site.out.weight(name, self.values, spec, scale)


def quantized(site: Site, part: str, weights: Any, quantizer: Any) -> Constants:
    """Return what `quantizer` makes of `weights`, in the layout that Keras has them in.

    Raises:
        UnsupportedModel: there is no quantizer, or no exact grid holds its values.
    """
    where = f"{site.layer.name}'s {part}"
    weights = np.asarray(weights, dtype=np.float32)
    if quantizer is None:
        site.inexact(f"{site.layer.name}: the {part} is not quantized; give {part}_quantizer")
        return plain(weights)
    refuse_noise(quantizer, where)
    values = _values(quantizer, weights, where)
    grid = _declared(quantizer, values)
    if grid is None:
        return smallest_grid(values, where)
    scale, spec, bipolar = grid
    if not powers_of_two(scale):
        site.inexact(
            f"{where} uses {type(quantizer).__name__} with alpha={_alpha(quantizer)!r}, whose "
            "scale is no power of two; use alpha=1 or alpha='auto_po2'"
        )
        return Constants(values, np.broadcast_to(scale, values.shape), spec, bipolar)
    codes = values / scale
    held = np.abs(codes) == 1 if bipolar else spec.on_grid(codes)
    if not held.all() or (weights.ndim == 1 and scale.size > 1):
        return smallest_grid(values, where)
    used = np.broadcast_to(np.any(values != 0, axis=_all_but(scale), keepdims=True), scale.shape)
    if not used.all():  # a channel of zeros has any scale; one far off would only cost bits
        scale = np.where(used, scale, scale[used].max(initial=0) or 1.0)
    return Constants(values, np.broadcast_to(scale, values.shape), spec, bipolar)


def plain(values: Any) -> Constants:
    """Return float weights that no quantizer stands before."""
    array = np.asarray(values, dtype=np.float64)
    return Constants(array, np.ones_like(array), None)


def smallest_grid(values: Any, where: str) -> Constants:
    """Return the narrowest fixed-point grid that holds `values` exactly.

    Raises:
        UnsupportedModel: it would need more bits than a float's mantissa has.
    """
    values = np.asarray(values, dtype=np.float64)
    frac = fraction_bits(values)
    codes = values * 2.0**frac
    low, high = int(min(codes.min(initial=0), 0)), int(max(codes.max(initial=0), 0))
    spec = FixedSpec.spanning(low, max(high, 1), frac)  # one signed bit would be bipolar in QONNX
    if spec.width > FLOAT_BITS:
        raise UnsupportedModel(
            f"{where} spans {spec.width} bits of fixed point, and at most {FLOAT_BITS} are exact; "
            "use quantized_bits with alpha=1 or 'auto_po2', or fewer powers of two"
        )
    return Constants(values, np.full_like(values, spec.step), spec)


def refuse_noise(quantizer: Any, where: str) -> None:
    """Refuse a quantizer that is only partly switched on, as during some training schedules.

    Raises:
        UnsupportedModel: names the quantizer's place.
    """
    noise = float(getattr(quantizer, "qnoise_factor", 1.0))
    if noise != 1.0:
        raise UnsupportedModel(
            f"{where} has qnoise_factor={noise:g}; set it to 1 before you export"
        )


def _values(quantizer: Any, weights: Any, where: str) -> Array:
    if type(quantizer).__name__ == "bernoulli":
        raise UnsupportedModel(f"{where} uses bernoulli, which draws anew each time; use binary")
    try:
        values = np.asarray(quantizer(weights), dtype=np.float64)
    except Exception as error:  # TensorFlow raises its own, and QKeras asserts
        text = str(error).splitlines() or [type(error).__name__]
        raise UnsupportedModel(f"{where}: QKeras's own quantizer fails: {text[0]}") from error
    if not np.isfinite(values).all():
        raise UnsupportedModel(f"{where}: the quantizer makes values that are NaN or infinite")
    return values


def _declared(quantizer: Any, values: Array) -> tuple[Array, FixedSpec, bool] | None:
    """Return scale, format and bipolarity as the quantizer declares them, if it has any."""
    kind = type(quantizer).__name__
    given = getattr(quantizer, "scale", None)
    scale = np.asarray(1.0 if given is None else given, dtype=np.float64)
    scale = scale.reshape((1,) * (values.ndim - scale.ndim) + scale.shape)
    if kind in ("binary", "stochastic_binary"):
        zero_or_one = bool(getattr(quantizer, "use_01", False))
        return scale, FixedSpec(1, 1, signed=not zero_or_one), not zero_or_one
    if kind in ("ternary", "stochastic_ternary"):
        return scale, FixedSpec(2, 2, narrow=True), False
    if kind != "quantized_bits":
        return None
    bits, signed = int(quantizer.bits), bool(quantizer.keep_negative)
    if bits - signed < 1:
        return (scale, FixedSpec(1, 1), True) if signed else None
    step = 2.0 ** (int(quantizer.integer) - bits + signed)
    if isinstance(quantizer.alpha, str):  # QKeras's automatic scales are symmetric
        return scale * step, FixedSpec(bits, bits, narrow=True), False
    narrow = signed and bool(quantizer.symmetric)
    return scale * step, FixedSpec(bits, bits, signed, narrow), False


def _alpha(quantizer: Any) -> Any:
    alpha = quantizer.alpha
    return alpha if alpha is None or isinstance(alpha, str) or np.ndim(alpha) == 0 else "an array"


def powers_of_two(scale: Array) -> bool:
    """Tell whether every element is 2**k for a whole k."""
    return bool((scale > 0).all() and (np.frexp(scale)[0] == 0.5).all())


def _all_but(scale: Array) -> tuple[int, ...]:
    """Return the axes along which `scale` is one number."""
    return tuple(axis for axis, size in enumerate(scale.shape) if size == 1)


def _smallest_shape(scale: Array) -> Array:
    """Return `scale` with every axis along which it does not change made one long."""
    for axis in range(scale.ndim):
        first = scale.take([0], axis=axis)
        if np.array_equal(np.broadcast_to(first, scale.shape), scale):
            scale = first
    return scale
