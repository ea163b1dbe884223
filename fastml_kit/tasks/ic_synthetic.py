"""The stand-in for image classification: drawn shapes, not CIFAR-10.

The shape is CIFAR-10's: 32x32 pixels, three colours, ten classes. An image shows one of ten figures
somewhere, sized and turned a little at random, in one random colour on a darker one that fades
across the image, under noise. The class is the figure alone. On the test part, a
ridge regression on the pixels is right about 0.51 of the time, and a network of three small
convolutions in floating point 0.95, after 9 epochs.

The task: Banbury et al., arXiv:2106.07597.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastml_kit.tasks.base import PARTS

Floats = NDArray[np.float64]

SEED = 2026
SIDE = 32
#: Images of each class: to train, validate and test with.
COUNTS = (500, 60, 120)
CLASSES = (
    "disc",
    "ring",
    "square",
    "frame",
    "triangle",
    "cross",
    "bar",
    "pair",
    "half",
    "star",
)
#: Radius of a figure in pixels; standard deviations of the noise, and of how much a colour changes
#: from the middle to the edge (full scale is 1).
RADIUS, NOISE, FADING = (8.0, 13.0), np.float32(0.05), np.float32(0.1)
#: By how much a figure is brighter than what is behind it, at least, in each colour.
CONTRAST = np.float32(0.3)
#: How far a figure is turned at most, in radians.
TURN = 0.3


class Made(NamedTuple):
    """Images (n, 32, 32, 3), class numbers and parts."""

    pixels: NDArray[np.uint8]
    label: NDArray[np.int64]
    part: NDArray[np.str_]


def make(seed: int = SEED) -> Made:
    """Make all images; the same for every caller."""
    rng = np.random.default_rng(seed)
    label = np.tile(np.arange(len(CLASSES)), sum(COUNTS))
    part = np.repeat(PARTS, np.multiply(COUNTS, len(CLASSES)))
    covered = figures(label, rng).astype(np.float32)[..., np.newaxis]

    ground = rng.random((len(label), 1, 1, 3), dtype=np.float32) * (1 - CONTRAST)
    paint = ground + CONTRAST + rng.random(ground.shape, dtype=np.float32) * (1 - CONTRAST - ground)
    away = np.linspace(-1, 1, SIDE, dtype=np.float32)[:, np.newaxis]
    slope = rng.standard_normal((2, len(label), 1, 1, 3), dtype=np.float32) * FADING

    image = rng.standard_normal((len(label), SIDE, SIDE, 3), dtype=np.float32)
    image *= NOISE  # these arrays are large: work in place, in single precision
    image += ground
    image += covered * (paint - ground)
    image += slope[0] * away
    image += slope[1] * away[:, np.newaxis]
    np.clip(image, 0, 1, out=image)
    image *= 255
    return Made(np.round(image, out=image).astype(np.uint8), label, part)


def figures(label: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Return how much of each pixel (n, 32, 32) the figure of each class number covers."""
    radius = rng.uniform(*RADIUS, len(label))
    centre = (SIDE - 1) / 2 + rng.uniform(-1, 1, (len(label), 2)) * (SIDE / 2 - radius)[:, None]
    angle = rng.uniform(-TURN, TURN, len(label))
    pixel = np.arange(SIDE)
    covered = np.empty((len(label), SIDE, SIDE))
    for row, number in enumerate(label):
        down, right = pixel[:, np.newaxis] - centre[row, 0], pixel - centre[row, 1]
        u = (right * np.cos(angle[row]) + down * np.sin(angle[row])) / radius[row]
        v = (down * np.cos(angle[row]) - right * np.sin(angle[row])) / radius[row]
        # Edges are soft over one pixel.
        covered[row] = np.clip(0.5 - distance(CLASSES[number], u, v) * radius[row], 0, 1)
    return covered


def distance(figure: str, u: Floats, v: Floats) -> Floats:
    """Return how far a point is outside a figure of radius 1, about; negative inside."""
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    box = np.maximum(np.abs(u), np.abs(v)) - 0.75
    found: Floats = {
        "disc": lambda: radius - 0.85,
        "ring": lambda: np.abs(radius - 0.7) - 0.2,
        "square": lambda: box,
        "frame": lambda: np.abs(box + 0.18) - 0.18,
        "triangle": lambda: _polygon(radius, angle, 3) - 0.5,
        "cross": lambda: np.maximum(np.minimum(np.abs(u), np.abs(v)) - 0.25, box - 0.2),
        "bar": lambda: np.maximum(np.abs(u) - 0.95, np.abs(v) - 0.25),
        "pair": lambda: np.hypot(np.abs(u) - 0.55, v) - 0.35,
        "half": lambda: np.maximum(radius - 0.95, -v),
        "star": lambda: radius - 0.6 - 0.35 * np.cos(5 * angle),
    }[figure]()
    return found


def _polygon(radius: Floats, angle: Floats, corners: int) -> Floats:
    """Return the distance from the centre to the nearest side's line, seen from a point."""
    sector = 2 * np.pi / corners
    return radius * np.cos((angle + sector / 2) % sector - sector / 2)
