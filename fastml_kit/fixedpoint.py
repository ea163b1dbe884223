"""Fixed-point numbers as integers: formats, codes, rounding and overflow, in NumPy.

A *code* is the integer that a wire carries; its value is ``code * spec.step``. Equality in this
kit is equality of codes. `<W,I>` counts as ap_fixed does: `I` includes the sign bit (QKeras and
da4ml leave it out; the conversion happens once, where those libraries are met).

Rounding names follow ONNX and QONNX (`ROUND` is half to even); overflow is ap_fixed's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest

Codes = NDArray[np.int64]
Rounding = Literal["ROUND", "HALF_UP", "FLOOR"]
Overflow = Literal["SAT", "WRAP"]

#: Integers here stay below 2**62, so that a sum of two never leaves int64.
INT64_BITS = 62


@dataclass(frozen=True, order=True)
class FixedSpec:
    """The format of a fixed-point number: `width` bits in all, `integer` of them above the point.

    `integer` includes the sign bit when `signed`, and may be negative or exceed `width`.
    `narrow` leaves out the most negative code, as symmetric quantizers do.
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
        return (1 << (self.width - self.signed)) - 1

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
        self, codes: ArrayLike, frac: int, rounding: Rounding = "ROUND", overflow: Overflow = "SAT"
    ) -> Codes:
        """Bring `codes` with `frac` fractional bits to this format, in integers throughout."""
        given: Codes = np.asarray(codes, dtype=np.int64)
        drop = frac - self.frac
        if drop < 0 and overflow == "SAT":
            # What saturates may as well do so before the shift, which it might not survive.
            given = np.clip(given, self.low >> -drop, -(-self.high >> -drop))
        return self.clip(shift(given, drop, rounding), overflow)


ROUNDERS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "ROUND": np.round,  # NumPy rounds half to even, as ONNX's Round and QKeras do
    "HALF_UP": lambda x: np.floor(x) + (x - np.floor(x) >= 0.5),
    "FLOOR": np.floor,
}


def shift(codes: Codes, bits: int, rounding: Rounding = "ROUND") -> Codes:
    """Divide integer `codes` by ``2**bits`` with the given rounding (multiply if `bits` < 0).

    Raises:
        BadRequest: a product would leave 64-bit integers.
    """
    if bits <= 0:
        if int(np.abs(codes).max(initial=0)).bit_length() - bits > INT64_BITS:
            raise BadRequest(f"codes shifted by {-bits} bits leave 64-bit integers")
        return codes << -bits
    if bits > INT64_BITS:  # all codes are then below a half
        return np.where(codes < 0, -1, 0) if rounding == "FLOOR" else np.zeros_like(codes)
    if rounding == "FLOOR":
        return codes >> bits
    half = 1 << (bits - 1)
    if rounding == "HALF_UP":
        return (codes + half) >> bits
    # Half to even: just under a half, plus one LSB where the floor is odd.
    return (codes + half - 1 + ((codes >> bits) & 1)) >> bits
