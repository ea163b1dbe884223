"""Fixed-point numbers as integers: formats, codes, rounding and overflow, in NumPy.

A *code* is the integer that a wire carries; its value is ``code * spec.step``. Equality in this
kit is equality of codes. `<W,I>` counts as ap_fixed does: `I` includes the sign bit (QKeras and
da4ml leave it out; the conversion happens once, where those libraries are met).

Rounding names are QONNX's (`ROUND` is half to even, `HALF_UP` half away from zero, `UP` away from
zero), and `HALF_CEIL` is ap_fixed's RND, half towards plus infinity; overflow is ap_fixed's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest

Codes = NDArray[np.int64]
Rounding = Literal["ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN", "HALF_CEIL"]
Overflow = Literal["SAT", "WRAP"]

#: Integers here stay below 2**62, so that a sum of two never leaves int64.
INT64_BITS = 62


@dataclass(frozen=True, order=True)
class FixedSpec:
    """The format of a fixed-point number: `width` bits in all, `integer` of them above the point.

    `integer` includes the sign bit when `signed`, and may be negative or exceed `width`.
    `narrow` leaves out the most negative code, as symmetric quantizers do, or where there is no
    sign the largest one, as QONNX's executor does.
    """

    width: int
    integer: int
    signed: bool = True
    narrow: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.width <= INT64_BITS:
            raise BadRequest(f"width={self.width} bits; int64 codes hold 1 to {INT64_BITS}")

    @classmethod
    def spanning(cls, low: int, high: int, frac: int) -> "FixedSpec":
        """Return the narrowest format with `frac` fractional bits that holds codes `low`..`high`.

        >>> str(FixedSpec.spanning(-5, 3, frac=2))
        'fixed<4,2>'
        """
        signed = low < 0
        width = max((-low - 1).bit_length() if signed else 0, high.bit_length()) + signed
        width = max(width, 1)
        return cls(width, width - frac, signed)

    @property
    def frac(self) -> int:
        """Bits below the binary point."""
        return self.width - self.integer

    @property
    def step(self) -> float:
        """The value of one LSB."""
        return 2.0**-self.frac

    @property
    def low(self) -> int:
        """The smallest code."""
        return -(1 << (self.width - 1)) + self.narrow if self.signed else 0

    @property
    def high(self) -> int:
        """The largest code."""
        return (1 << (self.width - self.signed)) - 1 - (self.narrow and not self.signed)

    def __str__(self) -> str:
        return f"{'' if self.signed else 'u'}fixed<{self.width},{self.integer}>"

    def to_values(self, codes: ArrayLike) -> NDArray[np.float64]:
        """Return the real values of `codes` (exact while codes stay below 2**53)."""
        return np.asarray(codes, dtype=np.float64) * self.step

    def to_codes(
        self, values: ArrayLike, rounding: Rounding = "ROUND", overflow: Overflow = "SAT"
    ) -> Codes:
        """Quantize real `values` of any shape to codes of this format.

        Raises:
            BadRequest: a value is NaN or infinite, so that no code stands for it, or too large
                to wrap.
        """
        values = np.asarray(values, dtype=np.float64)
        if not np.isfinite(values).all():
            raise BadRequest(f"{np.count_nonzero(~np.isfinite(values))} values are NaN or infinite")
        scaled = ROUNDERS[rounding](values / self.step)
        if overflow == "SAT":  # before the cast, which large floats would not survive
            scaled = np.clip(scaled, self.low, self.high)
        elif np.abs(scaled).max(initial=0) >= 2.0**INT64_BITS:
            raise BadRequest(f"some values leave 64-bit integers before they wrap to {self}")
        return self.clip(scaled.astype(np.int64), overflow)

    def on_grid(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Tell, value by value, whether this format holds it exactly: same grid and in range."""
        scaled = np.asarray(values, dtype=np.float64) / self.step
        return (scaled == np.floor(scaled)) & (scaled >= self.low) & (scaled <= self.high)

    def clip(self, codes: ArrayLike, overflow: Overflow = "SAT") -> Codes:
        """Bring integer `codes` into range by saturating (`SAT`) or dropping high bits (`WRAP`)."""
        codes = np.asarray(codes, dtype=np.int64)
        if overflow == "SAT":
            return np.clip(codes, self.low, self.high)
        span = 1 << self.width
        return (codes - self.low) % span + self.low

    def requantize(
        self,
        codes: ArrayLike,
        frac: int,
        rounding: Rounding = "ROUND",
        overflow: Overflow = "SAT",
        divisor: int = 1,
    ) -> Codes:
        """Bring `codes` with `frac` fractional bits to this format, in integers throughout.

        The value of a code is ``code * 2**-frac / divisor``.
        """
        given: Codes = np.asarray(codes, dtype=np.int64)
        drop = frac - self.frac
        if drop < 0 and overflow == "SAT":
            # What saturates may as well do so before the shift, which it might not survive.
            low, high = self.low * divisor, self.high * divisor
            given = np.clip(given, low >> -drop, -(-high >> -drop))
        return self.clip(shift(given, drop, rounding, divisor), overflow)


ROUNDERS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "ROUND": np.round,  # NumPy rounds half to even, as ONNX's Round and QKeras do
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.copysign(np.ceil(np.abs(x)), x),
    "DOWN": np.trunc,
    # The fraction itself is exact; x + 0.5 would not be, just under a half.
    "HALF_UP": lambda x: np.trunc(x) + np.copysign(np.abs(x - np.trunc(x)) >= 0.5, x),
    "HALF_DOWN": lambda x: np.trunc(x) + np.copysign(np.abs(x - np.trunc(x)) > 0.5, x),
    "HALF_CEIL": lambda x: np.floor(x) + (x - np.floor(x) >= 0.5),
}


def shift(codes: Codes, bits: int, rounding: Rounding = "ROUND", divisor: int = 1) -> Codes:
    """Divide integer `codes` by ``2**bits * divisor`` with the given rounding, in integers.

    A negative `bits` multiplies. `divisor` is positive, and 1 for all but averages.

    Raises:
        BadRequest: a product would leave 64-bit integers.
    """
    if bits <= 0:
        if int(np.abs(codes).max(initial=0)).bit_length() - bits > INT64_BITS:
            raise BadRequest(f"codes shifted by {-bits} bits leave 64-bit integers")
        codes = codes << -bits
        if divisor == 1:
            return codes
    elif bits + divisor.bit_length() > INT64_BITS + 1:
        # Every quotient lies below a half: a quarter of the same sign rounds alike.
        codes, bits, divisor = np.sign(codes), 2, 1
    whole = divisor << max(bits, 0)
    if divisor == 1:
        quotient, rest = codes >> bits, codes & (whole - 1)
    else:
        quotient, rest = np.divmod(codes, whole)
    return quotient + ROUND_UP[rounding](codes, quotient, rest, whole)


#: Whether to add one to the floor of codes / whole, given that quotient and the rest of it.
ROUND_UP: dict[str, Callable[[Codes, Codes, Codes, int], NDArray[np.bool_]]] = {
    "ROUND": lambda x, q, r, whole: (r > whole - r) | ((r == whole - r) & (q & 1 == 1)),
    "CEIL": lambda x, q, r, whole: r > 0,
    "FLOOR": lambda x, q, r, whole: np.zeros_like(r, dtype=bool),
    "UP": lambda x, q, r, whole: (r > 0) & (x > 0),
    "DOWN": lambda x, q, r, whole: (r > 0) & (x < 0),
    "HALF_UP": lambda x, q, r, whole: (r > whole - r) | ((r == whole - r) & (x > 0)),
    "HALF_DOWN": lambda x, q, r, whole: (r > whole - r) | ((r == whole - r) & (x < 0)),
    "HALF_CEIL": lambda x, q, r, whole: r >= whole - r,
}
