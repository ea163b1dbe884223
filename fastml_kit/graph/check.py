"""Reading an ONNX file that nobody here made: one typed error instead of a crash, a hang, a guess.

`load` looks at everything in plain Python first (`structure`, `operators`), and only then lets
onnx's own checker and shape inference see the model, so that what comes out is safe to walk: one
domain for QONNX's operators, batch 1, the shape of every tensor known and of a sensible size.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastml_kit.errors import FastmlError, RunError, UnsupportedModel
from fastml_kit.graph.checks import external, inference, operators, shapes, structure

#: Protobuf cannot hold more in one message.
MAX_BYTES = 2**31 - 1


@dataclass(frozen=True)
class Checked:
    """A model as `load` returns it, and what its file said before."""

    model: Any
    opsets: Mapping[str, int]
    operators: Mapping[str, int]
    #: What was set right on the way, a sentence each.
    notes: tuple[str, ...]


def load(path: Path) -> Any:
    """Return the ONNX model in the file at `path`, checked, as an ``onnx.ModelProto``.

    The model comes back with QONNX's operators in one domain, with batch 1, with its one input
    alone among the inputs, with external data read in, with constants and the arithmetic on shapes
    folded into initializers, and with the shape of every tensor in its `value_info`.

    Raises:
        RunError: there is no such file, or it is no ONNX file.
        UnsupportedModel: the model in it is broken, or asks for what has no support here.
    """
    return read(path).model


def read(path: Path) -> Checked:
    """Do what `load` does, and keep what the file itself said; raises as `load`."""
    path = Path(path)
    model = _parse(path)
    try:
        structure.check_model(model)
        external.bring_in(model, path.parent, MAX_BYTES)
        structure.check_values(model)
        opsets = operators.versions(model)
        counts = Counter(node.op_type for node in model.graph.node)
        notes = _notes(model)
        operators.canonicalise(model)
        imports = operators.versions(model)
        for node in model.graph.node:
            operators.check_node(node, imports)
        with refusing("onnx's checker refuses it"):
            import onnx

            onnx.checker.check_model(model)
        model = inference.infer(model)
    except FastmlError as error:
        raise type(error)(f"{path.name}: {error}") from error
    return Checked(model, opsets, dict(counts.most_common()), notes)


def _notes(model: Any) -> tuple[str, ...]:
    """Say what `read` is about to set right in a model as its file gives it."""
    found = []
    imported = {entry.domain for entry in model.opset_import}
    used = {node.domain for node in model.graph.node}
    if other := sorted(used.intersection(structure.ALIASES) - {structure.QONNX}):
        found.append(f"operators of {', '.join(other)} are read as those of {structure.QONNX}")
    if missing := sorted(used - imported - set(structure.STANDARD)):
        found.append(f"{', '.join(missing)} is used but not imported; version 1 is read")
    batch = shapes.batch_of(model)
    if batch != 1:
        found.append(f"the batch, {batch} in the file, is set to 1")
    return tuple(found)


def _parse(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        if not path.exists():
            raise RunError(f"{path} does not exist; give the path of an ONNX file")
        if not path.is_file():
            raise RunError(f"{path} is no file; give the path of an ONNX file")
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise RunError(f"{path.name} has {size} bytes; an ONNX file has 1 to {MAX_BYTES}")
        return onnx.ModelProto.FromString(path.read_bytes())
    except DecodeError as error:
        raise RunError(f"{path.name} is no ONNX file, or a damaged one: {error}") from error
    except (OSError, ValueError) as error:  # a path may also hold a zero byte
        raise RunError(f"{path} cannot be read: {error}") from error


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn whatever a library raises inside into one UnsupportedModel that begins with `what`.

    Put it around calls of onnx, onnxruntime and qonnx alone, which each raise errors of their
    own kinds; a fault of the kit must not hide in it.
    """
    try:
        yield
    except FastmlError:
        raise
    except Exception as error:
        raise UnsupportedModel(f"{what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
