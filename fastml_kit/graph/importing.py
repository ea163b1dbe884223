"""Bringing a foreign graph to the kit's own form: integers inside, floats only at the host's ends.

Models from elsewhere scale their input in floating point, keep batch normalizations, end in a
softmax. What comes before the first quantizer and after the last integer is the host's work and
goes into graphs of its own, `head` and `tail`. A float stretch between two integer tensors, each
element on its own, is worked out for every code that can reach it, by qonnx's executor itself, and
becomes a MultiThreshold with thresholds between two codes: equal by construction, and proved by
looking at all cases, none of them sampled. What resists is refused by name.

MultiThreshold: Umuroglu & Jahre, arXiv:1709.04060 (streamlining), as FINN has it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import FastmlError, UnsupportedModel
from fastml_kit.files import write_whole
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import check, execute, program, ranges
from fastml_kit.graph.checks import shapes
from fastml_kit.graph.ir import Program
from fastml_kit.graph.readers.base import Reading, label
from fastml_kit.graph.stretches import Stretch, resolve, submodel

#: Operations that look at each element alone, given constants; a stretch is made of them.
ELEMENTWISE = frozenset(
    {"Abs", "Add", "BatchNormalization", "Clip", "Div", "HardSigmoid", "Identity", "LeakyRelu"}
    | {"Mul", "Neg", "PRelu", "Pow", "Relu", "Selu", "Sigmoid", "Sqrt", "Squeeze", "Sub", "Tanh"}
    | {"Unsqueeze"}
)
#: What else may stand before the first quantizer: the host moves elements as it likes.
HEAD = ELEMENTWISE | {"Flatten", "Pad", "Reshape", "Transpose"}
#: What may follow the last integers.
TAIL = ELEMENTWISE | {"ArgMax", "Flatten", "LogSoftmax", "Reshape", "Softmax", "TopK"}
QUANTIZERS = frozenset({"BipolarQuant", "IntQuant", "MultiThreshold", "Quant"})


@dataclass(frozen=True)
class HostPart:
    """Float operations that the host computes before or after the circuit."""

    model: Any
    ops: tuple[str, ...]

    def __call__(self, values: ArrayLike) -> NDArray[np.float64]:
        """Compute them on (samples, ...) in float32, as qonnx's executor does."""
        return execute.run(self.model, values)


@dataclass(frozen=True)
class Imported:
    """A graph brought home: the file with its integer core, and the host's parts around it."""

    path: Path
    program: Program
    head: HostPart | None
    tail: HostPart | None
    notes: tuple[str, ...] = field(default=())


def import_graph(source: Path, target: Path, *, input_spec: FixedSpec | None = None) -> Imported:
    """Read the foreign graph `source` and write its integer core as QONNX to `target`.

    `input_spec` puts a Quant in front of a graph whose input has none.

    Raises:
        RunError: `source` is missing or no ONNX file.
        UnsupportedModel: a part between two integer tensors has no exact form, by name; or the
            input is not quantized and no `input_spec` was given.
    """
    core, head, tail, notes = split(check.load(source), input_spec)
    write_whole(target, core.SerializeToString(deterministic=True))
    return Imported(target, program.read(target), head, tail, notes)


def split(
    proto: Any, input_spec: FixedSpec | None = None
) -> tuple[Any, HostPart | None, HostPart | None, tuple[str, ...]]:
    """Return the core of a model from `check.load`, the host's two parts, and what was done.

    Raises:
        UnsupportedModel: as `import_graph`.
    """
    walk = _Walk(proto, input_spec)
    core, tail = walk.run()
    return core, walk.head, tail, tuple(walk.notes)


class _Walk:
    """One pass over a checked graph, which sorts every tensor into one of four kinds.

    Known before any sample is (constants, quantized weights); codes, which the integer reader
    takes; floats on a `Stretch` from codes; and `lost`, for a reason.
    """

    def __init__(self, proto: Any, input_spec: FixedSpec | None) -> None:
        from onnx import numpy_helper

        self.proto, self.notes = proto, list[str]()
        self.constants = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
        self.shapes = dict(shapes.known(proto))
        self.opset = next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
        self.nodes = list(proto.graph.node)
        self.input, self.head = self._find_head(input_spec)
        self.reading = Reading(self.constants, self.shapes)
        self.core: list[Any] = []
        self.stretches: dict[str, Stretch] = {}
        self.lost: dict[str, FastmlError] = {}
        if input_spec is not None:
            self._quantize_input(input_spec)

    def _dynamic(self, node: Any) -> list[str]:
        return [i for i in node.input if i and i not in self.constants]

    def _find_head(self, input_spec: FixedSpec | None) -> tuple[str, HostPart | None]:
        """Take the nodes between the input and its first quantizer out of `nodes`."""
        start = at = self.proto.graph.input[0].name
        taken: list[Any] = []
        while True:
            users = [node for node in self.nodes if at in node.input]
            if users and all(node.op_type in QUANTIZERS for node in users):
                break
            if input_spec is not None:  # a quantizer goes right behind the input
                return start, None
            if len(users) != 1 or users[0].op_type not in HEAD or self._dynamic(users[0]) != [at]:
                named = f"{label(users[0])} reads it" if users else "nothing reads it"
                raise UnsupportedModel(
                    f"the input is not quantized before {named}; say what format to put it in "
                    "(input_format, such as '16,6' for 16 bits of which 6 are integer)"
                )
            taken.append(users[0])
            at = users[0].output[0]
        self.nodes = [node for node in self.nodes if node not in taken]
        if not taken:
            return start, None
        ends, sizes = (start, at), (self.shapes[start], self.shapes[at])
        names = tuple(node.op_type for node in taken)
        self.notes.append(f"the host computes {', '.join(names)} before the first quantizer")
        return at, HostPart(self._submodel(taken, ends, sizes), names)

    def _submodel(self, nodes: list[Any], ends: tuple[str, str], sizes: Any) -> Any:
        model = submodel(nodes, self.constants, ends, sizes)
        model.opset_import[0].version = self.opset
        return model

    def _quantize_input(self, spec: FixedSpec) -> None:
        """Put a Quant behind the input; every reader of the input reads it instead."""
        from onnx import helper

        from fastml_kit.graph.writer import QONNX_DOMAIN

        name = f"{self.input}_quantized"
        values = {f"{name}_scale": spec.step, f"{name}_zero": 0.0, f"{name}_bits": spec.width}
        self.constants.update({k: np.asarray(v, dtype=np.float32) for k, v in values.items()})
        for node in self.nodes:
            node.input[:] = [name if i == self.input else i for i in node.input]
        self.shapes[name] = self.shapes[self.input]
        quant = helper.make_node(
            "Quant", [self.input, *values], [name], name=name, domain=QONNX_DOMAIN,
            signed=int(spec.signed), narrow=int(spec.narrow), rounding_mode="ROUND",
        )  # fmt: skip
        self.nodes.insert(0, quant)
        self.notes.append(f"the input is put on the grid of {spec}, as asked for")

    def run(self) -> tuple[Any, HostPart | None]:
        """Return the core model and the host's part after it."""
        for node in self.nodes:
            self._visit(node)
        output = self.proto.graph.output[0].name
        if output not in self.stretches and output not in self.lost:
            return self._core(output), None
        return self._cut(output)

    def _visit(self, node: Any) -> None:
        output, dynamic = node.output[0], self._dynamic(node)
        if failed := [i for i in dynamic if i in self.lost]:
            self._lose(node, self.lost[failed[0]])
            return
        floats = [i for i in dynamic if i in self.stretches]
        if not floats:
            try:
                self._read(node)
                return
            except FastmlError as error:
                reason = error
        else:
            reason = UnsupportedModel(f"{label(node)} reads floats that were not quantized again")
        alone = len(dynamic) == 1 and dynamic[0] not in self.reading.constants
        if not alone or node.op_type not in ELEMENTWISE | QUANTIZERS:
            self._lose(node, reason)
            return
        before = self.stretches.get(dynamic[0], Stretch(dynamic[0], ()))
        stretch = Stretch(before.source, (*before.nodes, node))
        if node.op_type in QUANTIZERS:
            try:
                self._resolve(stretch)
            except FastmlError as error:
                self._lose(node, error if floats else reason)
        elif stretch.source == self.input:
            self._lose(node, reason)
        else:
            self.stretches[output] = stretch

    def _lose(self, node: Any, reason: FastmlError) -> None:
        for output in node.output:
            self.lost[output] = reason

    def _read(self, node: Any) -> None:
        program.read_node(self.reading, node)
        self.core.append(node)

    def _resolve(self, stretch: Stretch) -> None:
        source = self.reading.names.get(stretch.source, stretch.source)
        if source == self.input:
            raise UnsupportedModel(f"{label(stretch.nodes[0])} reads the unquantized input")
        partial = program.finish(self.reading, self.input, source)
        bound = ranges.analyse(partial)[source]
        nodes, made = resolve(stretch, bound, self.constants, self.opset)
        self.constants.update(made)
        self._keep_shape(stretch, nodes)
        for node in nodes:
            self.shapes.setdefault(node.output[0], self.shapes[stretch.source])
            self._read(node)
        ops = ", ".join(node.op_type for node in stretch.nodes)
        cases = int((bound.high.max() - bound.low.min() + 1) * bound.low.shape[1])
        self.notes.append(
            f"{ops} became thresholds at {label(nodes[-1])}: equal in all {cases:,} cases"
        )

    def _keep_shape(self, stretch: Stretch, nodes: list[Any]) -> None:
        """Add a Reshape where the stretch also squeezed or unsqueezed axes of length one."""
        from onnx import helper

        output = nodes[-1].output[0]
        if len(self.shapes[output]) == len(self.shapes[stretch.source]):
            return
        nodes[-1].output[0] = f"{output}_levels"
        self.constants[f"{output}_shape"] = np.array([0, *self.shapes[output][1:]])
        nodes.append(
            helper.make_node(
                "Reshape", [nodes[-1].output[0], f"{output}_shape"], [output], f"{output}_reshape"
            )
        )

    def _core(self, output: str) -> Any:
        """Return the model of all that `output` is made from."""
        wanted, kept = {output}, []
        for node in reversed(self.core):
            if wanted.intersection(node.output):
                wanted |= set(node.input)
                kept.append(node)
        sizes = (self.shapes[self.input], self.shapes[output])
        return self._submodel(kept[::-1], (self.input, output), sizes)

    def _cut(self, output: str) -> tuple[Any, HostPart]:
        """Leave what follows the last codes to the host, if it is nothing but that."""
        wanted, tail = {output}, []
        done = {name for node in self.core for name in node.output}
        for node in reversed(self.nodes):
            if wanted.intersection(node.output) and not done.intersection(node.output):
                wanted |= set(self._dynamic(node))
                tail.append(node)
        sources = {i for node in tail for i in self._dynamic(node) if i in done}
        reason = self.lost.get(output) or UnsupportedModel("the output is never quantized")
        work = [node for node in tail if node.op_type not in TAIL]
        if work or len(sources) != 1:
            raise self.lost.get(work[-1].output[0], reason) if work else reason
        source, names = sources.pop(), tuple(node.op_type for node in tail[::-1])
        self.notes.append(f"the host computes {', '.join(names)} after the last integers")
        ends, sizes = (source, output), (self.shapes[source], self.shapes[output])
        model = self._submodel(tail[::-1], ends, sizes)
        # The winner of a TopK or an ArgMax is no float.
        kind = self.proto.graph.output[0].type.tensor_type.elem_type
        model.graph.output[0].type.tensor_type.elem_type = kind
        return self._core(source), HostPart(model, names)
