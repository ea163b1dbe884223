"""An integer program as ONNX operators on 8-bit tensors; see `formats.clipped`."""

from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import Codes
from fastml_kit.graph import ranges
from fastml_kit.graph.float_graph import OPSET
from fastml_kit.graph.formats.conversion import Step
from fastml_kit.graph.ir import Node, Program
from fastml_kit.graph.lowering import PASSING, Lowering

#: Two products of uint8 and int8 may add up to this before some processors saturate.
PAIR_MOST = 2**15 - 1
#: What products become.
PRODUCTS = {"Conv": "ConvInteger", "MatMul": "MatMulInteger"}
REFUSED = {
    "BipolarQuant": "has one bit, plus or minus one step, which no Clip expresses",
    "ConvTranspose": "has no form on integers in ONNX",
    "MultiThreshold": "compares with thresholds, which no Clip expresses",
    "Trunc": "drops bits, which no Clip expresses",
}


class Narrow(NamedTuple):
    """A tensor of uint8 whose code, in its program's terms, is the byte less `zero`."""

    name: str
    zero: int


class Integers(Lowering):
    """A lowering in which products read 8-bit tensors.

    `narrow` has the uint8 form of each tensor that has one, and its zero point, which is minus the
    smallest code: onnxruntime multiplies int8 data at a quarter of the speed. Where an operation on
    float32 reads such a tensor, it is cast first. Everything else is as in `Lowering`: float32 that
    holds integers.
    """

    def __init__(self, program: Program) -> None:
        if wide := ranges.rounding_nodes(program):
            raise UnsupportedModel(
                f"{wide[0]} can need over 24 bits, so that rescaling it in float32 might round; "
                "use fewer bits"
            )
        super().__init__(program, np.float32)
        self.narrow: dict[str, Narrow] = {}
        self.converted: list[Step] = []
        self.stayed: list[Step] = []
        self._wide: set[str] = set()

    def build(self) -> Any:
        """Return the ONNX model: real inputs, real outputs, any batch."""
        from onnx import TensorProto, helper

        for node in self.program.nodes:
            if node.op in REFUSED:
                self._refuse(node, REFUSED[node.op])
            before = len(self.nodes)
            handler = self._passing if node.op in PASSING else getattr(self, f"_{node.op.lower()}")
            handler(node)
            self._say(node, self.nodes[before:])
        x, y = self.program.input, self.program.output
        end = f"{y}/real"
        self.add("Mul", y, self.put(2.0 ** -self.units[y]), to=end)
        ends = ((x, self.program.input_shape), (end, self.program.output_shape))
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", *shape))
            for name, shape in ends
        ]
        graph = helper.make_graph(
            self.nodes, "clipped", values[:1], values[1:], initializer=self.tensors
        )
        return helper.make_model(
            graph,
            producer_name="fastml_kit",
            ir_version=8,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )

    def add(self, op: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Add a node and return its output's name; uint8 inputs become float32 before it."""
        for name in inputs:
            if name in self.narrow and name not in self._wide:
                self._wide.add(name)
                self._widen(self.narrow[name], name)
        return super().add(op, *inputs, to=to, **attributes)

    def _widen(self, narrow: Narrow, target: str) -> None:
        """Make the codes of a uint8 tensor float32.

        Not by DequantizeLinear, which onnxruntime would fuse with the operation that comes next.
        """
        real = f"{target}/float" if narrow.zero else target
        self._cast(narrow.name, real, np.float32)
        if narrow.zero:
            super().add("Sub", real, self.put(narrow.zero), to=target)

    def put(self, values: Any, kind: Any = None) -> str:
        """Add a constant, a number as a number of no axes, and return its name."""
        from onnx import numpy_helper

        name = f"constant{len(self.tensors)}"
        array = np.asarray(values, dtype=kind or self.dtype, order="C")
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def _cast(self, source: str, target: str, kind: Any) -> None:
        from onnx import helper

        to = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        self.nodes.append(helper.make_node("Cast", [source], [target], to=to))

    def _say(self, node: Node, made: list[Any]) -> None:
        """Name the nodes made of `node`, and note what became of it."""
        for number, one in enumerate(made):
            one.name = f"{node.name}/{one.op_type}{number or ''}"
        what = ", ".join(one.op_type for one in made) or "nothing, as it changes no code"
        step = Step(f"{node.op} {node.name!r}", what)
        if node.op in (*PRODUCTS, "Quant") or node.output in self.narrow:
            self.converted.append(step)
        else:
            self.stayed.append(replace(step, what=f"{what} on float32 that holds integers"))

    def _refuse(self, node: Node, why: str) -> NoReturn:
        raise UnsupportedModel(
            f"{node.op} {node.name!r} {why}; keep the graph in QONNX, which the engines "
            "`reference` and `fast` take"
        )

    # -- operations on 8 bits

    def _quant(self, node: Node) -> None:
        attrs, spec, (source,) = node.attrs, node.attrs["spec"], node.inputs
        if spec.width > 8:
            self._refuse(node, f"has {spec.width} bits; an 8-bit tensor holds at most 8")
        if attrs["rounding"] != "ROUND":
            self._refuse(node, f"rounds by {attrs['rounding']}; QuantizeLinear rounds half to even")
        if attrs.get("zero_point", 0):
            self._refuse(
                node, f"has zero point {attrs['zero_point']}, which moves ties; 0 is carried"
            )
        if attrs.get("fracs") is not None:
            self._refuse(node, "has a scale for each channel; one for all is carried")
        unit, at = self.units[source], spec.frac
        if (divisor := attrs.get("divisor", 1)) != 1:
            # As in `Lowering`: rounded once, the quotient of a sum below 2**23 crosses no half.
            if ranges.size(self.found[source]) >= ranges.FLOAT32_SAFE // 2:
                self._refuse(node, "averages sums of over 23 bits")
            source = self.add("Div", source, self.put(divisor))
        span = spec.high - spec.low
        made = Narrow(f"{node.output}/uint8", -spec.low)
        quantized = self.add(
            "QuantizeLinear", source, self.put(2.0 ** (unit - at)), self.put(made.zero, np.uint8),
            to=made.name if span == 255 else None,
        )  # fmt: skip
        if span < 255:
            ends = (self.put(end, np.uint8) for end in (0, span))
            self.add("Clip", quantized, *ends, to=made.name)
        self.narrow[node.output], self.units[node.output] = made, at

    def _passing(self, node: Node) -> None:
        (source,) = node.inputs
        given = self.narrow.get(source)
        if given is None or (node.op == "Pad" and given.zero):  # padded with zeros, not codes of 0
            super()._passing(node)
            return
        made = Narrow(f"{node.output}/uint8", given.zero)
        if node.op != "Relu":
            self.units[given.name] = self.units[source]
            super()._passing(replace(node, inputs=(given.name,), output=made.name))
        elif given.zero:
            ends = (self.put(end, np.uint8) for end in (given.zero, 255))
            self.add("Clip", given.name, *ends, to=made.name)
        else:
            made = given
        self.narrow[node.output], self.units[node.output] = made, self.units[source]

    def _concat(self, node: Node) -> None:
        parts = [self.narrow.get(name) for name in node.inputs]
        kinds = {part and part.zero for part in parts}
        if None in kinds or len(kinds) > 1 or len({self.units[i] for i in node.inputs}) > 1:
            super()._concat(node)
            return
        made = Narrow(f"{node.output}/uint8", kinds.pop() or 0)
        self.add("Concat", *(part.name for part in parts if part), to=made.name, **node.attrs)
        self.narrow[node.output], self.units[node.output] = made, self.units[node.inputs[0]]

    def _linear(self, node: Node) -> None:
        source, weights, *bias = node.inputs
        given = self.program.constants[weights]
        data, unit = self._eight_bits(node, source)
        codes, ups = self._fitting(node, given.codes)
        largest = data.zero + int(self.found[source].high.max())
        parameters = self._parameters(codes, data.zero, largest)
        total = self.add(PRODUCTS[node.op], data.name, *parameters, **node.attrs)
        unit += given.frac
        plain = not bias and ups is None
        sums = node.output if plain else f"{node.output}/sums"
        self._cast(total, sums, np.float32)
        if ups is not None:
            sums = self.add("Mul", sums, self.put(2.0**ups), to=None if bias else node.output)
        if bias:
            beside = (-1, *(1,) * (given.codes.ndim - 2))
            self.add("Add", sums, self.constant(bias[0], unit, beside), to=node.output)
        self.units[node.output] = unit

    _matmul = _conv = _linear

    def _eight_bits(self, node: Node, source: str) -> tuple[Narrow, int]:
        """Return the uint8 form of `source` and its unit, made by a cast if its range allows."""
        if source in self.narrow:
            return self.narrow[source], self.units[source]
        found = self.found[source]
        low, high = int(found.low.min()), int(found.high.max())
        zero = max(-low, 0)
        if zero + high > 255:
            self._refuse(
                node,
                f"reads codes from {low} to {high}, which 8 bits cannot hold; put a Quant of at "
                "most 8 bits before it, or",
            )
        # In the unit of its codes; in another one they might be no integers.
        codes = self.data(source, found.frac)
        if zero:
            codes = self.add("Add", codes, self.put(zero))
        made = Narrow(f"{node.output}/uint8", zero)
        self._cast(codes, made.name, np.uint8)
        return made, found.frac

    def _fitting(self, node: Node, codes: Codes) -> tuple[Codes, NDArray[np.int64] | None]:
        """Return weights of 8 bits, and how many bits each output channel is to be shifted up.

        The shifts broadcast against the output. There are some only where scales by channel,
        aligned to the finest of them, made the codes wider than they are.
        """
        if codes.min(initial=0) >= -128 and codes.max(initial=0) <= 127:
            return codes, None
        channel = 1 if node.op == "MatMul" else 0
        others = tuple(axis for axis in range(codes.ndim) if axis != channel)
        bits = np.bitwise_or.reduce(codes, axis=others)
        ups = np.log2(np.maximum(bits & -bits, 1)).astype(np.int64)  # zeros at each channel's end
        shape = [1] * codes.ndim
        shape[channel] = -1
        codes = codes >> ups.reshape(shape)
        if codes.min(initial=0) < -128 or codes.max(initial=0) > 127:
            self._refuse(
                node,
                f"has weights from {codes.min()} to {codes.max()}, which 8 bits cannot hold; "
                "quantize them to 8 bits, or",
            )
        return codes, ups.reshape(-1, *(1,) * (codes.ndim - 2))

    def _parameters(self, codes: Codes, zero: int, largest: int) -> list[str]:
        """Return the weights for uint8 data up to `largest`, and the zero points if any."""
        safe = 2 * largest * int(np.abs(codes).max(initial=0)) <= PAIR_MOST
        kind, shift = (np.int8, 0) if safe else (np.uint8, 128)
        made = [self.put(codes + shift, kind)]
        if zero or shift:
            made.append(self.put(zero, np.uint8))
        if shift:
            made.append(self.put(shift, kind))
        return made
