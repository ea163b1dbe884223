"""Words on a wire: values to packed bits and back, by each element's own fixed-point format.

An interface describes a word by columns, one entry an element: `offset` and `width` in bits,
`frac` fractional bits, `signed`; besides `bits` of the whole word and the `shape` of a sample.
Bit 0 of a word is bit 0 of its first byte.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest
from fastml_kit.fixedpoint import FixedSpec


@dataclass(frozen=True)
class Word:
    """The layout of one word. An element of width 0 has no bits: nothing reads it, or it is 0."""

    bits: int
    shape: tuple[int, ...]
    offset: tuple[int, ...]
    width: tuple[int, ...]
    frac: tuple[int, ...]
    signed: tuple[bool, ...]

    @classmethod
    def of(cls, layout: Mapping[str, Any]) -> "Word":
        """Read a layout as `interface.json` holds it."""
        columns = {
            name: tuple(layout[name]) for name in ("shape", "offset", "width", "frac", "signed")
        }
        return cls(bits=layout["bits"], **columns)

    @property
    def byte_count(self) -> int:
        """Bytes that hold one word."""
        return -(-self.bits // 8)

    def pack(self, values: ArrayLike) -> NDArray[np.uint8]:
        """Return `values`, shape (samples, *shape), as words, shape (samples, byte_count).

        Raises:
            BadRequest: the shape is another, or a value is not exactly one that its element's
                format holds.
        """
        values = np.asarray(values, dtype=np.float64)
        if values.shape[1:] != self.shape:
            raise BadRequest(f"inputs have shape {values.shape[1:]}, the design wants {self.shape}")
        flat = values.reshape(len(values), len(self.width))
        bits = np.zeros((len(values), self.bits), dtype=np.uint8)
        for i, (place, spec) in enumerate(self._elements()):
            if spec is None:
                continue
            if not spec.on_grid(flat[:, i]).all():
                bad = flat[~spec.on_grid(flat[:, i]), i][0]
                raise BadRequest(
                    f"input element {i} is {bad}, which is no {spec} number; quantize the inputs "
                    "as the graph's first node does"
                )
            codes = spec.to_codes(flat[:, i])
            bits[:, place] = (codes[:, None] >> np.arange(spec.width)) & 1
        return np.packbits(bits, axis=1, bitorder="little")

    def unpack(self, words: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the values, shape (samples, *shape), of `words`, (samples, byte_count)."""
        bits = np.unpackbits(words, axis=1, count=self.bits, bitorder="little").astype(np.int64)
        values = np.zeros((len(words), len(self.width)))
        for i, (place, spec) in enumerate(self._elements()):
            if spec is not None:
                # The sign bit weighs -2**(width - 1): wrapping the unsigned sum says the same.
                codes = spec.clip(bits[:, place] @ (1 << np.arange(spec.width)), overflow="WRAP")
                values[:, i] = spec.to_values(codes)
        return values.reshape(len(words), *self.shape)

    def _elements(self) -> list[tuple[slice, FixedSpec | None]]:
        return [
            (
                slice(offset, offset + width),
                FixedSpec(width, width - frac, signed) if width else None,
            )
            for offset, width, frac, signed in zip(
                self.offset, self.width, self.frac, self.signed, strict=True
            )
        ]
