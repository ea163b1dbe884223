"""Where a graph's images are channel first, and where channel last, as FINN's streams have them.

Only the process that runs FINN's steps (`child`) may call this: it imports FINN.
"""

from typing import Any

#: To channel last, and back to channel first.
THERE, BACK = (0, 2, 3, 1), (0, 3, 1, 2)


def keep_last(model: Any) -> Any:
    """Return a streamlined `model` whose images stay channel last from its input to its output.

    FINN's streamlining leaves a Transpose on either side of forks and of sums of two streams,
    which no unit can do. One Transpose of the input remains, for the host; the output's, if it is
    an image, is left out.
    """
    from qonnx.transformation.general import GiveUniqueNodeNames
    from qonnx.transformation.infer_datatypes import InferDataTypes
    from qonnx.transformation.infer_shapes import InferShapes

    x = model.graph.input[0].name
    if len(model.get_tensor_shape(x)) != 4:
        return model
    model = _moved(_there_and_back(model).transform(InferShapes()))
    _merge(model, x)
    _leave_out_last(model)
    for tidy in (GiveUniqueNodeNames, InferShapes, InferDataTypes):
        model = model.transform(tidy())
    return model


def _there_and_back(model: Any) -> Any:
    """Transpose the input twice: the way back can then move on to every reader of it."""
    from onnx import helper

    x = model.graph.input[0].name
    _replace(model, x, "image_in")
    for source, target, perm in (
        ("channels_last_in", "image_in", BACK),
        (x, "channels_last_in", THERE),
    ):
        turn = helper.make_node("Transpose", [source], [target], perm=perm)
        model.graph.node.insert(0, turn)
        model.set_tensor_datatype(target, model.get_tensor_datatype(x))
    return model


def _moved(model: Any) -> Any:
    """Move every way back towards the output, until none moves any more."""
    from finn.transformation.streamline import absorb, reorder
    from qonnx.transformation.general import SortGraph

    before: list[str] = []
    while (now := [node.op_type for node in model.graph.node]) != before:
        before = now
        for move in (
            reorder.MoveTransposePastFork,
            absorb.AbsorbConsecutiveTransposes,
            reorder.MoveTransposePastJoinAdd,
            absorb.AbsorbTransposeIntoMultiThreshold,
            reorder.MakeMaxPoolNHWC,
            SortGraph,
        ):
            model = model.transform(move())
    return model


def _merge(model: Any, x: str) -> None:
    """Let one Transpose of the input serve all of its readers."""
    first, *others = [node for node in model.graph.node if x in node.input]
    for node in others:
        if first.op_type == node.op_type == "Transpose":
            _replace(model, node.output[0], first.output[0])
            model.graph.node.remove(node)


def _leave_out_last(model: Any) -> None:
    """End in an image that is channel last."""
    output = model.graph.output[0]
    last = model.find_producer(output.name)
    if last.op_type != "Transpose":
        return
    name = last.input[0]
    shape, kind = model.get_tensor_shape(name), model.get_tensor_datatype(name)
    for info in [info for info in model.graph.value_info if info.name == name]:
        model.graph.value_info.remove(info)
    model.graph.node.remove(last)
    output.name = name
    model.set_tensor_shape(name, shape)
    model.set_tensor_datatype(name, kind)


def _replace(model: Any, old: str, new: str) -> None:
    """Let all that reads the tensor `old` read `new`."""
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
