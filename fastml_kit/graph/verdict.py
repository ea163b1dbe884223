"""What an ONNX file is, and how far up the ladder it can climb: a verdict, with reasons.

`exact` models run as integers, and no float32 engine can round in them; in `integer` ones it
might, so that equality there is measured instead of proved; `importable` ones become one of these
in `graph.importing`, which leaves floats at the ends to the host and turns those inside into
thresholds; `float` ones have parts with no exact integer form, and run in qonnx's executor or
onnxruntime alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import check, importing, program, ranges
from fastml_kit.graph.checks import shapes, structure
from fastml_kit.graph.readers import READERS

Level = Literal["exact", "integer", "importable", "float"]
Dialect = Literal["qonnx", "qcdq", "qdq", "qop", "finn", "float"]

#: Operators that compute on the integers themselves, as onnxruntime's quantized models do.
QUANTIZED_OPERATORS = ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul")


@dataclass(frozen=True)
class Verdict:
    """What one ONNX file holds. Shapes include the batch axis, set to 1."""

    file: str
    dialect: Dialect
    level: Level
    input: str
    input_shape: tuple[int, ...]
    output: str
    output_shape: tuple[int, ...]
    opsets: Mapping[str, int]
    operators: Mapping[str, int]
    #: Why the level is no higher, a sentence each.
    reasons: tuple[str, ...]
    #: What was set right on the way in.
    notes: tuple[str, ...]

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {op}" for op, count in self.operators.items())
        opsets = ", ".join(f"{domain or 'ONNX'} {v}" for domain, v in self.opsets.items())
        lines = [
            f"{self.file}: {self.level}, dialect {self.dialect}",
            f"  input {self.input!r} {list(self.input_shape)}, "
            f"output {self.output!r} {list(self.output_shape)}",
            f"  operators: {counts}",
            f"  opsets: {opsets or 'none'}",
            *(f"  because {reason}" for reason in self.reasons),
            *(f"  note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def examine(path: Path) -> Verdict:
    """Read the ONNX file at `path` and say what it is.

    Raises:
        RunError, UnsupportedModel: as `check.load`; such a file runs nowhere.
    """
    path = Path(path)
    found = check.read(path)
    model = found.model
    level, reasons = judge(model)
    known = shapes.known(model)
    x, y = structure.dynamic_inputs(model.graph)[0].name, model.graph.output[0].name
    return Verdict(
        file=path.name,
        dialect=dialect_of(model),
        level=level,
        input=x,
        input_shape=known[x],
        output=y,
        output_shape=known[y],
        opsets=found.opsets,
        operators=found.operators,
        reasons=reasons,
        notes=found.notes,
    )


def judge(model: Any) -> tuple[Level, tuple[str, ...]]:
    """Return the level of a model that `check.load` returned, and what keeps it from a higher."""
    if halves := _halves(model):
        return "float", (f"{_some(halves)} are of fewer bits than float32, and round",)
    try:
        graph = program.of_model(model)
        rounding = ranges.rounding_nodes(graph)
    except UnsupportedModel as error:
        reasons = (str(error), *_others(model, str(error)))
        return ("importable" if _importable(model) else "float"), reasons
    if rounding:
        return "integer", (f"{_some(rounding)} can need more than the 24 bits that float32 holds",)
    return "exact", ()


def _importable(model: Any) -> bool:
    try:
        importing.split(model)
    except UnsupportedModel:
        return False
    return True


def dialect_of(model: Any) -> Dialect:
    """Return which of the ways to write a quantized network a model uses."""
    used = {node.op_type for node in model.graph.node}
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    if "MultiThreshold" in used:
        return "finn"
    if any(node.domain == structure.QONNX for node in model.graph.node):
        return "qonnx"
    if used.intersection(QUANTIZED_OPERATORS):
        return "qop"
    if "DequantizeLinear" in used:
        clipped = any(
            makers.get(node.input[0]) == "Clip"
            for node in model.graph.node
            if node.op_type == "DequantizeLinear"
        )
        return "qcdq" if clipped else "qdq"
    return "float"


def _halves(model: Any) -> list[str]:
    """Return the tensors that hold fewer bits than integers of 24 need."""
    from onnx import TensorProto

    kinds = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return [repr(value.name) for value in values if value.type.tensor_type.elem_type in kinds]


def _others(model: Any, said: str) -> list[str]:
    """Return a sentence on the nodes without an integer form that `said` does not name yet."""
    strange = [
        f"{node.op_type} {node.name or node.output[0]!r}"
        for node in model.graph.node
        if node.op_type not in READERS and repr(node.name or node.output[0]) not in said
    ]
    return [f"these have no integer form either: {_some(strange)}"] if strange else []


def _some(names: list[str]) -> str:
    """Return the first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
