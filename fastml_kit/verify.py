"""Comparing engines by integer codes, and the ladder that a run climbs.

A rung holds when every output code of an engine equals the reference's, on every sample that was
compared. Softmax, argmax and scores are the host's work and come after the comparison.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest, MismatchError
from fastml_kit.fixedpoint import FixedSpec

#: The engines of the ladder, bottom to top; each is one rung.
ENGINES = (
    *("qat", "qonnx", "reference", "fast"),
    *("csim", "da4ml", "rtl", "netlist"),
    *("dataflow", "finn_rtl", "finn_netlist"),
)
#: A rung on fewer samples than this, of a set that has more, would say little.
LEAST = 32


@dataclass(frozen=True)
class Comparison:
    """What comparing two arrays of codes found. `total_samples` is the size of the whole set."""

    got: str
    want: str
    samples: int
    total_samples: int
    codes: int
    mismatches: int
    off_grid: int  # of the mismatches, values that are no code of the format at all
    mismatched_samples: int
    worst_lsb: float
    first: tuple[int, ...] | None

    @property
    def verdict(self) -> Literal["exact", "partial", "different"]:
        """`exact` needs the whole set; equality on a part of it is `partial`."""
        if self.mismatches:
            return "different"
        return "exact" if self.samples == self.total_samples else "partial"

    def told(self) -> dict[str, tuple[int, str]]:
        """Return what a record of this rung says: name -> (value, unit)."""
        return {
            "samples": (self.samples, "samples"),
            "total_samples": (self.total_samples, "samples"),
            "mismatches": (self.mismatches, "codes"),
        }

    def __str__(self) -> str:
        scope = f"{self.samples} samples"
        if self.samples < self.total_samples:
            scope = f"{self.samples} of {self.total_samples} samples (partial)"
        if not self.mismatches:
            return f"{self.got} = {self.want}: 0/{self.codes} codes differ on {scope}"
        return (
            f"{self.got} != {self.want}: {self.mismatches}/{self.codes} codes differ on {scope}, "
            f"worst {self.worst_lsb:g} LSB; first at index {self.first}"
            + (f"; {self.off_grid} values are not on the output's grid" if self.off_grid else "")
        )


def compare(
    got: ArrayLike,
    want: ArrayLike,
    *,
    spec: FixedSpec,
    labels: tuple[str, str],
    total_samples: int | None = None,
) -> Comparison:
    """Compare two arrays of output *values*, shape (samples, ...), as codes of `spec`.

    Nothing is rounded into agreement: a value that is not exactly a code of `spec` counts as a
    mismatch even where it lies close to the right one.

    Raises:
        BadRequest: the shapes differ, there is nothing to compare, `want` is off the grid, or the
            codes are too wide for float64 to tell neighbours apart.
    """
    if spec.width > 53:
        raise BadRequest(f"{spec} has codes that float64 values cannot tell apart (over 53 bits)")
    a, b = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    if a.shape != b.shape or a.size == 0:
        raise BadRequest(
            f"{labels[0]} has shape {a.shape}, {labels[1]} {b.shape}; nothing to compare"
        )
    if not spec.on_grid(b).all():
        raise BadRequest(f"{labels[1]} is the yardstick, but has values that {spec} cannot hold")
    bad = a != b  # NaN differs from everything, as it should
    per_sample = bad.reshape(len(a), -1).any(axis=1)
    distance = np.abs(np.where(bad, a - b, 0.0)) / spec.step
    return Comparison(
        got=labels[0],
        want=labels[1],
        samples=len(a),
        total_samples=len(a) if total_samples is None else total_samples,
        codes=a.size,
        mismatches=int(bad.sum()),
        off_grid=int((bad & ~spec.on_grid(a)).sum()),
        mismatched_samples=int(per_sample.sum()),
        worst_lsb=float(distance.max()),  # NaN if any value is
        first=tuple(int(i) for i in np.argwhere(bad)[0]) if bad.any() else None,
    )


def choose(total: int, at_most: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Return which of `total` samples a slow engine runs: all, or `at_most` drawn with `seed`.

    Never fewer than `LEAST`, if there are so many. In ascending order.
    """
    count = min(total, max(at_most, LEAST))
    drawn = np.random.default_rng(seed).choice(total, count, replace=False)
    return np.sort(drawn).astype(np.int64)


def assert_bit_exact(
    got: ArrayLike, want: ArrayLike, *, spec: FixedSpec, labels: tuple[str, str]
) -> Comparison:
    """Return the comparison of `got` with `want` if every code is equal.

    Raises:
        MismatchError: some codes differ; names how many, the worst distance and the first index.
    """
    result = compare(got, want, spec=spec, labels=labels)
    if result.mismatches:
        raise MismatchError(str(result))
    return result
