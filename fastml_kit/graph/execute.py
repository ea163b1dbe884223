"""QONNX's own executor: an engine nobody here wrote, one node at a time through onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHANNELS_LAST = "qonnx.custom_op.channels_last"


def run(graph: Path | Any, values: ArrayLike, batch: int = 1024) -> NDArray[np.float64]:
    """Execute a QONNX file, or a model from `check.load`, on `values` (samples, ...).

    Samples go through in batches of at most `batch`; one at a time the executor is about a
    thousand times slower.

    Raises:
        RunError: there is no such file, or it is no ONNX file.
        UnsupportedModel: the model is broken, or the executor cannot run it.
    """
    from fastml_kit.graph import check

    proto = check.load(graph) if isinstance(graph, Path) else graph
    if any(node.domain == CHANNELS_LAST for node in proto.graph.node):
        batch = 1  # qonnx's shape inference never ends on those; their shapes are known for one
    values = np.asarray(values, dtype=np.float32)
    models = {
        size: for_batch(proto, size)
        for size in {min(batch, len(values) - at) for at in range(0, len(values), batch)}
    }
    parts = []
    for start in range(0, len(values), batch):
        part = values[start : start + batch]
        with check.refusing("qonnx's executor cannot run it"):
            parts.append(_run_batch(models[len(part)], part))
    return np.concatenate(parts).astype(np.float64)


def for_batch(proto: Any, size: int) -> Any:
    """Return a qonnx ModelWrapper of a model from `check.load`, for `size` samples at once."""
    from onnx import numpy_helper
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.change_batchsize import ChangeBatchSize
    from qonnx.transformation.infer_shapes import InferShapes

    model = ModelWrapper(proto, make_deepcopy=True)
    if size == 1:
        return model
    targets = {n.input[1] for n in model.graph.node if n.op_type == "Reshape"}
    for tensor in model.graph.initializer:
        if tensor.name in targets:
            shape = numpy_helper.to_array(tensor).copy()
            if shape[0] == 1:  # the batch of one that the file speaks of; 0 is ONNX for "as it is"
                shape[0] = 0
                tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    model = model.transform(ChangeBatchSize(size))
    y = model.graph.output[0].name
    model.set_tensor_shape(y, [size, *model.get_tensor_shape(y)[1:]])
    # Shapes inside still speak of the old batch; forget them and infer them anew.
    del model.graph.value_info[:]
    return model.transform(InferShapes())


def _run_batch(model: Any, values: NDArray[np.float32]) -> NDArray[np.float32]:
    from qonnx.core.onnx_exec import execute_onnx

    context = execute_onnx(model, {model.graph.input[0].name: values})
    result: NDArray[np.float32] = context[model.graph.output[0].name]
    return result
