"""A model made ready for counting: shapes and widths inferred, constants folded, nodes named."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import check

if TYPE_CHECKING:
    from onnx import ModelProto


def inferred(source: "Path | ModelProto") -> tuple[Any, str]:
    """Return the model with shapes and widths inferred and constants folded, and its name.

    The steps are those of qonnx's `inference-cost` tool, but for the last two, which would rename
    all nodes. `source` stays as it is.

    Raises:
        RunError: the file is missing or no ONNX file.
        UnsupportedModel: shapes and widths cannot be inferred.
    """
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.fold_constants import FoldConstants
    from qonnx.transformation.general import (
        GiveUniqueParameterTensors,
        RemoveStaticGraphInputs,
        RemoveUnusedTensors,
    )
    from qonnx.transformation.infer_datatypes import InferDataTypes
    from qonnx.transformation.infer_shapes import InferShapes

    if isinstance(source, Path):
        name, proto = source.name, check.load(source)
    else:
        name, proto = "the model", type(source)()
        proto.CopyFrom(source)
    if not proto.graph.input or not proto.graph.output:
        raise UnsupportedModel(f"{name} has no input or no output; a graph with both is needed")
    for node in proto.graph.node:
        # qonnx's shape inference never ends on these: it puts each in its own place, for ever.
        if node.domain.endswith("channels_last"):
            raise UnsupportedModel(
                f"node {node.name!r} of {name} is channel-last; give the graph as it was before "
                "ConvertToChannelsLastAndClean"
            )
    _name_nodes(proto)
    _state_batch(proto)
    steps = [
        InferShapes(),
        GiveUniqueParameterTensors(),
        InferDataTypes(allow_scaledint_dtypes=True),
        FoldConstants(exclude_op_types=[]),
        RemoveUnusedTensors(),
        RemoveStaticGraphInputs(),
        InferDataTypes(allow_scaledint_dtypes=True),
    ]
    try:
        model = ModelWrapper(proto)
        for node in model.get_nodes_by_op_type("Quant"):
            node.domain = "qonnx.custom_op.general"
        for step in steps:
            model = model.transform(step)
    except Exception as error:  # whichever of onnx, onnxruntime and qonnx refuses it
        raise UnsupportedModel(
            f"qonnx cannot infer shapes and widths in {name}: {first_line(error)}"
        ) from error
    return model, name


def first_line(error: Exception) -> str:
    """Return the first line of what `error` says, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _name_nodes(proto: "ModelProto") -> None:
    """Give a name to each node that has none or shares it; qonnx's analysis goes by names."""
    taken = Counter(node.name for node in proto.graph.node)
    for number, node in enumerate(proto.graph.node):
        if not node.name or taken[node.name] > 1:
            node.name = f"{node.name or node.op_type}_{number}"


def _state_batch(proto: "ModelProto") -> None:
    """Make an open batch axis 1, and let the shapes that depended on it be inferred."""
    for tensor in (*proto.graph.input, *proto.graph.output):
        axes = tensor.type.tensor_type.shape.dim
        if len(axes) and axes[0].dim_value < 1:
            axes[0].dim_value = 1
            del proto.graph.value_info[:]
