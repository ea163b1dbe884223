"""The integer program: what a QONNX graph is once every number in it is an integer.

A tensor is an array of integer codes with one count of fractional bits; a node is one exact
operation on them. `graph.program` reads such a program from a file, `graph.reference` runs it,
`graph.ranges` bounds it, and the backends walk it. What each operation's `attrs` hold is said at
the reader that makes it (`graph.readers`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastml_kit.fixedpoint import Codes, shift


@dataclass(frozen=True)
class Node:
    """One operation. `attrs` holds what the operation needs, in Python types."""

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Constant:
    """Weights or biases as integers: value = codes * 2**-frac."""

    codes: Codes
    frac: int


@dataclass(frozen=True)
class Program:
    """A graph with one input and one output; shapes leave the batch axis out (NCHW)."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, Constant]
    input: str
    input_shape: tuple[int, ...]
    output: str
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """Integer codes of shape (samples, ...); value = codes * 2**-frac."""

    codes: Codes
    frac: int

    def aligned(self, frac: int) -> Codes:
        """Return the codes with `frac` fractional bits, at least as many as now."""
        return shift(self.codes, self.frac - frac)
