"""Random QKeras models: narrow, one to six stages deep, of every layer that the exporter knows.

`draw(random)` takes any `random.Random`: one that is seeded, or one of hypothesis, which then
shrinks what fails.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.models import keras2, train
from fastml_kit.models.keras2 import keras
from fastml_kit.tests.random_growing import Growing
from fastml_kit.tests.random_layers import put_stage
from fastml_kit.tests.random_quantizers import INPUTS, from_qkeras, pick

SAMPLES = 64


@dataclass
class Drawn:
    """A random model, samples for it, and what it holds."""

    model: Any
    x: NDArray[np.float32]
    logits: Any  # the model without a softmax at its end: what the graph computes
    kinds: Counter[str]  # how often each kind of layer and quantizer was drawn
    refused: tuple[str, ...]  # what has no exact form; a model with any must not be exported


def draw(random: Random, *, refusals: bool = True) -> Drawn:
    """Draw a model, on whose samples every quantizer saw many codes, ties and saturation.

    With `refusals`, over a quarter of all models hold something that has no exact form.
    """
    import tensorflow as tf

    # Rewriting Python code into a graph's would take most of the time.
    drawn: Drawn = tf.autograph.experimental.do_not_convert(_draw)(random, refusals)
    return drawn


def _draw(random: Random, refusals: bool) -> Drawn:
    r = random
    shape: tuple[int, ...] = (r.randint(3, 9),)
    if r.random() < 0.7:
        shape = (r.randint(3, 8), r.randint(1, 3))
        if r.random() < 0.6:
            shape = (r.randint(3, 7), *shape)
    start = keras.Input(shape=shape)
    kind = pick(r, INPUTS)
    quantizer = kind.make(r)
    x = samples(quantizer, shape, np.random.default_rng(r.getrandbits(32)))
    growing = Growing(r, start, keras.backend.constant(x), refusals)
    growing.kinds[f"input: {kind.name}"] += 1
    growing.add(from_qkeras("QActivation")(quantizer))
    growing.past.clear()  # nothing but the quantizer may read the unquantized input
    for _ in range(r.randint(1, 6)):
        put_stage(growing)
    logits = keras.Model(start, growing.tensor)
    if r.random() < 0.5:  # they are frozen already, and stay as they are, nearly
        train.freeze(logits)
    if r.random() < 0.06 and not growing.refused:  # a file keeps less than all of a quantizer
        growing.kinds["a model from a file"] += 1
        with TemporaryDirectory() as folder:
            logits = keras2.load(keras2.save(logits, Path(folder, "model.h5")))
    model = logits
    if len(growing.shape) == 1 and r.random() < 0.1:
        growing.kinds["Softmax"] += 1
        model = keras.Model(logits.input, keras.layers.Softmax()(logits.output))
    return Drawn(model, x, logits, growing.kinds, tuple(growing.refused))


def samples(quantizer: Any, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Return inputs on the grid of `quantizer`, with ties, extremes, saturation and zeros.

    The last sixth lies on half steps, up to a quarter beyond the range.
    """
    bits = int(quantizer.bits)
    integer = int(getattr(quantizer, "integer", 0))
    unsigned = not getattr(quantizer, "keep_negative", hasattr(quantizer, "alpha"))
    step = 2.0 ** (integer - bits + (not unsigned))
    low, high = (0 if unsigned else -(2 ** (bits - 1))), 2 ** (bits - (not unsigned)) - 1
    codes = rng.integers(low, high + 1, (SAMPLES, *shape)).astype(np.float64)
    ties = SAMPLES // 6
    reach = (high - low) // 4 + 1
    codes[-ties:] = rng.integers(2 * (low - reach), 2 * (high + reach) + 1, (ties, *shape)) / 2
    codes[0], codes[1], codes[2], codes[3] = low, high, 0.0, -0.0
    return (codes * step).astype(np.float32)
