"""What a conversion from one way to write a quantized network to another did, node by node."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import check, verdict
from fastml_kit.graph.verdict import Dialect

#: How messages call the dialects.
NAMES: Mapping[str, str] = {
    "qonnx": "QONNX",
    "qcdq": "QCDQ",
    "qdq": "QuantizeLinear and DequantizeLinear without a Clip",
    "qop": "operators on integers",
    "finn": "FINN's thresholds",
    "float": "plain floats",
}


@dataclass(frozen=True)
class Step:
    """One node of the source, called as messages call it, and what became of it or why nothing."""

    node: str
    what: str

    def __str__(self) -> str:
        return f"{self.node}: {self.what}"


@dataclass(frozen=True)
class Conversion:
    """A converted file. Its outputs are those of the source, value by value.

    If the file has scales that are no powers of two, that holds for every quantizer alone; sums
    between them round in float32, as they do in the source, and engines add up in their own order.
    """

    path: Path
    source: Dialect
    target: Dialect
    converted: tuple[Step, ...]
    #: What is written as before, and why.
    stayed: tuple[Step, ...]
    #: Whether onnxruntime alone runs the file, without the qonnx package.
    standalone: bool
    #: What to know before running it.
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        runs = "runs in plain onnxruntime" if self.standalone else "needs qonnx to run"
        lines = [
            f"{self.path.name}: from {NAMES[self.source]} to {NAMES[self.target]}, {runs}",
            *(f"  {step}" for step in self.converted),
            *(f"  stays: {step}" for step in self.stayed),
            *(f"  note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Description:
    """Which way of writing a file uses, and the operator sets that it asks for."""

    file: str
    dialect: Dialect
    opsets: Mapping[str, int]
    operators: Mapping[str, int]
    standalone: bool

    def __str__(self) -> str:
        opsets = ", ".join(f"{domain or 'ONNX'} {v}" for domain, v in self.opsets.items())
        counts = ", ".join(f"{count} {op}" for op, count in self.operators.items())
        runs = "runs in plain onnxruntime" if self.standalone else "needs qonnx to run"
        return f"{self.file}: {NAMES[self.dialect]}, {opsets}; {runs}; {counts}"


def describe(path: Path) -> Description:
    """Tell which dialect the ONNX file at `path` is in, and its opsets, as the file says them.

    Raises:
        RunError, UnsupportedModel: as `check.load`; such a file is in none.
    """
    found = check.read(Path(path))
    alone = not any(node.domain for node in found.model.graph.node)
    dialect = verdict.dialect_of(found.model)
    return Description(Path(path).name, dialect, found.opsets, found.operators, alone)


def require_all(stayed: Iterable[Step], target: Dialect, fix: str) -> None:
    """Raise for the first node that `target` cannot carry, with the count of the others.

    Raises:
        UnsupportedModel: there is one.
    """
    steps = list(stayed)
    if steps:
        more = f" ({len(steps) - 1} more nodes cannot either)" if len(steps) > 1 else ""
        raise UnsupportedModel(
            f"{steps[0].node} cannot become {NAMES[target]}{more}: {steps[0].what}; {fix}"
        )
