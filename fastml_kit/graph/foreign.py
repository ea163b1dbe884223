"""Running a checked model as it is, in float: by onnxruntime, or by qonnx's executor.

This is for models that have no integer form, and to compare those that have one with an engine
nobody here wrote. Samples go through one at a time, as a foreign graph may fix its batch to one.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest
from fastml_kit.graph.check import refusing
from fastml_kit.graph.checks.structure import dynamic_inputs


def engine_of(model: Any) -> str:
    """Return which engine `run` takes: ``qonnx`` where its operators are used, or onnxruntime."""
    return "qonnx" if any(node.domain for node in model.graph.node) else "onnxruntime"


def run(model: Any, values: ArrayLike) -> NDArray[np.float64]:
    """Run a model that `check.load` returned on `values`, (samples, *input shape).

    Raises:
        BadRequest: the values have another shape.
        UnsupportedModel: the engine itself refuses the model.
    """
    from onnx import helper

    value = dynamic_inputs(model.graph)[0]
    kind = value.type.tensor_type
    shape = tuple(dim.dim_value for dim in kind.shape.dim)
    given = np.asarray(values)
    if given.ndim != len(shape) or given.shape[1:] != shape[1:] or not len(given):
        raise BadRequest(f"inputs have shape {given.shape}, the graph wants samples of {shape[1:]}")
    given = given.astype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    engine = engine_of(model)
    with refusing(f"{engine} cannot run it"):
        ask = _qonnx(model) if engine == "qonnx" else _onnxruntime(model)
        parts = [ask({value.name: sample[None]}) for sample in given]
    return np.concatenate(parts).astype(np.float64)


def _qonnx(model: Any) -> Any:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    wrapper = ModelWrapper(model, make_deepcopy=True)
    output = model.graph.output[0].name
    return lambda feed: execute_onnx(wrapper, feed)[output]


def _onnxruntime(model: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; it need not be printed too
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda feed: session.run(None, feed)[0]
