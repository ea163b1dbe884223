"""What an ONNX file must be before any library is asked about it: parsed, named, ordered, finite.

All of this is plain Python over the protobuf message, so that no file, however damaged, reaches
code that could crash on it. `check.load` is the way in.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import RunError, UnsupportedModel

#: ONNX's default domain goes by two names.
STANDARD = ("", "ai.onnx")
#: What exporters have called QONNX's domain over the years; all of it means the same operators.
QONNX = "qonnx.custom_op.general"
ALIASES = ("onnx.brevitas", "finn.custom_op.general", QONNX)
CHANNELS_LAST = "qonnx.custom_op.channels_last"
#: Opset versions: onnxruntime promises nothing before 7; QONNX's has two.
OLDEST_OPSET, QONNX_OPSETS = 7, (1, 2)
OLDEST_IR = 3
#: The largest size along one axis of a stored tensor.
MAX_SIZE = 2**28


def check_model(model: Any) -> None:
    """Check versions, names, order and tensors of a parsed model; nothing is changed.

    Raises:
        RunError: the message is no ONNX model at all.
        UnsupportedModel: it is one, and says something that has no meaning or no support here.
    """
    if not _clean_strings(model):
        raise RunError("a name in it is no UTF-8 text; the file is damaged, export it again")
    if not model.HasField("graph") or not model.graph.node:
        raise RunError("it holds no graph with nodes; export the model again")
    if model.functions or model.training_info:
        raise UnsupportedModel("it defines functions or training steps; inline them first")
    if model.graph.sparse_initializer:
        raise UnsupportedModel("it has sparse tensors; store them as dense initializers")
    _check_versions(model)
    _check_order(model.graph)


def label(node: Any) -> str:
    """Return how errors call a node: its operator and name, or else its first output."""
    name = node.name or (node.output[0] if node.output else "")
    return f"{node.op_type or 'node'} {name!r}"


def dynamic_inputs(graph: Any) -> list[Any]:
    """Return the inputs that a caller must give: those that no initializer fills."""
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def constants(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield every stored tensor of the model with the words that errors call it by."""
    for tensor in model.graph.initializer:
        yield f"initializer {tensor.name!r}", tensor
    for node in model.graph.node:
        for attribute in node.attribute:
            held = [attribute.t] if attribute.HasField("t") else []
            for tensor in (*held, *attribute.tensors):
                yield f"{label(node)}'s attribute {attribute.name!r}", tensor


def arrays(model: Any) -> dict[str, NDArray[Any]]:
    """Return the initializers of a checked model as arrays, by name."""
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _clean_strings(message: Any) -> bool:
    """Tell whether all strings inside are text; protobuf hands out damaged ones as bytes."""
    from google.protobuf.message import Message

    for field, value in message.ListFields():
        values = (value,) if isinstance(value, str | bytes | Message) else value
        if field.type == field.TYPE_STRING:
            if not all(isinstance(one, str) for one in values):
                return False
        elif field.type == field.TYPE_MESSAGE and not all(map(_clean_strings, values)):
            return False
    return True


def _check_versions(model: Any) -> None:
    from onnx import IR_VERSION, defs

    if not OLDEST_IR <= model.ir_version <= IR_VERSION:
        raise UnsupportedModel(
            f"it has IR version {model.ir_version}; {OLDEST_IR} to {IR_VERSION} are supported, "
            "export it again with a current tool"
        )
    found: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain in STANDARD else entry.domain
        if found.setdefault(domain, entry.version) != entry.version:
            raise UnsupportedModel(f"it imports domain {domain!r} in two versions; keep one")
    newest = defs.onnx_opset_version()
    if not OLDEST_OPSET <= found.get("", newest) <= newest:
        raise UnsupportedModel(
            f"it uses ONNX opset {found['']}; {OLDEST_OPSET} to {newest} are supported, convert "
            "it with onnx.version_converter"
        )
    versions = {found[domain] for domain in ALIASES if domain in found}
    if len(versions) > 1 or not versions <= set(QONNX_OPSETS):
        raise UnsupportedModel(
            f"it imports QONNX's domain in version {', '.join(map(str, sorted(versions)))}; one "
            f"of {QONNX_OPSETS} is needed"
        )
    for node in model.graph.node:
        if node.domain in STANDARD and "" not in found:
            raise UnsupportedModel(
                f"{label(node)} is of ONNX's own domain, which the file does not import; add an "
                "opset_import"
            )
        if node.op_type == "Trunc" and node.domain in ALIASES and not versions:
            raise UnsupportedModel(
                f"{label(node)} means different things in versions {QONNX_OPSETS} of QONNX's "
                f"domain, and the file imports none; add an opset_import of {node.domain!r}"
            )


def _check_order(graph: Any) -> None:
    """Check that every tensor is made once, and before it is used."""
    inputs = dynamic_inputs(graph)
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UnsupportedModel(
            f"it has {len(inputs)} inputs and {len(graph.output)} outputs; one of each is supported"
        )
    _unique("initializer", (tensor.name for tensor in graph.initializer))
    _unique("input", (value.name for value in graph.input))
    _unique("shape note for", (value.name for value in graph.value_info))
    outputs = [name for node in graph.node for name in node.output if name]
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    _unique("tensor", (*outputs, *known))
    made = set(outputs)
    for node in graph.node:
        for name in node.input:
            if not name or name in known:
                continue
            if name not in made:
                raise UnsupportedModel(
                    f"{label(node)} reads {name!r}, which nothing makes; the file lost a node or "
                    "an initializer"
                )
            raise UnsupportedModel(_out_of_order(graph, node, name))
        if not node.output or not node.output[0]:
            raise UnsupportedModel(f"{label(node)} has no output; remove it")
        known.update(node.output)
    if graph.output[0].name not in made:
        raise UnsupportedModel(
            f"no node makes the output {graph.output[0].name!r}; the file lost a node"
        )


def _out_of_order(graph: Any, node: Any, name: str) -> str:
    """Say whether `node`, which reads `name` too early, is in a cycle or only out of order."""
    makers = {out: other for other in graph.node for out in other.output if out}
    seen: set[str] = set()
    ahead = [name]
    while ahead:
        tensor = ahead.pop()
        if tensor in node.output:
            return f"{label(node)} is part of a cycle through {name!r}; a graph must have none"
        if tensor in makers and tensor not in seen:
            ahead.extend(makers[tensor].input)
        seen.add(tensor)
    return (
        f"{label(node)} reads {name!r} before it is made; sort the graph (qonnx's SortGraph does)"
    )


def _unique(kind: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not name or name in seen:
            what = f"two of the name {name!r}" if name else "one without a name"
            raise UnsupportedModel(f"of its {kind} entries there is {what}; names must be unique")
        seen.add(name)


def check_values(model: Any) -> None:
    """Check every stored tensor: type, shape against data, and finite numbers.

    Infinities pass where they stand for "no bound": as bounds of a Clip, or what a Pad puts in.
    """
    from onnx import numpy_helper

    open_ended = {
        name for node in model.graph.node if node.op_type in ("Clip", "Pad") for name in node.input
    }
    for where, tensor in constants(model):
        check_layout(where, tensor)
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind != "f":
            continue
        bad = np.isnan(values) if tensor.name in open_ended else ~np.isfinite(values)
        if count := int(np.count_nonzero(bad)):
            raise UnsupportedModel(
                f"{where} holds {count} NaN or infinite values; train or export it again"
            )


def check_layout(where: str, tensor: Any) -> None:
    """Check that a tensor's data are as many as its type and shape say."""
    from onnx import TensorProto, helper

    numeric = (
        "FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16", "BOOL",
        "INT4", "INT8", "INT16", "INT32", "INT64",
        "UINT4", "UINT8", "UINT16", "UINT32", "UINT64",
    )  # fmt: skip
    if tensor.data_type not in {TensorProto.DataType.Value(name) for name in numeric}:
        raise UnsupportedModel(
            f"{where} has element type {tensor.data_type}; only numbers are read"
        )
    if tensor.HasField("segment"):
        raise UnsupportedModel(f"{where} is split into segments; store it whole")
    if not all(0 <= size <= MAX_SIZE for size in tensor.dims):
        raise UnsupportedModel(
            f"{where} has shape {list(tensor.dims)}; sizes must be 0 to {MAX_SIZE:,}"
        )
    size = 1
    for dim in tensor.dims:
        size *= dim
    kind = TensorProto.DataType.Name(tensor.data_type)
    bits = (
        4
        if kind.endswith("INT4")
        else 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    )
    if tensor.HasField("raw_data"):
        fits = len(tensor.raw_data) == -(-size * bits // 8)
    else:
        field = getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))
        fits = len(field) == (-(-size // 2) if bits == 4 else size)
    if not fits:
        raise UnsupportedModel(
            f"{where} has shape {list(tensor.dims)} and another number of values; the file is "
            "damaged"
        )
