"""Where the exporter stands: the tensor at hand, the layer being written, what was noted so far.

Keras has channels last, the graph has them first. A `Value` knows both: its shape as Keras has
it, and, once an image has been flattened, in which order the graph holds its elements.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.writer import Writer

Shape = tuple[int, ...]
Array = NDArray[np.float64]


def channel_first_shape(shape: Shape) -> Shape:
    """Return the graph's shape of a tensor that has `shape` in Keras; both without batch."""
    return (shape[-1], *shape[:-1])


@dataclass(frozen=True)
class Value:
    """A tensor of the graph. `shape` is Keras's, without batch, channels last.

    A vector made by flattening (and joining) images holds their elements channel first:
    `parts` are then the graph's shapes of what it was made of, in order; otherwise empty.
    """

    tensor: str
    shape: Shape
    parts: tuple[Shape, ...] = ()

    def order(self) -> NDArray[np.int64]:
        """Return, for every element of a vector as the graph has it, its place in Keras."""
        places, start = [], 0
        for c, *spatial in self.parts or (self.shape,):
            keras_places = np.arange(start, start + c * prod(spatial)).reshape(*spatial, c)
            places.append(np.moveaxis(keras_places, -1, 0).ravel())
            start += c * prod(spatial)
        return np.concatenate(places).astype(np.int64)


@dataclass(frozen=True)
class Affine:
    """What a batch normalization computes: ``(x - center) * factor + shift``, by channel."""

    factor: Array
    center: Array
    shift: Array

    @property
    def offset(self) -> Array:
        """What is added to ``x * factor``."""
        return self.shift - self.center * self.factor

    def detour(self, bias: ArrayLike) -> tuple[int, float]:
        """Return what Keras adds up for itself: fractional bits, and the sum of absolute values.

        `bias` is what the layer before the normalization adds.
        """
        terms = [np.asarray(bias) * self.factor, self.center * self.factor, self.shift]
        return (
            max(fraction_bits(term) for term in terms),
            float(sum(np.abs(term).max(initial=0) for term in terms)),
        )


def fraction_bits(values: Array) -> int:
    """Return the fewest bits below the binary point that hold all of `values` (may be < 0)."""
    values = values[values != 0]
    if not values.size:
        return 0
    mantissa, exponent = np.frexp(values)
    whole = np.abs(mantissa * 2.0**53).astype(np.int64)
    trailing = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    return int((53 - trailing - exponent).max())


@dataclass
class Notes:
    """What the exporter may do, and what it has done that a reader of the file must know."""

    exact: bool
    host: list[str] = field(default_factory=list)  # layers that the host has to compute
    inexact: list[str] = field(default_factory=list)  # where the graph may differ from Keras
    #: Averages over a number that is no power of two: by tensor, what they are. Only a Quant can
    #: read them, whose rounding makes them integers again.
    odd: dict[str, str] = field(default_factory=dict)
    #: By Quant, the binary places that a multiplication by alpha moves its result down.
    shrunk: dict[str, int] = field(default_factory=dict)
    #: By tensor, what Keras adds up on the way to it and the graph does not: fractional bits and
    #: the sum of absolute values.
    detours: dict[str, tuple[int, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """One use of one layer, and the graph that it is written to."""

    layer: Any
    name: str  # its own in the graph: a layer that is used twice has two
    out: Writer
    notes: Notes
    shape: Shape  # of the layer's output as Keras has it, without batch
    last: bool  # the layer's output is the model's
    #: A batch normalization that is folded into the layer.
    affine: Affine | None = None

    def inexact(self, sentence: str) -> None:
        """Note that what follows is not exact.

        Raises:
            UnsupportedModel: the export must be exact.
        """
        if self.notes.exact:
            raise UnsupportedModel(sentence)
        self.notes.inexact.append(sentence)

    def node(
        self, op: str, value: Value | str, *parameters: str, part: str = "", **options: Any
    ) -> str:
        """Write a node for this layer, or for a `part` of it, and return its output."""
        source = value if isinstance(value, str) else value.tensor
        for tensor in (source, *parameters):
            self.refuse_odd(tensor)
        return self.out.node(op, self.part(part), *parameters, source=source, **options)

    def refuse_odd(self, tensor: str) -> None:
        """Note that a node other than a Quant reads an average that is no dyadic number.

        Raises:
            UnsupportedModel: the export must be exact.
        """
        if tensor in self.notes.odd:
            self.inexact(
                f"{self.layer.name} reads {self.notes.odd[tensor]}, which has no exact binary "
                "fraction; put a QActivation between"
            )

    def part(self, part: str) -> str:
        """Return the name of a part of this layer."""
        return f"{self.name}_{part}" if part else self.name

    def constant(self, part: str, values: Any, dtype: Any = np.float32) -> str:
        """Write a plain initializer and return its name."""
        return self.out.constant(self.part(part), values, dtype)


def unsupported(kind: str, what: str, choices: Iterable[str]) -> UnsupportedModel:
    """Return the error for a layer or quantizer that the exporter does not know."""
    return UnsupportedModel(f"{what} is a {kind}; supported: {', '.join(sorted(choices))}")
