"""The stand-in for anomaly detection: made-up machines, not ToyADMOS.

The shape is AD08's: 32 mel bands in decibels, four machines, normal sounds to train on. The sounds
are not: no microphone was involved, so that no area on them may stand beside a published one.

A machine is a spectrum with a handful of resonances over a falling noise. While it runs, its speed
and its load wander: the speed moves the resonances together, the load raises the upper ones, and
how far the microphone is away raises all. An anomaly is a resonance too many or too few, a knock
at every turn, or a speed and a load that do not go together. It is no louder on the whole and
no band leaves its usual range by much, so that it shows only in how the bands depend on each other.

The task: Banbury et al., arXiv:2106.07597; the data that this stands in for: Koizumi et al.,
arXiv:1908.03299.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SEED = 2026
MACHINES, BANDS, FRAMES = 4, 32, 24
#: Clips of each machine: normal ones to train on and validate with, normal and anomalous to test.
TRAIN, TEST = 100, 20
RESONANCES = 6
#: Decibels: the falling noise at both ends, how high resonances stand above it, and how much a
#: frame differs from the next, as the mean of few waves does.
NOISE, HEIGHT, SPECKLE = (-22.0, -46.0), (8.0, 24.0), 1.6
#: How far speed (bands) and load (decibels) and the distance (decibels) differ between clips.
SPEED, LOAD, DISTANCE = 1.2, 4.0, 4.0
KINDS = ("more", "less", "knock", "slip")


class Made(NamedTuple):
    """Spectra (clips, FRAMES, BANDS) in decibels; of each clip, its machine, label and use."""

    decibels: Floats
    machine: NDArray[np.int64]
    label: NDArray[np.int64]
    test: NDArray[np.bool_]


def make(seed: int = SEED) -> Made:
    """Make all clips; the same for every caller."""
    rng = np.random.default_rng(seed)
    label = np.tile(np.repeat([0, 0, 1], [TRAIN, TEST, TEST]), MACHINES)
    test = np.tile(np.repeat([False, True], [TRAIN, 2 * TEST]), MACHINES)
    machine = np.repeat(np.arange(1, MACHINES + 1), TRAIN + 2 * TEST)
    decibels = []
    for number in range(1, MACHINES + 1):
        place = np.sort(rng.uniform(2, BANDS - 2, RESONANCES))
        height = rng.uniform(*HEIGHT, RESONANCES)
        for anomalous in label[machine == number]:
            kind = KINDS[rng.integers(len(KINDS))] if anomalous else ""
            decibels.append(clip(place, height, kind, rng))
    return Made(np.stack(decibels), machine, label, test)


def clip(place: Floats, height: Floats, kind: str, rng: np.random.Generator) -> Floats:
    """Return the spectrum (FRAMES, BANDS) of a machine with resonances at `place` of `height`.

    `kind` is one of `KINDS`, or empty for a machine that runs as it should.
    """
    frame = np.arange(FRAMES)
    wander = np.cumsum(rng.normal(0, 0.08, FRAMES))
    pace = rng.normal() + wander - wander.mean()  # speed and load go together
    speed, load = SPEED * pace, LOAD * pace
    if kind == "slip":
        load = load + LOAD * rng.choice([-1, 1]) * rng.uniform(1.5, 2.5)
    if kind == "more":
        place = np.append(place, rng.uniform(2, BANDS - 2))
        height = np.append(height, rng.uniform(*HEIGHT) * 0.8)
    if kind == "less":
        height = np.where(np.arange(len(height)) == rng.integers(len(height)), 0, height)

    band = np.arange(BANDS)
    upper = (place / BANDS)[:, np.newaxis]
    raised = height[:, np.newaxis] + load * upper  # (resonances, frames)
    moved = place[:, np.newaxis] + speed
    distance = (band - moved[..., np.newaxis]) / 0.9
    power = 10 ** (np.linspace(*NOISE, BANDS) / 10) * np.ones((FRAMES, 1))
    power = power * (1 + (10 ** (raised[..., np.newaxis] / 10) * np.exp(-(distance**2))).sum(0))
    if kind == "knock":
        turn, first = rng.integers(5, 9), rng.integers(5)
        power[(frame + first) % turn == 0] *= 10 ** (rng.uniform(3, 6) / 10)
    decibels: Floats = 10 * np.log10(power) + rng.normal(0, DISTANCE)
    return decibels + rng.normal(0, SPECKLE, decibels.shape)
