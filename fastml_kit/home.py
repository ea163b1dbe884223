"""Taking a user's model in: its integer core if it has one, or the reason why it has none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import check, formats, host, importing, reference, verdict
from fastml_kit.graph.importing import Imported

#: Any format, to find out whether a format is all that is missing.
PROBE = FixedSpec(16, 6)
#: Samples that the reference engine works on at a time.
CHUNK = 512


@dataclass(frozen=True)
class Home:
    """What became of a graph: its integer core, or the reason why it has none."""

    imported: Imported | None
    reason: str = ""

    def head(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return what the host hands to the core for samples `x`, (n, *input shape)."""
        head = self.imported.head if self.imported else None
        return np.asarray(x if head is None else head(x), dtype=np.float64)

    def wires(self, inside: ArrayLike) -> NDArray[np.float64]:
        """Return what the core's input wires carry: codes of its first Quant, where it has one."""
        values = np.asarray(inside, dtype=np.float64)
        if self.imported is None:
            return values
        try:
            return host.quantize_input(self.imported.program, values)
        except UnsupportedModel:
            return values

    def answer(self, inside: ArrayLike) -> NDArray[np.float64]:
        """Return what the reference engine answers, some samples at a time to save memory.

        Raises:
            UnsupportedModel: there is no integer core.
        """
        if self.imported is None:
            raise UnsupportedModel(self.reason)
        values = np.asarray(inside, dtype=np.float64)
        starts = range(0, len(values), CHUNK)
        parts = (reference.run(self.imported.program, values[at : at + CHUNK]) for at in starts)
        return np.concatenate(list(parts))

    def tail(self, y: ArrayLike) -> NDArray[np.float64]:
        """Return what the host makes of the core's answers."""
        tail = self.imported.tail if self.imported else None
        return np.asarray(y if tail is None else tail(y), dtype=np.float64)


def read_format(text: str) -> FixedSpec | None:
    """Return the format that ``"16,6"`` or, without sign, ``"u8,0"`` stand for; `None` of ``""``.

    Raises:
        BadRequest: it has more bits than can be held.
    """
    if not text:
        return None
    width, _, integer = text.removeprefix("u").partition(",")
    return FixedSpec(int(width), int(integer), signed=not text.startswith("u"))


def bring(graph: Path, target: Path, spec: FixedSpec | None = None) -> Home:
    """Write the integer core of the graph in the file `graph` to `target`, if it has one.

    `spec` is what an unquantized input is put on.

    Raises:
        BadRequest: nothing is missing but the format of the input.
        RunError: `graph` is no ONNX file.
    """
    if verdict.dialect_of(check.load(graph)) in ("qcdq", "qdq"):
        converted = target.with_name(f"{target.stem}_qonnx.onnx")
        try:
            graph = formats.from_qcdq(graph, converted).path
        except UnsupportedModel as error:
            return Home(None, str(error))
    try:
        return Home(importing.import_graph(graph, target, input_spec=spec))
    except UnsupportedModel as error:
        refusal = error
    if spec is None:
        try:
            importing.import_graph(graph, target, input_spec=PROBE)
        except UnsupportedModel as error:
            # What stands behind an unquantized input is then the better reason.
            return Home(None, str(error if "input_format" in str(refusal) else refusal))
        target.unlink()
        raise BadRequest(str(refusal)) from refusal
    return Home(None, str(refusal))


def accuracy(outputs: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Return the share of samples, (n, classes), whose largest output has the label's number.

    A single output is taken for the class number itself, as an ArgMax or TopK at the end gives it.

    Raises:
        BadRequest: there is one output, and it is no class number; or a label is beyond the last.
    """
    outputs = outputs.reshape(len(outputs), -1)
    if outputs.shape[1] == 1:
        if not np.array_equal(outputs, np.floor(outputs)):
            raise BadRequest("the model has one output, which is no class number; leave labels out")
        return float(np.mean(outputs[:, 0] == labels))
    if labels.max() >= outputs.shape[1]:
        raise BadRequest(
            f"labels go up to {labels.max()}, but the model has {outputs.shape[1]} outputs"
        )
    return float(np.mean(outputs.argmax(axis=1) == labels))
