"""Nodes of QONNX's channels-last dialect, read as the usual ones between two transpositions."""

from collections.abc import Callable
from typing import Any

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.ir import Constant
from fastml_kit.graph.readers.base import Reading, label

DOMAIN = "qonnx.custom_op.channels_last"


def channels_last(reading: Reading, node: Any, reader: Callable[[Reading, Any], None]) -> None:
    """Read `node` with `reader`, its data and its weights brought to channel first and back."""
    from onnx import NodeProto

    source, target = reading.operand(node.input[0]), node.output[0]
    shape, after = reading.shapes[source], reading.shapes[target]
    if len(shape) not in (3, 4):
        raise UnsupportedModel(f"{label(node)} is channels last with {len(shape)} axes; 3 or 4")
    first = (0, len(shape) - 1, *range(1, len(shape) - 1))
    last = (0, *range(2, len(shape)), 1)
    turned = NodeProto()
    turned.CopyFrom(node)
    turned.domain = ""
    turned.input[0], turned.output[0] = f"{target}_image", f"{target}_result"
    reading.shapes |= {
        turned.input[0]: tuple(shape[axis] for axis in first),
        turned.output[0]: tuple(after[axis] for axis in first),
    }
    name = node.name or target
    reading.emit("Transpose", f"{name}_to_first", (source,), turned.input[0], perm=first)
    if len(node.input) > 1:
        weights = reading.operand(node.input[1])
        if weights not in reading.constants:
            raise UnsupportedModel(f"{label(node)} has weights that are no constants")
        given = reading.constants[weights]
        turned.input[1] = f"{weights}_first"
        reading.constants[turned.input[1]] = Constant(given.codes.transpose(first), given.frac)
    reader(reading, turned)
    reading.emit("Transpose", f"{name}_to_last", (turned.output[0],), target, perm=last)
