"""The integer program on its way to hls4ml: layers, their exact types, and where elements lie.

hls4ml keeps images and series channel last, the program channel first. A `Wire` says which of
the program's elements each of hls4ml's shows, so that flattening, reshaping and transposing cost
nothing: weights are permuted instead, and elements are moved only where a layer needs its order.

Every type is written out: a result holds what `graph.ranges` proved, so no layer rounds or wraps
but the one that stands for a Quant.
"""

import re
from dataclasses import dataclass, field
from itertools import permutations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph.ir import Node, Program
from fastml_kit.graph.ranges import Range

Indices = NDArray[np.int64]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Wire:
    """A tensor in hls4ml: the layer it leaves, its shape there, its type.

    `order[i]` is the program's (flat) number of the wire's i-th element.
    """

    layer: str
    shape: Shape
    order: Indices
    type: str


@dataclass
class Design:
    """hls4ml's list of layers in the making, and the precision of everything in it."""

    program: Program
    found: dict[str, Range]
    stream: bool
    merge: bool = False  # layers of weights give their activations' codes
    layers: list[dict[str, Any]] = field(default_factory=list)
    types: dict[str, dict[str, str]] = field(default_factory=dict)
    wires: dict[str, Wire] = field(default_factory=dict)
    #: Nodes that a layer before them has taken in.
    done: set[str] = field(default_factory=set)

    def add(
        self, kind: str, name: str, sources: tuple[Wire, ...], shape: Shape, order: Indices,
        types: dict[str, str], **attributes: Any,
    ) -> Wire:  # fmt: skip
        """Append a layer and return what leaves it; `types` needs at least `result`."""
        name = self._unique(name)
        layer = {"name": name, "class_name": kind, **attributes}
        if sources:
            layer["inputs"] = [source.layer for source in sources]
        self.layers.append(layer)
        self.types[name] = types
        return Wire(name, shape, order, types["result"])

    def shape(self, tensor: str) -> Shape:
        """Return the program's shape of `tensor`, without the batch."""
        return self.found[tensor].low.shape[1:]

    def type(self, tensor: str) -> str:
        """Return the narrowest type that holds every value of `tensor`."""
        return fixed(self.found[tensor].spec)

    def constant(self, tensor: str) -> NDArray[np.float64]:
        """Return the values of a constant."""
        given = self.program.constants[tensor]
        return np.asarray(given.codes * 2.0**-given.frac, dtype=np.float64)

    def follower(self, tensor: str, *ops: str) -> Node | None:
        """Return the one node that reads `tensor`, if its operation is one of `ops`."""
        users = [n for n in self.program.nodes if tensor in n.inputs]
        if tensor == self.program.output or len(users) != 1 or users[0].op not in ops:
            return None
        return users[0]

    def take_bias(self, node: Node, axis: int) -> tuple[str, NDArray[np.float64]]:
        """Return the output and the bias of a linear node, with an Add of constants behind it.

        `axis` of the program's shape is that of the outputs; the constants must be the same
        along all others.
        """
        outputs = self.shape(node.output)[axis]
        bias = np.zeros(outputs)
        if len(node.inputs) == 3:
            bias = bias + self.constant(node.inputs[2]).ravel()
        after = self.follower(node.output, "Add")
        if after is None:
            return node.output, bias
        other = after.inputs[after.inputs[0] == node.output]
        if other not in self.program.constants or node.output == other:
            return node.output, bias
        try:
            full = np.broadcast_to(self.constant(other), (1, *self.shape(node.output)))[0]
        except ValueError:
            return node.output, bias
        rows = np.moveaxis(full, axis, -1).reshape(-1, outputs)
        if (rows != rows[0]).any():
            return node.output, bias
        self.done.add(after.output)
        return after.output, bias + rows[0]

    def reshaped(self, wire: Wire, shape: Shape, where: str) -> Wire:
        """Return `wire` with another shape and the same order."""
        if wire.shape == shape:
            return wire
        return self.add(
            "Reshape", f"{where}_shaped", (wire,), shape, wire.order, {"result": wire.type},
            target_shape=list(shape),
        )  # fmt: skip

    def arranged(self, wire: Wire, tensor: str, wanted: Indices, shape: Shape, where: str) -> Wire:
        """Return `wire` with its elements in the order `wanted`, and with `shape`.

        Raises:
            UnsupportedModel: hls4ml has no layer that moves them so.
        """
        if np.array_equal(wire.order, wanted):
            return self.reshaped(wire, shape, where)
        # Axes of one element do not matter, but to hls4ml 1.3.0: it drops a Transpose of its input
        # whose first axis has one, as if what is left could not be turned.
        plain = tuple(length for length in self.shape(tensor) if length > 1)
        have, want = axes_of(wire.order, plain), axes_of(wanted, plain)
        if have and want:
            perm = [have.index(axis) for axis in want]
            source = self.reshaped(wire, tuple(plain[axis] for axis in have), where)
            turned = self.add(
                "Transpose", f"{where}_turned", (source,), tuple(plain[axis] for axis in want),
                wanted, {"result": wire.type}, perm=perm,
            )  # fmt: skip
            return self.reshaped(turned, shape, where)
        raise UnsupportedModel(
            f"hls4ml backend: {where!r} needs its elements in another order than hls4ml keeps "
            "them in, and no Transpose of hls4ml makes it; use the da4ml backend"
        )

    def image(self, tensor: str, where: str) -> Wire:
        """Return `tensor` channel last, as convolutions and pools want it."""
        shape = self.shape(tensor)
        return self.arranged(
            self.wires[tensor], tensor, channel_last(shape), (*shape[1:], shape[0]), where
        )

    def scaled(
        self, wire: Wire, where: str, scale: Any, bias: Any, result: str, shape: Shape
    ) -> Wire:
        """Multiply by and add constants, arrays that broadcast to the program's `shape`."""
        rows = [
            np.broadcast_to(np.asarray(v, dtype=np.float64), (1, *shape)).ravel()[wire.order]
            for v in (scale, bias)
        ]
        last, n_filt = wire.shape[-1], -1
        tables = [row.reshape(-1, last) for row in rows]
        if len(tables[0]) > 1 and all((table == table[0]).all() for table in tables):
            rows, n_filt = [table[0] for table in tables], last
        types = {"scale": weight_type(rows[0]), "bias": weight_type(rows[1]), "result": result}
        return self.add(
            "BatchNormalization", where, (wire,), wire.shape, wire.order, types,
            n_in=prod(wire.shape), n_filt=n_filt, scale_data=rows[0], bias_data=rows[1],
            use_gamma=True, use_beta=True,
        )  # fmt: skip

    def _unique(self, name: str) -> str:
        """Return a C++ name, unlike any other in any case of its letters."""
        clean = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "layer"
        clean = clean if clean[0].isalpha() else f"n_{clean}"
        known, number, made = {n.lower() for n in self.types}, 1, clean
        while made.lower() in known:
            number += 1
            made = f"{clean}_{number}"
        return made


def fixed(spec: FixedSpec, rounding: str = "", overflow: str = "") -> str:
    """Return the name of an ap_fixed type."""
    modes = f",{rounding},{overflow}" if rounding else ""
    return f"{'' if spec.signed else 'u'}fixed<{spec.width},{spec.integer}{modes}>"


def weight_type(values: NDArray[np.float64]) -> str:
    """Return the narrowest type that holds these constants, which are dyadic."""
    frac = 0
    while not np.array_equal(scaled := values * 2.0**frac, np.round(scaled)):
        frac += 1
    return fixed(FixedSpec.spanning(int(scaled.min()), int(scaled.max()), frac))


def natural(shape: Shape) -> Indices:
    """Return the program's own order."""
    return np.arange(prod(shape))


def axes_of(order: Indices, shape: Shape) -> Shape | None:
    """Return the axes of `shape` in the turn that gives `order`, if one does."""
    every = natural(shape).reshape(shape)
    for axes in permutations(range(len(shape))):
        if np.array_equal(every.transpose(axes).ravel(), order):
            return axes
    return None


def channel_last(shape: Shape) -> Indices:
    """Return the order of hls4ml's images: the first axis of the program comes last."""
    return np.moveaxis(natural(shape).reshape(shape), 0, -1).ravel()
