"""Constant nodes, weights turned about, and the small sums that make up a shape, done beforehand.

PyTorch writes ``x.reshape(x.shape[0], -1)`` as five nodes. Once the batch is set, all but the
Reshape are constants; onnx's reference evaluator, which is plain Python, works them out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.checks.structure import label

#: What shapes are computed with. None of them makes much out of little.
ARITHMETIC = (
    "Add", "Cast", "Concat", "Div", "Gather", "Identity", "Mul", "Slice", "Squeeze", "Sub",
    "Unsqueeze",
)  # fmt: skip
#: What leaves every number as it is: weights pass through it whatever their size.
LAYOUT = ("Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
#: Larger tensors are no shapes.
MAX_ELEMENTS = 64


def value(
    model: Any,
    node: Any,
    stored: Mapping[str, NDArray[Any]],
    shapes: Mapping[str, tuple[int, ...]],
) -> NDArray[Any] | None:
    """Return what `node` gives, or None if that depends on data or is no matter of shapes.

    `stored` holds the constants known so far, `shapes` the shapes of all tensors before the node.

    Raises:
        UnsupportedModel: the node's inputs do not suit it.
    """
    if node.domain or [name for name in node.output if name] != list(node.output[:1]):
        return None
    if node.op_type == "Shape":
        given = {node.input[0]: np.broadcast_to(np.float32(0), shapes[node.input[0]])}
    elif node.op_type == "Constant":
        given = {}
    elif node.op_type in ARITHMETIC and all(_is_small(stored.get(name)) for name in node.input):
        given = {name: stored[name] for name in node.input}
    elif node.op_type in LAYOUT and all(name in stored for name in node.input if name):
        given = {name: stored[name] for name in node.input if name}
    else:
        return None
    try:
        with np.errstate(all="raise"):
            result = np.asarray(_evaluate(model, node, given))
    except Exception as error:  # each of the evaluator's operators raises its own
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise UnsupportedModel(f"{label(node)} cannot be worked out: {line}") from error
    if result.dtype.kind not in "iufb":
        raise UnsupportedModel(f"{label(node)} gives no numbers; only numbers are read")
    return result


def _is_small(values: NDArray[Any] | None) -> bool:
    return values is not None and values.dtype.kind == "i" and values.size <= MAX_ELEMENTS


def _evaluate(model: Any, node: Any, given: Mapping[str, Any]) -> Any:
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    unknown = {
        name: helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None)
        for name in (*given, node.output[0])
    }
    graph = helper.make_graph([node], "one", [unknown[name] for name in given],
                              [unknown[node.output[0]]])  # fmt: skip
    one = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    results: Any = ReferenceEvaluator(one).run(None, dict(given))
    return results[0]
