"""QONNX's own executor: an engine nobody here wrote, one node at a time through onnxruntime."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray


def run(path: Path, values: ArrayLike, batch: int = 1024) -> NDArray[np.float64]:
    """Execute the QONNX file on `values` (samples, ...) and return its outputs.

    Samples go through in batches of at most `batch`; one at a time the executor is about a
    thousand times slower.
    """
    values = np.asarray(values, dtype=np.float32)
    parts = [
        _run_batch(path, values[start : start + batch]) for start in range(0, len(values), batch)
    ]
    return np.concatenate(parts).astype(np.float64)


def _run_batch(path: Path, values: NDArray[np.float32]) -> NDArray[np.float32]:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.change_batchsize import ChangeBatchSize
    from qonnx.transformation.infer_shapes import InferShapes

    model = ModelWrapper(str(path)).transform(ChangeBatchSize(len(values)))
    y = model.graph.output[0].name
    model.set_tensor_shape(y, [len(values), *model.get_tensor_shape(y)[1:]])
    # Shapes inside still speak of the old batch; forget them and infer them anew.
    del model.graph.value_info[:]
    model = model.transform(InferShapes())
    result: NDArray[np.float32] = execute_onnx(model, {model.graph.input[0].name: values})[y]
    return result
