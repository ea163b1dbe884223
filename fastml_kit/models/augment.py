"""Augmentation: samples turned, shifted, stretched, mirrored and mixed anew in each epoch.

The draws depend on seed, epoch and batch alone, so that a training can be repeated.
"""

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.models.keras2 import keras, tf
from fastml_kit.models.recipes import Augmentation

Floats = NDArray[np.float32]


class Batches(keras.utils.Sequence):
    """Shuffled batches of ``(x, target)``, augmented; one permutation an epoch.

    `x` is (n, height, width, channels), `target` (n, outputs); batches of `x` come in `shape`.
    With ``target=None`` the target is what the batch shows, flattened: an autoencoder's.
    """

    def __init__(
        self,
        x: Floats,
        target: Floats | None,
        *,
        size: int,
        seed: int,
        how: Augmentation,
        shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.x, self.target, self.size, self.seed, self.how = x, target, size, seed, how
        self.shape, self.epoch = shape, 0
        #: What noise and gain are measured by: (1, 1, width, channels).
        self.spread = x.std(axis=(0, 1), keepdims=True)
        self.on_epoch_end()

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return ceil(len(self.x) / self.size)

    def __getitem__(self, index: int) -> tuple[Floats, Floats]:
        """Return batch number `index` of the present epoch."""
        chosen = self.order[index * self.size : (index + 1) * self.size]
        rng = np.random.default_rng([self.seed, self.epoch, index])
        x = noisy(moved(self.x[chosen], self.how, rng), self.how, self.spread, rng)
        if self.target is None:
            return x.reshape(len(x), *self.shape), x.reshape(len(x), -1)
        target = self.target[chosen]
        if self.how.mixup:
            share = rng.beta(self.how.mixup, self.how.mixup, len(x)).astype(np.float32)
            other = rng.permutation(len(x))
            x = _mix(x, x[other], share)
            target = _mix(target, target[other], share)
        return x.reshape(len(x), *self.shape), target

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        self.epoch += 1
        self.order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.x))


def _mix(a: Floats, b: Floats, share: Floats) -> Floats:
    share = share.reshape(-1, *(1,) * (a.ndim - 1))
    mixed: Floats = a * share + b * (1 - share)
    return mixed


def noisy(x: Floats, how: Augmentation, spread: Floats, rng: np.random.Generator) -> Floats:
    """Return samples (n, height, width, channels) with noise and a gain in the first column."""
    if how.noise:
        x = x + rng.standard_normal(x.shape, dtype=np.float32) * (how.noise * spread)
    if how.gain:
        added = rng.standard_normal((len(x), 1, 1, 1), dtype=np.float32)
        first = np.arange(x.shape[2]).reshape(1, 1, -1, 1) == 0
        x = x + added * first * (how.gain * spread)
    return x


def moved(x: Floats, how: Augmentation, rng: np.random.Generator) -> Floats:
    """Return images (n, height, width, channels), each turned, shifted and mirrored by chance.

    Bilinear; what comes into the picture repeats its edge. Values between the grid's codes are
    left to the model's input quantizer.
    """
    if not (how.rotation_degrees or any(how.shift) or how.stretch or how.flip):
        return x
    result: Any = tf.raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=transforms(len(x), (x.shape[1], x.shape[2]), how, rng),
        output_shape=x.shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    there: Floats = result.numpy()
    return there


def transforms(
    count: int, size: tuple[int, int], how: Augmentation, rng: np.random.Generator
) -> Floats:
    """Return for each of `count` images the 8 numbers that TensorFlow maps pixels by.

    They take a pixel (x, y) of the result to where it comes from,
    ``(a0 x + a1 y + a2, b0 x + b1 y + b2)``; the last two are 0.
    """
    height, width = size
    angle = np.radians(rng.uniform(-how.rotation_degrees, how.rotation_degrees, count))
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if how.flip else np.ones(count)
    limits = np.array([[how.shift[1]], [how.shift[0]]])
    across, down = rng.uniform(-limits, limits, (2, count)) * [[width], [height]]
    slower = np.exp(rng.uniform(-how.stretch, how.stretch, count)) if how.stretch else 1.0
    cos, sin = np.cos(angle), np.sin(angle)
    a0, a1, b0, b1 = mirror * cos, -mirror * sin, sin * slower, cos * slower
    x, y = (width - 1) / 2, (height - 1) / 2  # the middle stays, but for the shift
    a2, b2 = x - a0 * x - a1 * y + across, y - b0 * x - b1 * y + down
    zero = np.zeros(count)
    return np.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1).astype(np.float32)
