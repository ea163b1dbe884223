"""The integer program in FINN's own dialect: integer tensors, MultiThresholds, weights as codes.

FINN derives this form from a QONNX graph by moving scales about in floats, and rounds ties upward
where QONNX rounds them to even. Here it is written from the integer program instead: every
quantizer, with the biases, ReLUs and clips before it, is one nondecreasing function of the
accumulator's code, so that its thresholds are found by asking the reference engine where it
steps. Nothing is left for FINN to round. What follows (`process`) are FINN's own transformations.

What a circuit of streams leaves to the host is said here too: the input's quantizer, and a
constant added to the outputs.
"""

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from fastml_kit.backends.finn_backend.finn_graph import (
    datatype,
    first_at_least,
    shared_zeros,
    sum_spec,
)
from fastml_kit.backends.finn_backend.wires import QUANTIZERS, Wire, Wiring, refused
from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import Codes, FixedSpec
from fastml_kit.graph import ranges, reference
from fastml_kit.graph.ir import Constant, Node, Program, Tensor

#: A multiplier of FINN's matrix-vector unit takes operands up to so many bits.
MAX_BITS = 8
#: Nor does it take fewer; a bit alone gets a second one, which is always zero.
MIN_BITS = 2
#: Thresholds are found by binary search and stored one by one.
MAX_STEPS = 2**MAX_BITS - 1


@dataclass(frozen=True)
class Lowered:
    """A graph for FINN, and what the host does before and after it."""

    model: Any  # onnx.ModelProto; input and output hold integer codes
    input_spec: FixedSpec
    input_shape: tuple[int, ...]  # NCHW or flat, as the graph's input is
    output_shape: tuple[int, ...]
    circuit_shape: tuple[int, ...]  # of the circuit's output, NCHW or flat
    circuit_frac: int  # fractional bits of the codes that leave the circuit
    output_frac: int  # fractional bits of the graph's output, at least as many
    offsets: Codes  # (outputs,): what the host adds, in codes of the output
    layers: dict[str, str] = field(default_factory=dict)  # FINN's tensor -> the node it comes from


def lower(program: Program) -> Lowered:
    """Write `program` for FINN.

    Raises:
        UnsupportedModel: a node has no form as a stream of integers through FINN's RTL units.
    """
    return _Lowering(program).run()


class _Lowering(Wiring):
    def run(self) -> Lowered:
        for node in self.program.nodes:
            if node is self.quant:
                self._begin(node)
            elif node.op in QUANTIZERS:
                self._quantize(node)
            elif handler := getattr(self, f"_{node.op.lower()}", None):
                handler(node)
            else:
                raise refused(node, "has no unit in FINN's RTL library", "leave it out, or take "
                               "the flow through hls4ml")  # fmt: skip
        return self._finished()

    # -- the ends

    def _begin(self, node: Node) -> None:
        """Take what the host's quantizer leaves as the graph's input."""
        self.wires[node.output] = Wire("codes_in", node.output)
        self.shapes["codes_in"] = self.program.input_shape
        spec: FixedSpec = node.attrs["spec"]
        self.graph.types["codes_in"] = replace(spec, width=max(spec.width, MIN_BITS))

    def _finished(self) -> Lowered:
        last = self.wires[self.program.output]
        shape = self.shape(last.origin)
        offsets, frac = self.offsets(last, "the graph's output")
        if not self.graph.nodes:
            raise UnsupportedModel("the graph holds nothing but the input's quantizer")
        model = self.graph.model("codes_in", self.shapes["codes_in"], last.tensor, shape)
        return Lowered(
            model=model,
            input_spec=self.quant.attrs["spec"],
            input_shape=self.shapes["codes_in"],
            output_shape=self.program.output_shape,
            circuit_shape=shape,
            circuit_frac=self.found[last.origin].frac,
            output_frac=frac,
            offsets=np.broadcast_to(offsets.reshape(-1, *(1,) * (len(shape) - 1)), shape).ravel(),
            layers=self.graph.layers,
        )

    # -- elementwise operations are owed until a quantizer comes

    def _owe(self, node: Node) -> None:
        data = self.data(node)
        if len(data) == 2:
            self._add_streams(node)
            return
        if node.op == "Sub" and node.inputs[0] in self.program.constants:
            raise refused(node, "subtracts from a constant", "negate the weights before it")
        constants = tuple(self.program.constants[i] for i in node.inputs if i not in data)
        wire = self.wires[data[0]]
        self.wires[node.output] = replace(wire, owed=(*wire.owed, (node, constants)))

    _add = _sub = _clip = _relu = _leakyrelu = _owe

    # -- quantizers

    def _quantize(self, node: Node) -> None:
        """Replace a quantizer, and all that its input owes, by thresholds of each channel."""
        wire = self.wires[self.data(node)[0]]
        if node.attrs.get("overflow", "SAT") != "SAT":
            raise refused(node, "wraps around, so that no thresholds make it", "let it saturate")
        low, high = self.bounds(wire.origin)
        least, most = (self.applied(wire, side[None], node).codes for side in (low, high))
        base, top = int(least.min()), int(most.max())
        if top - base > MAX_STEPS:
            raise refused(node, f"has {top - base + 1} levels", f"use at most {MAX_BITS} bits")
        if base == top:
            raise refused(node, f"always gives the code {base}", "train the model")
        if not wire.owed and self.is_identity(wire, node, base, top):
            self.wires[node.output] = replace(wire, origin=node.output)
            return
        levels = np.arange(base + 1, top + 1)
        limits = first_at_least(
            lambda codes: self.applied(wire, codes, node).codes, low, high, levels
        )
        rows = limits.T  # (channels, levels)
        if (rows == rows[:1]).all():
            rows = rows[:1]
        spec = FixedSpec.spanning(base, top, 0)
        spec = FixedSpec(max(spec.width, MIN_BITS), 0, spec.signed)
        source = self.graph.types[wire.tensor]
        ends = min(int(rows.min()), source.low), max(int(rows.max()), source.high)
        constant = self.graph.put(rows, FixedSpec.spanning(*ends, 0))
        rank = len(self.shape(wire.origin))
        self.wires[node.output] = self.added(
            "MultiThreshold", node, wire.tensor, constant, spec=spec, out_scale=1.0,
            out_bias=float(base), out_dtype=datatype(spec),
            data_layout="NCHW" if rank == 3 else "NC",
        )  # fmt: skip

    # -- products

    def _weights(self, node: Node, axis: int) -> tuple[Codes, FixedSpec, Codes]:
        """Return weights, their format, and the bits that each output's share and do without."""
        codes = self.program.constants[node.inputs[1]].codes
        shifts = np.zeros(codes.shape[axis], dtype=np.int64)
        if self.rounded_later(node):
            # A scale of its own, such as a normalization leaves a channel, costs no multiplier.
            shifts = shared_zeros(np.moveaxis(codes, axis, 0))
            codes = codes >> shifts.reshape([-1 if k == axis else 1 for k in range(codes.ndim)])
        # Signed, and without the most negative code, which the unit's DSP48 cannot take.
        width = max(int(np.abs(codes).max()).bit_length() + 1, MIN_BITS)
        spec = FixedSpec(width, width, narrow=True)
        if spec.width > MAX_BITS:
            raise refused(node, f"has weights of {spec.width} bits", f"use at most {MAX_BITS}")
        return codes, spec, shifts

    def _multiplied(self, node: Node, op: str, axis: int, **rest: Any) -> None:
        weights, spec, shifts = self._weights(node, axis)
        wire = self.plain(node)
        if self.graph.types[wire.tensor].width > MAX_BITS:
            raise refused(node, f"reads codes of {self.graph.types[wire.tensor].width} bits",
                           f"quantize its input to at most {MAX_BITS}")  # fmt: skip
        bare, owed = node.output, list[tuple[Node, tuple[Constant, ...]]]()
        if len(node.inputs) == 3:
            # What leaves the unit has no bias yet, and may have fewer fractional bits.
            bare = f"{node.output} without bias"
            own = replace(node, inputs=node.inputs[:2], output=bare)
            self.found[bare] = ranges.bound(own, self.program, self.found)
            bias = self.program.constants[node.inputs[2]]
            rank = len(self.shape(node.output))
            shaped = Constant(bias.codes.reshape(-1, *(1,) * (rank - 1)), bias.frac)
            adding = Node("Add", node.name, (bare, node.inputs[2]), node.output, {})
            owed.append((adding, (shaped,)))
        if shifts.any():
            bare, scaling = self.scaled(node, bare, shifts)
            owed.insert(0, scaling)
        sums = self.found[bare].spec
        sums = replace(sums, integer=sums.width)
        made = self.added(op, node, wire.tensor, self.graph.put(weights, spec), spec=sums, **rest)
        made = replace(made, origin=bare, owed=tuple(owed))
        self.wires[node.output] = made

    def _matmul(self, node: Node) -> None:
        if len(self.shape(self.data(node)[0])) != 1:
            raise refused(node, "works on more than one axis", "flatten its input")
        self._multiplied(node, "MatMul", 1)

    def _conv(self, node: Node) -> None:
        codes = self.program.constants[node.inputs[1]].codes
        if codes.ndim != 4:
            raise refused(node, f"works on {codes.ndim - 2} axes", "write it over two, with "
                           "one of length 1")  # fmt: skip
        if node.attrs.get("group", 1) != 1:
            raise refused(node, "is grouped or depthwise, whose RTL unit needs a Versal device",
                           "use an ordinary convolution")  # fmt: skip
        if max(node.attrs.get("dilations") or (1,)) > 1:
            raise refused(node, "is dilated", "use dilation 1")
        self._multiplied(
            node, "Conv", 0, kernel_shape=list(codes.shape[2:]),
            strides=list(node.attrs["strides"]), pads=list(node.attrs["pads"]), group=1,
            dilations=[1, 1],
        )  # fmt: skip

    # -- shapes, pools, sums of two streams

    def _flatten(self, node: Node) -> None:
        if node.output == self.program.output:
            self.wires[node.output] = self.wires[node.inputs[0]]  # the host orders the elements
            return
        if self.at_the_input(node):
            self.shapes["codes_in"] = (prod(self.program.input_shape),)
        wire = self.plain(node)
        if len(self.shape(wire.origin)) == 1:
            self.wires[node.output] = replace(wire, origin=node.output)
            return
        self.wires[node.output] = self.added("Flatten", node, wire.tensor,
                                           spec=self.graph.types[wire.tensor], axis=1)  # fmt: skip

    def _reshape(self, node: Node) -> None:
        shape, wire = tuple(node.attrs["shape"]), self.plain(node)
        if self.at_the_input(node):
            self.shapes["codes_in"] = shape  # the host orders the input's elements anyway
            self.wires[node.output] = replace(wire, origin=node.output)
        elif len(shape) == 1:
            self._flatten(node)
        else:
            raise refused(node, f"gives a stream the shape {shape}", "flatten instead")

    def _maxpool(self, node: Node) -> None:
        wire, attrs = self.wires[node.inputs[0]], node.attrs
        if len(attrs["kernel_shape"]) != 2 or any(attrs["pads"]):
            raise refused(node, "is padded or not over two axes", "pool an image without padding")
        if max(attrs.get("dilations") or (1,)) > 1:
            raise refused(node, "is dilated", "use dilation 1")
        made = self.added(
            "MaxPool", node, wire.tensor, spec=self.graph.types[wire.tensor],
            kernel_shape=list(attrs["kernel_shape"]), strides=list(attrs["strides"]),
            pads=[0, 0, 0, 0],
        )  # fmt: skip
        if not wire.owed:
            self.wires[node.output] = made
            return
        # What is owed never falls where its input rises: it may as well be done after the pool.
        pooled = f"{node.output} before {wire.owed[0][0].name}"
        before = self.found[wire.origin]
        ends = [reference.max_pool(node, Tensor(side, before.frac)).codes
                for side in (before.low, before.high)]  # fmt: skip
        self.found[pooled] = ranges.Range(ends[0], ends[1], before.frac)
        self.wires[node.output] = Wire(made.tensor, pooled, wire.owed)

    def _add_streams(self, node: Node) -> None:
        if node.op != "Add":
            raise refused(node, "subtracts one tensor of data from another", "add a negated one")
        pair = sorted((self.wires[name] for name in node.inputs),
                      key=lambda wire: self.graph.types[wire.tensor].signed)  # fmt: skip
        if pair[0].tensor == pair[1].tensor:
            raise refused(node, "adds a tensor to itself", "double the weights before it")
        if "codes_in" in (pair[0].tensor, pair[1].tensor):
            raise refused(node, "adds the graph's own input, which FINN takes for a constant",
                           "put a layer before it")  # fmt: skip
        bounds = [self.found[wire.origin] for wire in pair]
        fracs = [bound.frac for bound in bounds]
        if fracs[0] != fracs[1]:
            raise refused(node, f"adds codes of {fracs[0]} and of {fracs[1]} fractional bits",
                           "give both summands quantizers of one scale")  # fmt: skip
        shapes = [self.shape(wire.origin) for wire in pair]
        if shapes[0] != shapes[1]:
            raise refused(node, f"adds the shapes {shapes[0]} and {shapes[1]}", "make them equal")
        sums = [a + b for a, b in zip((bounds[0].low, bounds[0].high),
                                      (bounds[1].low, bounds[1].high), strict=True)]  # fmt: skip
        bare = f"{node.output} without offsets"
        self.found[bare] = ranges.Range(sums[0], sums[1], fracs[0])
        spec = sum_spec(*(self.graph.types[wire.tensor] for wire in pair))
        made = self.added("Add", node, *(wire.tensor for wire in pair), spec=spec)
        added = [self.offsets(wire, f"the sum {node.name!r}") for wire in pair]
        finest = max(frac for _, frac in added)
        offsets = sum(codes << (finest - frac) for codes, frac in added)
        shaped = Constant(np.asarray(offsets).reshape(-1, *(1,) * (len(shapes[0]) - 1)), finest)
        adding = Node("Add", node.name, (bare, ""), node.output, {})
        owed = ((adding, (shaped,)),) if np.any(offsets) else ()
        self.wires[node.output] = Wire(made.tensor, bare if owed else node.output, owed)
