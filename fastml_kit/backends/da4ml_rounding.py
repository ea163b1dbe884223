"""QONNX's quantizers as circuits: rounding, division of averages, saturation, comparisons.

A `FixedVariable` of da4ml knows its range and step; da4ml itself rounds by cutting off (TRN) or
half up (RND). Every other rule is cutting off after adding a constant and one bit: the sign, or
for half to even the lowest bit that stays.
"""

from typing import Any

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec, Rounding
from fastml_kit.graph.ir import Node

#: The finest step that da4ml 0.6.0 keeps in its constants is 2**-32.
MAX_FRAC = 30


def round_to(value: Any, frac: int, rounding: Rounding, divisor: int = 1) -> Any:
    """Return the `FixedVariable` `value / divisor` rounded to `frac` fractional bits.

    `divisor` is odd. A value without bits to drop costs nothing.
    """
    have = value.kif[2]
    if divisor == 1 and have <= frac:
        return value
    if value.low == value.high:
        code = _shift(value, have, frac, rounding, divisor)
        return value.from_const(code * 2.0**-frac, hwconf=value.hwconf)
    # Half of what one code stands for lies on the grid, and so does everything below.
    grid = have if divisor == 1 else max(have, frac + 1)
    least, whole = 2.0**-grid, divisor * 2.0**-frac
    half, most = whole / 2, whole - least
    offset, bit, weight = {
        "FLOOR": (0.0, None, 0.0),
        "CEIL": (most, None, 0.0),
        "HALF_CEIL": (half, None, 0.0),
        "ROUND": (half - least, "odd", least),
        "HALF_UP": (half, "negative", -least),
        "HALF_DOWN": (half - least, "negative", least),
        "UP": (most, "negative", -most),
        "DOWN": (0.0, "negative", most),
    }[rounding]
    raised = value + offset
    if bit == "negative":
        raised = raised + value.is_negative() * weight
    elif bit == "odd":
        below = value if divisor == 1 else floor_to(value, frac, divisor, grid)
        # A single bit, of weight 2**-frac.
        raised = raised + below.quantize(0, 1 - frac, frac) * (weight * 2.0**frac)
    return floor_to(raised, frac, divisor, grid)


def floor_to(value: Any, frac: int, divisor: int, grid: int) -> Any:
    """Return the `FixedVariable` `value / divisor`, whose step is 2**-grid, cut off at `frac` bits.

    The division multiplies by M / 2**n. With x the value's code, (x + 1/2) / divisor lies at
    least 1 / (2 * divisor) from every code at which the result changes, and the product is off by
    |x + 1/2| * |M - 2**n / divisor| / 2**n: n is chosen so that this is less.
    """
    if divisor != 1:
        x = 2 * max(abs(int(float(end) * 2.0**grid)) for end in (value.low, value.high)) + 1
        bits = x.bit_length() + divisor.bit_length() - 1
        factor = round(2**bits / divisor)
        if x * abs(factor * divisor - 2**bits) >= 2**bits:  # pragma: no cover - see above
            raise AssertionError(f"{factor} / 2**{bits} is no good inverse of {divisor}")
        if bits > MAX_FRAC or grid + 1 > MAX_FRAC:
            raise UnsupportedModel(
                f"da4ml backend: an average's sum of {x.bit_length()} bits is too wide to divide "
                f"by {divisor}; quantize the data before it to fewer bits"
            )
        value = (value + 2.0 ** -(grid + 1)) * (factor * 2.0**-bits)
    signed, integers, _ = value.kif
    return value.quantize(signed, max(integers, -frac), frac)  # a sign bit at least: -1 LSB


def requantize(value: Any, spec: FixedSpec, rounding: Rounding, divisor: int = 1) -> Any:
    """Return the `FixedVariable` `value / divisor` rounded and saturated to `spec`."""
    if value.low == value.high:  # a constant; da4ml 0.6.0 wraps those one bit too late
        have = value.kif[2]
        code = spec.clip(_shift(value, have, spec.frac, rounding, divisor))
        return value.from_const(float(spec.to_values(code)), hwconf=value.hwconf)
    if rounding == "HALF_CEIL" and divisor == 1:
        return _saturate(value, spec, "RND")
    return _saturate(round_to(value, spec.frac, rounding, divisor), spec, "TRN")


def kif(spec: FixedSpec) -> tuple[int, int, int]:
    """Return da4ml's name for a format: sign, integer bits *without* it, fractional bits."""
    return int(spec.signed), spec.integer - spec.signed, spec.frac


def quant(node: Node, x: Any) -> Any:
    """Quantize every element at its own scale; see `graph.reference.quant`."""
    spec, attrs = node.attrs["spec"], node.attrs
    zero, divisor, fracs = attrs.get("zero_point", 0), attrs.get("divisor", 1), attrs.get("fracs")
    each = np.broadcast_to(spec.frac if fracs is None else fracs, x.shape).ravel().tolist()

    def one(value: Any, frac: int) -> Any:
        own = FixedSpec(spec.width, spec.width - frac, spec.signed, spec.narrow)
        moved = value + zero * divisor * 2.0**-frac if zero else value
        rounded = requantize(moved, own, attrs["rounding"], divisor)
        return rounded - zero * 2.0**-frac if zero else rounded

    return _array([one(v, frac) for v, frac in zip(x.ravel(), each, strict=True)], x)


def bipolar_quant(node: Node, x: Any) -> Any:
    """Give plus a step for zero and above, minus one below: the sign bit, moved."""
    steps = np.broadcast_to(node.attrs["steps"] * 2.0 ** -node.attrs["frac"], x.shape).ravel()
    values = zip(x.ravel(), steps.tolist(), strict=True)
    return _array([v.is_negative() * (-2 * step) + step for v, step in values], x)


def trunc(node: Node, x: Any) -> Any:
    """Drop low bits; see `graph.reference.trunc`."""
    attrs = node.attrs
    frac, drop, spec = attrs["frac"], attrs["drop"], attrs["spec"]
    zero = attrs["zero_point"] * 2.0**-frac

    def one(value: Any) -> Any:
        on_grid = round_to(value + zero if zero else value, frac, "ROUND")
        if spec is None:
            kept = round_to(on_grid * 2.0**-drop, frac, attrs["rounding"])
        else:
            kept = requantize(on_grid, spec, attrs["rounding"])
        return kept - zero if zero else kept

    return _array([one(value) for value in x.ravel()], x)


def multi_threshold(node: Node, x: Any) -> Any:
    """Count the thresholds that each element reaches, with a comparison for each."""
    attrs, rows = node.attrs, node.attrs["thresholds"]
    channel = np.broadcast_to(
        np.arange(x.shape[1]).reshape(1, -1, *(1,) * (len(x.shape) - 2)), x.shape
    ).ravel()
    step = attrs["step"] * 2.0 ** -attrs["frac"]

    def one(value: Any, row: Any) -> Any:
        count = attrs["base"] * 2.0 ** -attrs["frac"]
        for threshold in row.tolist():
            if threshold <= value.low:
                count = count + step
            elif threshold <= value.high:
                # Between two codes any comparison serves; one at the upper of them costs no bits.
                code = -(-threshold // float(value.step)) * float(value.step)
                count = (value - code).is_negative() * -step + (count + step)
        return count

    every = zip(x.ravel(), channel.tolist(), strict=True)
    return _array([one(value, rows[c if len(rows) > 1 else 0]) for value, c in every], x)


def clip(node: Node, x: Any) -> Any:
    """Bring every element between two constants."""
    low, high = (
        None if bound is None else bound * 2.0 ** -node.attrs["frac"]
        for bound in (node.attrs["low"], node.attrs["high"])
    )
    return _array([between(value, low, high) for value in x.ravel()], x)


def between(value: Any, low: float | None, high: float | None) -> Any:
    """Return the `FixedVariable` nearest to `value` that the bounds allow."""
    if value.low == value.high:
        given = np.clip(float(value.low), low, high) if (low, high) != (None, None) else value.low
        return value.from_const(float(given), hwconf=value.hwconf)
    value = value if low is None else value.max_of(low)
    return value if high is None else value.min_of(high)


def leaky_relu(node: Node, x: Any) -> Any:
    """Add what is above zero and the slope times what is below."""
    slope = node.attrs["alpha"] * 2.0 ** -node.attrs["alpha_frac"]
    if not slope:
        return x.relu()
    return x.relu() - (-x).relu() * slope


def _saturate(value: Any, spec: FixedSpec, round_mode: str) -> Any:
    if spec.narrow and not spec.signed:
        value = round_to(value, spec.frac, "HALF_CEIL" if round_mode == "RND" else "FLOOR")
        value = between(value, None, spec.high * spec.step)
    return value.quantize(
        *kif(spec),
        overflow_mode="SAT_SYM" if spec.narrow and spec.signed else "SAT",
        round_mode=round_mode,
    )


def _shift(value: Any, have: int, frac: int, rounding: Rounding, divisor: int) -> int:
    """Round a constant variable as the reference engine does."""
    from fastml_kit.fixedpoint import shift

    codes = np.array(int(value.low * 2**have) if have >= 0 else int(value.low) >> -have)
    return int(shift(codes.astype(np.int64), have - frac, rounding, divisor))


def _array(values: list[Any], like: Any) -> Any:
    from da4ml.trace import FixedVariableArray

    out = np.empty(len(values), dtype=object)
    out[:] = values
    return FixedVariableArray(out.reshape(like.shape), hwconf=like.hwconf)
