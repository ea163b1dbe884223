"""A random model while it grows: what its end is worth on the samples, and drawing for it.

It is run on its samples as it grows, so that each quantizer can be given a range in which many of
its codes occur. Weights are random, and frozen on their grids.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import prod
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.tests.random_quantizers import (
    ACTIVATIONS,
    BIASES,
    KERNELS,
    REFUSED_ACTIVATIONS,
    REFUSED_KERNELS,
    Kind,
    from_qkeras,
    pick,
)

#: No tensor of one sample grows larger: a model takes a fraction of a second.
MAX_ELEMENTS = 400


@dataclass
class Growing:
    """A model that is being drawn: the tensor at its end, and its values on the samples."""

    random: Random
    tensor: Any
    values: Any  # an eager tensor
    refusals: bool  # things without an exact form may be drawn
    past: list[tuple[Any, Any]] = field(default_factory=list)  # earlier tensors and values
    kinds: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    last: Counter[str] = field(default_factory=Counter)  # the kind that was drawn last

    @property
    def shape(self) -> tuple[int, ...]:
        """The current tensor's, without batch."""
        return tuple(self.tensor.shape[1:])

    def maybe(self, chance: float) -> bool:
        """Return True with this chance."""
        return self.random.random() < chance

    def quantizer(self, table: list[Kind], refused: list[Kind], *top: float) -> Any:
        """Draw a quantizer from `table`, or rarely, if allowed, from the `refused` ones."""
        kind = pick(self.random, refused if self.refusals and self.maybe(0.04) else table)
        self.note(kind)
        return kind.make(self.random, *top)

    def note(self, kind: Kind) -> None:
        """Count `kind`, and remember if it must be refused."""
        self.last = Counter([kind.name])
        self.kinds += self.last
        if kind.refused:
            self.refused.append(kind.name)

    def kernel(self) -> Any:
        """Draw a quantizer of weights."""
        return self.quantizer(KERNELS, REFUSED_KERNELS)

    def bias(self) -> dict[str, Any]:
        """Draw whether there is a bias, and its quantizer."""
        if self.maybe(0.25):
            return {"use_bias": False}
        return {"bias_quantizer": pick(self.random, BIASES).make(self.random)}

    def activation(self) -> Any:
        """Draw a quantizer for the current values; one that leaves a few of them is drawn anew."""
        for _ in range(5):
            chosen = self.quantizer(ACTIVATIONS, REFUSED_ACTIVATIONS, self.top)
            function = from_qkeras("get_quantizer")(chosen)
            if self.refused or variety(function(self.values)) >= min(variety(self.values), 16):
                break
            self.kinds -= self.last
        return chosen

    @property
    def top(self) -> float:
        """The largest of the current values without their sign."""
        return float(np.abs(self.values).max())

    def add(self, layer: Any, *others: tuple[Any, Any]) -> None:
        """Put `layer` behind the current tensor, and `others`, with random frozen weights."""
        tensors = [self.tensor, *(tensor for tensor, _ in others)]
        values = [self.values, *(value for _, value in others)]
        self.past.append((self.tensor, self.values))
        self.tensor = layer(tensors if others else self.tensor)
        for one in getattr(layer, "layers", [layer]):
            fixed = not self.maybe(0.07)
            set_weights(one, np.random.default_rng(self.random.getrandbits(32)), fixed)
            self.kinds[type(one).__name__] += 1
            if one.weights and not fixed:
                self.kinds["weights that are not frozen"] += 1
        self.values = layer(values if others else self.values)

    def fits(self, *shape: int) -> bool:
        """Tell whether a tensor of this shape is small enough."""
        return 0 < prod(shape) <= MAX_ELEMENTS


def variety(values: Any) -> int:
    """Return how many samples differ from each other."""
    return len(np.unique(np.reshape(values, (len(values), -1)), axis=0))


def set_weights(layer: Any, rng: np.random.Generator, freeze: bool = True) -> None:
    """Give `layer` random weights, and freeze them where its own quantizers take them."""
    folds = hasattr(layer, "batchnorm")
    quantizers = [] if folds else list(getattr(layer, "get_quantizers", list)())
    weights = [_weight(v.name.rpartition("/")[2], v.numpy(), layer, rng) for v in layer.weights]
    if len(quantizers) > len(weights) and not getattr(layer, "use_bias", True):
        quantizers = quantizers[: len(weights)]
    for place, quantizer in enumerate(quantizers[: len(weights)]):
        if quantizer is not None and weights[place].dtype == np.float32:
            weights[place] *= np.float32(2.0 ** getattr(quantizer, "integer", 0))
            if freeze:
                weights[place] = frozen(weights[place], quantizer, type(layer).__name__)
    if weights:
        layer.set_weights(weights)


def frozen(weight: NDArray[Any], quantizer: Any, layer: str) -> NDArray[Any]:
    """Return weights that `quantizer` leaves as they are, or nearly so: automatic scales drift."""
    import tensorflow as tf

    for _ in range(4):
        extra = layer.endswith("SeparableConv1D") and weight.ndim == 3  # as QKeras quantizes it
        given = weight[None] if extra else weight
        after = np.asarray(quantizer(tf.constant(given)), dtype=np.float32)
        after = after[0] if extra else after
        if np.array_equal(after, weight) or not np.isfinite(after).all():
            break
        weight = after
    return weight


def _weight(name: str, old: NDArray[Any], layer: Any, rng: np.random.Generator) -> NDArray[Any]:
    """Draw one weight array by its variable's name."""
    if old.dtype != np.float32:  # a counter
        return old
    name = name.partition(":")[0]
    norm = getattr(layer, "batchnorm", layer)
    short = getattr(norm, "epsilon", 1.0) < 1e-9  # then powers of two stay powers of two
    if name in ("gamma", "moving_variance") and short:
        exponents = rng.integers(-1, 2, old.shape)
        drawn = 2.0**exponents if name == "gamma" else 4.0**exponents
    elif name in ("beta", "moving_mean") and short:
        drawn = rng.integers(-8, 9, old.shape) / 4
    elif name in ("gamma", "moving_variance"):
        drawn = rng.uniform(0.3, 2.0, old.shape)
    elif name == "bias":
        drawn = rng.normal(0, 0.7, old.shape)
    else:
        drawn = rng.normal(0, rng.choice([0.3, 0.6, 1.2]), old.shape)
    return np.asarray(drawn, dtype=np.float32)
