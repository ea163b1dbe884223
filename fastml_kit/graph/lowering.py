"""An integer program as a plain ONNX graph of floats that hold its integers; see `graph.fast`."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import ranges, unrolling
from fastml_kit.graph.float_graph import FloatGraph
from fastml_kit.graph.ir import Node, Program

#: Operations that keep every element, or choose among them: a scale passes through unchanged.
PASSING = frozenset({"Flatten", "MaxPool", "Pad", "Relu", "Reshape", "Transpose", "Upsample"})
#: Thresholds that are counted one by one.
MAX_THRESHOLDS = 32


class Lowering(FloatGraph):
    """One pass over a program. `units` says how each tensor is stored: value * 2**unit."""

    def __init__(self, program: Program, dtype: Any) -> None:
        super().__init__(dtype)
        self.program = program
        self.found = ranges.analyse(program)
        self.units = {program.input: 0}
        self.pooled: set[str] = set()  # tensors that were pooled before they were asked to be
        self.users: dict[str, list[Node]] = {}
        for node in program.nodes:
            for tensor in node.inputs:
                self.users.setdefault(tensor, []).append(node)

    def model(self) -> tuple[Any, int, int]:
        """Return the ONNX model, the output's unit, and the size of the widest tensor."""
        for node in self.program.nodes:
            handler = getattr(self, f"_{node.op.lower()}", None)
            if node.op in PASSING:
                handler = self._passing
            if handler is None:
                raise UnsupportedModel(
                    f"{node.op} {node.name!r} has no fast form; use the reference engine"
                )
            handler(node)
        shapes = self.program.input_shape, self.program.output_shape
        model = self.finished(self.program.input, self.program.output, *shapes)
        widest = max(bound.low.size for bound in self.found.values())
        return model, self.units[self.program.output], max(widest, prod(self.program.input_shape))

    # -- building

    def constant(self, name: str, unit: int, shape: tuple[int, ...] | None = None) -> str:
        """Add a constant of the program, stored in `unit`."""
        given = self.program.constants[name]
        codes = given.codes if shape is None else given.codes.reshape(shape)
        return self.put(codes * 2.0 ** (unit - given.frac))

    def data(self, name: str, unit: int) -> str:
        """Return tensor `name` as stored in `unit`; a product with a power of two is exact."""
        if name in self.program.constants:
            return self.constant(name, unit)
        if unit == self.units[name]:
            return name
        return self.add("Mul", name, self.put(2.0 ** (unit - self.units[name])))

    def wanted(self, output: str) -> int | None:
        """Return the unit of the Quant that `output` is on its way to, if there is just one."""
        while len(users := self.users.get(output, [])) == 1:
            node = users[0]
            if node.op == "Quant" and node.attrs.get("fracs") is None:
                return int(node.attrs["spec"].frac)
            others = [i for i in node.inputs if i != output]
            fixed = all(i in self.program.constants for i in others)
            if not (node.op in PASSING or (node.op in ("Add", "Sub") and fixed)):
                return None
            output = node.output
        return None

    # -- operations

    def _passing(self, node: Node) -> None:
        (source,) = node.inputs
        self.units[node.output] = self.units[source]
        attrs, op, extra = dict(node.attrs), node.op, list[str]()
        users = self.users.get(node.output, [])
        if source in self.pooled:
            if op == "MaxPool":
                op, attrs = "Identity", {}
            else:
                self.pooled.add(node.output)
        if op == "Relu" and users and all(_clips_negative(user) for user in users):
            op = "Identity"
        elif op == "Reshape":
            extra, attrs = [self.put([0, *attrs["shape"]], np.int64)], {}
        elif op == "Pad":
            begins, ends = zip((0, 0), *attrs["pads"], strict=True)
            extra, attrs = [self.put([*begins, *ends], np.int64)], {}
        elif op == "Upsample":
            scales = self.put([1, 1, *attrs["scales"]], np.float32)
            op, extra = "Resize", ["", scales]
            attrs = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
                     "nearest_mode": "floor"}  # fmt: skip
        self.add(op, source, *extra, to=node.output, **attrs)

    def _quant(self, node: Node) -> None:
        attrs, spec = node.attrs, node.attrs["spec"]
        zero, fracs = attrs.get("zero_point", 0), attrs.get("fracs")
        (source,) = node.inputs
        if source in self.pooled:
            self.pooled.add(node.output)
        plain = not zero and fracs is None and attrs.get("divisor", 1) == 1
        if plain and self.units[source] != spec.frac and self._is_exact_in_place(spec, attrs):
            self._rounded_in_place(node)
            return
        if fracs is None:
            x = self.data(source, spec.frac)
        else:
            x = self.add("Mul", source, self.put(2.0 ** (fracs - self.units[source])))
        if (divisor := attrs.get("divisor", 1)) != 1:
            # A quotient rounded once never crosses a half; it cannot land on one by chance while
            # the sum stays below 2**23: the exact one is 1 / (2 * divisor) away.
            if ranges.size(self.found[source]) >= ranges.FLOAT32_SAFE // 2:
                raise UnsupportedModel(f"Quant {node.name!r} averages sums of over 23 bits")
            x = self.add("Div", x, self.put(divisor))
        if zero:
            x = self.add("Add", x, self.put(zero))
        last = None if zero or fracs is not None else node.output
        x = self.add("Clip", x, self.put(spec.low), self.put(spec.high))
        x = self._rounded(x, attrs["rounding"], node, last)
        if zero:
            to = node.output if fracs is None else None
            x = self.add("Sub", x, self.put(zero), to=to)
        if fracs is not None:
            self.add("Mul", x, self.put(2.0 ** (spec.frac - fracs)), to=node.output)
        self.units[node.output] = spec.frac

    def _is_exact_in_place(self, spec: FixedSpec, attrs: Mapping[str, Any]) -> bool:
        largest = max(-spec.low, spec.high) * np.finfo(self.dtype).eps
        return attrs["rounding"] == "ROUND" and bool(largest <= 0.5)

    def _rounded_in_place(self, node: Node) -> None:
        """Clip and round a tensor in the unit it has: to add a number so large that it has no bits
        below a step, and to subtract it, rounds half to even.
        """
        (source,), spec = node.inputs, node.attrs["spec"]
        step = 2.0 ** (self.units[source] - spec.frac)
        x = self.add("Clip", source, self.put(spec.low * step), self.put(spec.high * step))
        large = self.put(1.5 * step / np.finfo(self.dtype).eps)
        self.add("Sub", self.add("Add", x, large), large, to=node.output)
        self.units[node.output] = self.units[source]

    def _rounded(self, x: str, mode: str, node: Node, to: str | None = None) -> str:
        whole = {"ROUND": "Round", "FLOOR": "Floor", "CEIL": "Ceil"}
        if mode in whole:
            return self.add(whole[mode], x, to=to)
        if mode not in ("UP", "DOWN"):
            raise UnsupportedModel(
                f"{node.op} {node.name!r} rounds by {mode}, which has no fast form; use the "
                "reference engine"
            )
        size = self.add("Ceil" if mode == "UP" else "Floor", self.add("Abs", x))
        return self.add("Mul", size, self.add("Sign", x), to=to)

    def _bipolarquant(self, node: Node) -> None:
        (source,), frac = node.inputs, node.attrs["frac"]
        above = self.add("GreaterOrEqual", source, self.put(0))
        steps = np.asarray(node.attrs["steps"])
        self.add("Where", above, self.put(steps), self.put(-steps), to=node.output)
        self.units[node.output] = frac

    def _multithreshold(self, node: Node) -> None:
        attrs, (source,) = node.attrs, node.inputs
        rank = self.found[node.output].low.ndim
        columns = (attrs["thresholds"] * 2.0 ** self.units[source]).T
        if len(columns) > MAX_THRESHOLDS:
            raise UnsupportedModel(
                f"MultiThreshold {node.name!r} has {len(columns)} thresholds; at most "
                f"{MAX_THRESHOLDS} have a fast form. Use the reference engine."
            )
        total, step, none = self.put(attrs["base"]), self.put(attrs["step"]), self.put(0)
        for column in columns:
            limit = self.put(column.reshape(1, -1, *(1,) * (rank - 2)))
            reached = self.add("GreaterOrEqual", source, limit)
            total = self.add("Add", total, self.add("Where", reached, step, none))
        self.add("Identity", total, to=node.output)
        self.units[node.output] = attrs["frac"]

    def _sum(self, node: Node) -> None:
        a, b = node.inputs
        known = [self.units[i] for i in (a, b) if i in self.units]
        unit = max(known)
        self.add(node.op, self.data(a, unit), self.data(b, unit), to=node.output)
        self.units[node.output] = unit

    _add = _sub = _sum

    def _mul(self, node: Node) -> None:
        units = [
            self.units[i] if i in self.units else self.program.constants[i].frac
            for i in node.inputs
        ]
        pair = (self.data(i, unit) for i, unit in zip(node.inputs, units, strict=True))
        self.add("Mul", *pair, to=node.output)
        self.units[node.output] = sum(units)

    def _linear(self, node: Node) -> None:
        source, weights, *bias = node.inputs
        unit, own = self.wanted(node.output), self.units[source]
        if unit is None:
            unit = own + self.program.constants[weights].frac
        if node.op == "Conv" and unrolling.is_small(
            self._shape(source), self._shape(node.output), self.program.constants[weights]
        ):
            self._unrolled(node, unit)
            return
        inputs = [source, self.constant(weights, unit - own)]
        inputs += [self.constant(name, unit) for name in bias]
        self.add(node.op, *inputs, to=node.output, **node.attrs)
        self.units[node.output] = unit

    _matmul = _conv = _convtranspose = _linear

    def _unrolled(self, node: Node, unit: int) -> None:
        """Write a small convolution as a matrix product, with the max-pool behind it.

        What lies between never falls where its input rises (Relu, Quant), so the maximum may be
        taken first, before a Quant has to work on all elements.
        """
        source, weights, *bias = node.inputs
        shape, given = self._shape(node.output), self.program.constants[weights]
        codes = unrolling.matrix(node, self._shape(source), given)
        matrix = codes * 2.0 ** (unit - self.units[source] - given.frac)
        pool = self._only_user(node)
        while pool is not None and pool.op in ("Relu", "Quant"):
            pool = self._only_user(pool)
        after = shape if pool is None else self._shape(pool.output)
        order = unrolling.by_window(shape, pool, after)
        y = self.add("MatMul", self.add("Flatten", source), self.put(matrix[:, order.ravel()]))
        if bias:
            added = self.program.constants[bias[0]]
            values = added.codes.reshape(-1, 1) * 2.0 ** (unit - added.frac)
            everywhere = np.repeat(values, prod(shape[1:]), axis=1).ravel()
            y = self.add("Add", y, self.put(everywhere[order.ravel()]))
        if len(order) > 1:
            y = self.add("Reshape", y, self.put([0, *order.shape], np.int64))
            y = self.add("ReduceMax", y, axes=[1], keepdims=0)
            self.pooled.add(node.output)
            shape = after
        self.add("Reshape", y, self.put([0, *shape], np.int64), to=node.output)
        self.units[node.output] = unit

    def _only_user(self, node: Node) -> Node | None:
        users = self.users.get(node.output, [])
        return users[0] if len(users) == 1 and node.output != self.program.output else None

    def _shape(self, tensor: str) -> tuple[int, ...]:
        if tensor == self.program.input:
            return self.program.input_shape
        return self.found[tensor].low.shape[1:]

    def _sumpool(self, node: Node) -> None:
        """A convolution of every channel with ones: a mean times a count might round."""
        (source,), attrs = node.inputs, dict(node.attrs)
        size, shift = attrs.pop("kernel_shape"), attrs.pop("shift")
        channels = self.found[source].low.shape[1]
        ones = self.put(np.ones((channels, 1, *size)))
        self.add("Conv", source, ones, to=node.output, group=channels, **attrs)
        # Codes stay; what they are worth shrinks by the divisor's power of two.
        self.units[node.output] = self.units[source] + shift

    def _leakyrelu(self, node: Node) -> None:
        alpha = node.attrs["alpha"] * 2.0 ** -node.attrs["alpha_frac"]
        self.add("LeakyRelu", node.inputs[0], to=node.output, alpha=alpha)
        self.units[node.output] = self.units[node.inputs[0]]

    def _clip(self, node: Node) -> None:
        unit = self.units[node.inputs[0]]
        bounds = [
            "" if bound is None else self.put(bound * 2.0 ** (unit - node.attrs["frac"]))
            for bound in (node.attrs["low"], node.attrs["high"])
        ]
        self.add("Clip", node.inputs[0], *bounds, to=node.output)
        self.units[node.output] = unit

    def _concat(self, node: Node) -> None:
        unit = max(self.units[i] for i in node.inputs)
        parts = [self.data(i, unit) for i in node.inputs]
        self.add("Concat", *parts, to=node.output, axis=node.attrs["axis"])
        self.units[node.output] = unit


def _clips_negative(node: Node) -> bool:
    """Tell whether a Relu before `node` changes nothing, since a Quant clips at zero anyway."""
    plain = node.op == "Quant" and not node.attrs.get("zero_point", 0)
    return plain and node.attrs["spec"].low == 0
