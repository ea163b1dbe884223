"""Tensors on their way into FINN's graph, and the operations that each still owes.

Biases, ReLUs and clips cost nothing where a quantizer follows: they move its thresholds. Until one
comes they are owed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastml_kit.backends.finn_backend.finn_graph import FinnGraph
from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import Codes, FixedSpec
from fastml_kit.graph import ranges, reference
from fastml_kit.graph.host import input_quant
from fastml_kit.graph.ir import Constant, Node, Program, Tensor

#: Nondecreasing operations of one tensor of data, whatever their constants.
ELEMENTWISE = frozenset({"Add", "Clip", "LeakyRelu", "Relu", "Sub"})
QUANTIZERS = frozenset({"BipolarQuant", "MultiThreshold", "Quant", "Trunc"})


@dataclass(frozen=True)
class Wire:
    """A tensor of FINN's graph, and the operations that it still owes to the program's tensor."""

    tensor: str  # in FINN's graph
    origin: str  # in the program: whose codes the tensor holds
    owed: tuple[tuple[Node, tuple[Constant, ...]], ...] = ()


class Wiring:
    """A program, the graph made of it so far, and where each of the program's tensors is in it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.found = ranges.analyse(program)
        self.quant = input_quant(program)
        self.graph = FinnGraph()
        self.wires: dict[str, Wire] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    # -- reading the program

    def added(self, op: str, node: Node, *inputs: str, spec: FixedSpec, **rest: Any) -> Wire:
        """Add a node to the graph for all of the program's `node`; return its output's wire."""
        return Wire(self.graph.add(op, node.name, *inputs, spec=spec, **rest), node.output)

    def data(self, node: Node) -> list[str]:
        """Return those of the node's inputs that are no constants."""
        return [name for name in node.inputs if name not in self.program.constants]

    def plain(self, node: Node) -> Wire:
        """Return the wire of the node's one input of data, which must owe nothing."""
        wire = self.wires[self.data(node)[0]]
        if wire.owed:
            raise refused(node, "reads sums that no quantizer has rounded", "put a quantizer "
                           "(in Keras: a QActivation) before it")  # fmt: skip
        return wire

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of one of the program's tensors, without the batch."""
        if tensor == self.quant.output:
            return self.shapes["codes_in"]
        return self.found[tensor].low.shape[1:]

    def bounds(self, tensor: str) -> tuple[Codes, Codes]:
        """Return the least and greatest code of each channel, (channels,)."""
        found = self.found[tensor]
        rows = [np.moveaxis(side[0], 0, -1).reshape(-1, side.shape[1]) for side in
                (found.low, found.high)]  # fmt: skip
        return rows[0].min(axis=0), rows[1].max(axis=0)

    def applied(self, wire: Wire, codes: Codes, at: Node | None = None) -> Tensor:
        """Return what `codes`, (samples, channels), of the wire become by all that it owes."""
        rank = len(self.shape(wire.origin))
        image = codes.reshape(*codes.shape, *(1,) * (rank - 1))
        tensor = Tensor(image, self.found[wire.origin].frac)
        asked = () if at is None else ((at, ()),)
        for node, constants in (*wire.owed, *asked):
            others = [Tensor(c.codes, c.frac) for c in constants]
            tensor = reference.OPERATIONS[node.op](node, tensor, *others)
            if tensor.codes.shape != image.shape:
                raise refused(node, "has constants or scales that differ from place to "
                               "place", "use one for each channel")  # fmt: skip
        return Tensor(tensor.codes.reshape(codes.shape), tensor.frac)

    def offsets(self, wire: Wire, reader: str) -> tuple[Codes, int]:
        """Return what the wire's owed additions amount to: codes (channels,), fractional bits."""
        for node, _ in wire.owed:
            if node.op not in ("Add", "Sub"):
                raise refused(
                    node,
                    f"stands before {reader} with no quantizer between",
                    "put a quantizer after it",
                )
        zero = np.zeros((1, self.shape(wire.origin)[0]), dtype=np.int64)
        made = self.applied(wire, zero)
        return made.codes[0], made.frac

    def is_identity(self, wire: Wire, node: Node, base: int, top: int) -> bool:
        """Tell whether the quantizer keeps every code that reaches it, and its step."""
        if self.found[wire.origin].frac != self.found[node.output].frac:
            return False
        codes = np.arange(base, top + 1)[:, None]
        low, high = self.bounds(wire.origin)
        same = int(low.min()) == base and int(high.max()) == top
        return same and bool((self.applied(wire, codes, node).codes == codes).all())

    def at_the_input(self, node: Node) -> bool:
        """Tell whether `node` alone reads the input's codes, so that the host can do its work."""
        source = node.inputs[0]
        return self.wires[source].tensor == "codes_in" and len(self.users(source)) == 1

    def scaled(
        self, node: Node, tensor: str, shifts: Codes
    ) -> tuple[str, tuple[Node, tuple[Constant, ...]]]:
        """Return `tensor` without the low zero bits of each channel, and what it then owes."""
        found, name = self.found[tensor], f"{tensor} without common zeros"
        shaped = shifts.reshape(-1, *(1,) * (found.low.ndim - 2))
        self.found[name] = ranges.Range(found.low >> shaped, found.high >> shaped, found.frac)
        scaling = Node("Mul", node.name, (name, ""), tensor, {})
        return name, (scaling, (Constant(np.left_shift(1, shaped), 0),))

    def rounded_later(self, node: Node) -> bool:
        """Tell whether all that `node` makes goes to one quantizer, by way of what is owed."""
        while node.output != self.program.output:
            users = self.users(node.output)
            if len(users) != 1 or len(self.data(users[0])) != 1:
                return False
            (node,) = users
            if node.op in QUANTIZERS:
                return True
            if node.op not in ELEMENTWISE and node.op != "MaxPool":
                return False
        return False

    def users(self, tensor: str) -> list[Node]:
        """Return the program's nodes that read `tensor`."""
        return [node for node in self.program.nodes if tensor in node.inputs]


def refused(node: Node, what: str, remedy: str) -> UnsupportedModel:
    """Return the error that says what of `node` FINN's units cannot take, and what to do."""
    return UnsupportedModel(f"finn backend: {node.op} {node.name!r} {what}; {remedy}")
