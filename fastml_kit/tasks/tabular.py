"""What the tasks of numbers in columns share: standardisation, a grid, and equal rows as groups."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest
from fastml_kit.fixedpoint import FixedSpec

#: The share of the training part's values that a grid may cut off at its ends: columns have long
#: tails, and a bit spent on them is a bit less for all other values.
CUT_OFF = 0.01


def standardize(columns: ArrayLike, train: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return `columns` (n, features) with mean 0 and standard deviation 1 on the rows in `train`.

    A column that is constant on those rows is only shifted.

    Raises:
        BadRequest: `train` is empty, or a value is NaN or infinite.
    """
    values = np.asarray(columns, dtype=np.float64)
    if not train.any() or not np.isfinite(values).all():
        raise BadRequest("to standardise takes rows to train on, and values that are all finite")
    spread = values[train].std(axis=0)
    scaled: NDArray[np.float64] = (values - values[train].mean(axis=0)) / np.where(
        spread > 0, spread, 1
    )
    return scaled


def grid(values: ArrayLike, width: int) -> FixedSpec:
    """Return the finest signed format of `width` bits that cuts off few enough of `values`.

    At most the share `CUT_OFF` of them saturates. Choose it by values of the training part alone.

    Raises:
        BadRequest: there is none, not even of whole numbers.
    """
    given = np.asarray(values, dtype=np.float64)
    for integer in range(1, width + 1):
        spec = FixedSpec(width, integer)
        outside = (given < spec.low * spec.step) | (given > spec.high * spec.step)
        if np.mean(outside) <= CUT_OFF:
            return spec
    raise BadRequest(f"values up to {np.abs(given).max():.3g} do not fit {width} bits")


def as_inputs(values: ArrayLike, spec: FixedSpec) -> NDArray[np.float32]:
    """Return `values` (n, features) rounded to `spec` and saturated, as (n, 1, 1, features)."""
    placed = spec.to_values(spec.to_codes(values)).astype(np.float32)
    return placed[:, np.newaxis, np.newaxis, :]


def equal_rows(values: ArrayLike) -> NDArray[np.int64]:
    """Return a number for each row (n, features), the same for rows that are equal."""
    _, groups = np.unique(np.asarray(values), axis=0, return_inverse=True)
    return groups.astype(np.int64)
