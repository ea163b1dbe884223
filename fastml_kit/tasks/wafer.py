"""The 48 trigger cells of an HGCal sensor: how they lie, as an image, and the distance of two.

A sensor's hexagon is three rhombi of 4x4 trigger cells, each the sum of four sensor cells. Two
pictures of a sensor are compared by the earth mover's distance (EMD): the least mean distance that
charge has to be moved, both pictures scaled to a sum of 1, in the lengths of a sensor cell. So it
is defined in the published code of the ECON-T autoencoder, whose cell numbers and arrangement this
follows: github.com/fastmachinelearning/fastml-science, ``sensor-data-compression`` (Apache-2.0),
``utils/metrics.py`` and ``networks.py`` ("8x8"); Di Guglielmo et al., arXiv:2105.01683. Like it,
this leaves the transport problem to POT, Python Optimal Transport.
"""

import functools
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import BadRequest

Floats = NDArray[np.float64]
CELLS, SIDE = 48, 8
SQRT3 = 3**0.5
#: Of each rhombus: where its first cell lies, and the steps to the next cell and the next row of
#: four; x in sensor cells times the square root of 3, y in sensor cells. The rhombi lie between
#: each other's grids, because a trigger cell is the middle of four sensor cells.
RHOMBI = (
    ((0.0, 0.0), (0.0, -2.0), (1.0, -1.0)),
    ((-4.0, -8.5), (1.0, 1.0), (0.0, 2.0)),
    ((2.25, -10.25), (-1.0, 1.0), (-1.0, -1.0)),
)


def _arrangement() -> NDArray[np.int64]:
    """Return the number of the cell at each of 8x8 pixels, -1 where there is none."""
    image = np.full((SIDE, SIDE), -1)
    block = np.arange(16).reshape(4, 4)
    image[:4, 4:] = block.T
    image[:4, :4] = (block + 16)[::-1]
    image[4:, :4] = (block + 32)[::-1, ::-1].T
    return image


#: The number of the trigger cell that each pixel shows. A quarter of the image shows none: there
#: the published arrangement repeats the third rhombus, and masks it.
ARRANGEMENT = _arrangement()


def to_image(cells: NDArray[Any]) -> NDArray[Any]:
    """Return charges (n, 48) as images (n, 8, 8, 1); a quarter of each is empty."""
    images = np.where(ARRANGEMENT >= 0, cells[:, np.maximum(ARRANGEMENT, 0)], 0)
    return images.astype(cells.dtype)[..., np.newaxis]


def from_image(images: NDArray[Any]) -> NDArray[Any]:
    """Return the charges (n, 48) that images (n, 8, 8, 1), or flat ones (n, 64), show.

    Raises:
        BadRequest: they have another shape.
    """
    if images[0].size != SIDE * SIDE:
        raise BadRequest(f"a sensor's image has 8x8 pixels, not {images.shape[1:]}")
    order = np.argsort(ARRANGEMENT.ravel())[-CELLS:]
    return images.reshape(len(images), -1)[:, order]


def positions() -> Floats:
    """Return where the trigger cells lie, (48, 2), in lengths of a sensor cell."""
    cell, row = np.arange(16) % 4, np.arange(16) // 4
    found = [
        np.array(first) + np.outer(cell, step) + np.outer(row, stride)
        for first, step, stride in RHOMBI
    ]
    placed: Floats = np.concatenate(found) * (SQRT3, 1.0)
    return placed


@functools.cache
def distances() -> Floats:
    """Return the distance of each trigger cell from each, (48, 48), in lengths of a sensor cell."""
    places = positions()
    between: Floats = np.linalg.norm(places[:, np.newaxis] - places, axis=-1)
    return between


def emd(before: NDArray[Any], after: NDArray[Any]) -> Floats:
    """Return the earth mover's distances (n,) of charges (n, 48), in lengths of a sensor cell.

    Negative charges, which only a decoder can make up, count as none. Where nothing is left of a
    sensor, no distance is defined: it counts as the largest on the wafer. (The published code
    counts it as -0.5, which rewards a decoder for being silent.)

    Raises:
        BadRequest: the shapes differ, or a sensor in `before` has no charge.
    """
    if before.shape != after.shape or before.ndim != 2 or before.shape[1] != CELLS:
        raise BadRequest(f"charges {before.shape} and {after.shape}; both must be (n, {CELLS})")
    mass = [np.maximum(charges.astype(np.float64), 0) for charges in (before, after)]
    total = [charges.sum(axis=1) for charges in mass]
    if not total[0].all():
        raise BadRequest(f"{np.count_nonzero(total[0] == 0)} sensors have no charge to move")
    lp, ground = _solver(), distances()
    found = np.full(len(before), ground.max())
    for index in np.flatnonzero(total[1]):
        # POT wants sums alike to the last bit, and asks for no cells that are empty.
        a, b = mass[0][index] / total[0][index], mass[1][index] / total[1][index]
        here, there = np.flatnonzero(a), np.flatnonzero(b)
        between = np.ascontiguousarray(ground[np.ix_(here, there)])
        found[index] = lp.emd2(a[here], b[there], between)
    return found


def _solver() -> Any:
    """Return POT's linear programs, without the frameworks for learning that it would bring."""
    names = [f"POT_BACKEND_DISABLE_{name}" for name in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW")]
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        from ot import lp
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return lp
