"""Which codes each tensor of a graph can take, proved by interval arithmetic, never sampled.

The bounds give the output its format, tell that no accumulator leaves its integer type, and are
what a backend needs to choose widths that lose nothing.
"""

from dataclasses import dataclass

import numpy as np

from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.fixedpoint import Codes, FixedSpec
from fastml_kit.graph import reference
from fastml_kit.graph.program import Node, Program
from fastml_kit.graph.reference import Tensor

INT64_SAFE = 2**62


@dataclass(frozen=True)
class Range:
    """Smallest and largest code of every element, shape (1, ...); value = code * 2**-frac."""

    low: Codes
    high: Codes
    frac: int

    @property
    def spec(self) -> FixedSpec:
        """The narrowest format that holds every element."""
        return FixedSpec.spanning(int(self.low.min()), int(self.high.max()), self.frac)


def analyse(program: Program) -> dict[str, Range]:
    """Return the range of every tensor that a node of `program` makes.

    The input itself may be any real number; ranges begin at the Quant that reads it.

    Raises:
        UnsupportedModel: the input is used unquantized, or a sum could leave int64.
    """
    ranges: dict[str, Range] = {}
    for node in program.nodes:
        data = [i for i in node.inputs if i not in program.constants]
        if program.input in data:
            if node.op != "Quant":
                raise UnsupportedModel(
                    f"{node.op} {node.name!r} reads the unquantized input; put a Quant (in Keras: "
                    "a QActivation) first"
                )
            shape = (1, *program.input_shape)
            spec = node.attrs["spec"]
            ranges[node.output] = Range(
                np.full(shape, spec.low), np.full(shape, spec.high), spec.frac
            )
            continue
        try:
            found = _bound(node, program, ranges)
        except BadRequest as error:  # aligning the binary points already takes too many bits
            raise _too_wide(node) from error
        if max(-found.low.min(), found.high.max()) >= INT64_SAFE:
            raise _too_wide(node)
        ranges[node.output] = found
    return ranges


def output_spec(program: Program) -> FixedSpec:
    """Return the narrowest format that holds every output the graph can give."""
    return analyse(program)[program.output].spec


def _too_wide(node: Node) -> UnsupportedModel:
    return UnsupportedModel(
        f"{node.op} {node.name!r} can leave 64-bit integers; give its inputs fewer bits"
    )


def _bound(node: Node, program: Program, ranges: dict[str, Range]) -> Range:
    operation = reference.OPERATIONS[node.op]

    def bounds(name: str) -> tuple[Tensor, Tensor]:
        if name in program.constants:
            constant = program.constants[name]
            return (Tensor(constant.codes, constant.frac),) * 2
        found = ranges[name]
        return Tensor(found.low, found.frac), Tensor(found.high, found.frac)

    pairs = [bounds(name) for name in node.inputs]
    if node.op in ("MatMul", "Conv"):
        if any(name not in program.constants for name in node.inputs[1:]):
            raise UnsupportedModel(
                f"{node.op} {node.name!r} multiplies two tensors of data; its weights must be "
                "constants, and stand second"
            )
        (low, high), (weight, _), *bias = pairs
        if float(np.abs(weight.codes).sum()) * max(-low.codes.min(), high.codes.max()) > INT64_SAFE:
            raise _too_wide(node)
        # A positive weight carries its input's bound through, a negative one swaps the two.
        up = Tensor(np.maximum(weight.codes, 0), weight.frac)
        down = Tensor(np.minimum(weight.codes, 0), weight.frac)
        biases = [b for b, _ in bias]
        least = reference.add(node, operation(node, low, up, *biases), operation(node, high, down))
        most = reference.add(node, operation(node, high, up, *biases), operation(node, low, down))
    else:  # every other operation is monotonic in each of its inputs
        least = operation(node, *(low for low, _ in pairs))
        most = operation(node, *(high for _, high in pairs))
    return Range(least.codes, most.codes, least.frac)
