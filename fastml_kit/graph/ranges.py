"""Which codes each tensor of a graph can take, proved by interval arithmetic, never sampled.

The bounds give the output its format, tell that no accumulator leaves its integer type, and are
what a backend needs to choose widths that lose nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.fixedpoint import Codes, FixedSpec
from fastml_kit.graph import reference
from fastml_kit.graph.ir import Node, Program, Tensor

INT64_SAFE = 2**62
#: Integers up to here are exact in float32, in which Keras, onnxruntime and hls4ml's inputs work.
FLOAT32_SAFE = 2**24

#: Operations whose output never falls when one of their inputs rises.
INCREASING = frozenset(reference.OPERATIONS) - {"Conv", "ConvTranspose", "MatMul", "Mul", "Sub"}


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
            ranges[node.output] = _first(node, program)
            continue
        try:
            found = bound(node, program, ranges)
        except BadRequest as error:  # aligning the binary points already takes too many bits
            raise _too_wide(node) from error
        if max(-found.low.min(), found.high.max()) >= INT64_SAFE:
            raise _too_wide(node)
        ranges[node.output] = found
    return ranges


def output_spec(program: Program) -> FixedSpec:
    """Return the narrowest format that holds every output the graph can give."""
    return analyse(program)[program.output].spec


def rounding_nodes(program: Program) -> list[str]:
    """Return the nodes whose result, or a partial sum on its way, can need over 24 bits.

    Without any, float32 engines compute the graph exactly, in whatever order they add up. With
    one, they may round there, and their equality with the integers is measured, not proved.
    """
    return [name for name, size in _sizes(program).items() if size > FLOAT32_SAFE]


def worst(program: Program) -> tuple[float, str]:
    """Return the largest code that any tensor or partial sum can take, and the node it is at."""
    sizes = _sizes(program)
    name = max(sizes, key=lambda name: sizes[name])
    return sizes[name], name


def size(bound: Range) -> float:
    """Return the largest absolute code."""
    return float(max(-int(bound.low.min()), int(bound.high.max())))


def _sizes(program: Program) -> dict[str, float]:
    found, sizes = analyse(program), {}
    for node in program.nodes:
        largest = size(found[node.output])
        if node.op in ("MatMul", "Conv", "ConvTranspose"):
            largest = max(largest, _partial_sums(node, program, found))
        sizes[f"{node.op} {node.name!r}"] = largest
    return sizes


def _partial_sums(node: Node, program: Program, found: dict[str, Range]) -> float:
    """Return a bound on every partial sum of a linear node's products, whatever the order."""
    x = found[node.inputs[0]]
    size = Tensor(np.maximum(-x.low, x.high), x.frac)
    weight = program.constants[node.inputs[1]]
    positive = Tensor(np.abs(weight.codes), weight.frac)
    biases = [  # which an engine may begin its sum with
        Tensor(np.abs(program.constants[name].codes), program.constants[name].frac)
        for name in node.inputs[2:]
    ]
    sums = reference.OPERATIONS[node.op](node, size, positive, *biases)
    return float(sums.codes.max(initial=0))


def _first(node: Node, program: Program) -> Range:
    """Return the range behind a quantizer of the input, which may be any real number."""
    if node.op == "Reshape" or node.op == "Flatten" or node.op == "Transpose":
        raise UnsupportedModel(
            f"{node.op} {node.name!r} reads the unquantized input; put the Quant before it"
        )
    if node.op not in ("Quant", "BipolarQuant", "MultiThreshold") or "divisor" in node.attrs:
        raise UnsupportedModel(
            f"{node.op} {node.name!r} reads the unquantized input; put a Quant (in Keras: "
            "a QActivation) first"
        )
    shape = (1, *program.input_shape)
    low, high, frac = quantizer_ends(node)
    return Range(np.broadcast_to(low, shape).copy(), np.broadcast_to(high, shape).copy(), frac)


def quantizer_ends(node: Node) -> tuple[ArrayLike, ArrayLike, int]:
    """Return the lowest and highest code that a quantizing node can give, and their frac."""
    attrs = node.attrs
    if node.op == "BipolarQuant":
        return -attrs["steps"], attrs["steps"], attrs["frac"]
    if node.op == "MultiThreshold":
        count = attrs["thresholds"].shape[1]
        return attrs["base"], attrs["base"] + attrs["step"] * count, attrs["frac"]
    spec, zero = attrs["spec"], attrs.get("zero_point", 0)
    fracs = attrs.get("fracs")
    up = 0 if fracs is None else spec.frac - fracs
    return np.left_shift(spec.low - zero, up), np.left_shift(spec.high - zero, up), spec.frac


def _too_wide(node: Node) -> UnsupportedModel:
    return UnsupportedModel(
        f"{node.op} {node.name!r} can leave 64-bit integers; give its inputs fewer bits"
    )


def bound(node: Node, program: Program, ranges: Mapping[str, Range]) -> Range:
    """Return the range of what `node` makes of its inputs, given theirs.

    Raises:
        UnsupportedModel: it multiplies two tensors of data, or could leave int64.
    """
    operation = reference.OPERATIONS[node.op]

    def bounds(name: str) -> tuple[Tensor, Tensor]:
        if name in program.constants:
            constant = program.constants[name]
            return (Tensor(constant.codes, constant.frac),) * 2
        found = ranges[name]
        return Tensor(found.low, found.frac), Tensor(found.high, found.frac)

    pairs = [bounds(name) for name in node.inputs]
    if node.op in ("MatMul", "Conv", "ConvTranspose"):
        least, most = _linear(node, program, pairs)
    elif node.op == "Sub":
        (low, high), (below, above) = pairs
        least, most = operation(node, low, above), operation(node, high, below)
    elif node.op == "Mul":
        _check_products(node, pairs)
        corners = [operation(node, a, b) for a in pairs[0] for b in pairs[1]]
        stacked = np.stack(np.broadcast_arrays(*(corner.codes for corner in corners)))
        least, most = (Tensor(side, corners[0].frac) for side in (stacked.min(0), stacked.max(0)))
    elif node.op in INCREASING:
        least = operation(node, *(low for low, _ in pairs))
        most = operation(node, *(high for _, high in pairs))
    else:  # pragma: no cover - a new operation must say how it is bounded
        raise AssertionError(f"{node.op} has no bound")
    return Range(least.codes, most.codes, least.frac)


def _linear(
    node: Node, program: Program, pairs: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    operation = reference.OPERATIONS[node.op]
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
    return least, most


def _check_products(node: Node, pairs: list[tuple[Tensor, Tensor]]) -> None:
    sizes = [
        max(int(np.abs(end.codes).max(initial=0)) for end in ends).bit_length() for ends in pairs
    ]
    if sum(sizes) > 62:
        raise _too_wide(node)
