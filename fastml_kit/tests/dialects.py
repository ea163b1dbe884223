"""Plain onnxruntime, as anyone would start it, on files of any dialect."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper

from fastml_kit.graph.writer import QONNX_DOMAIN


def session(path: Path, *, optimized: bool = True) -> onnxruntime.InferenceSession:
    """Start onnxruntime, with its optimizations on as usual; it knows nothing of QONNX."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path: Path, values: ArrayLike, *, optimized: bool = True) -> NDArray[np.float64]:
    """Run the file on `values`, one sample at a time as QONNX files fix the batch to 1."""
    ask = session(path, optimized=optimized)
    (x,) = ask.get_inputs()
    samples = np.asarray(values, dtype=np.float32)[:, None]
    return np.concatenate([ask.run(None, {x.name: s})[0] for s in samples]).astype(np.float64)


def quantizers(path: Path) -> dict[str, tuple[Any, ...]]:
    """Return what every Quant of a file says, by its output: values and attributes alike."""
    graph = onnx.load(path).graph
    tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "Quant" and node.domain == QONNX_DOMAIN:
            attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            scale, zero, bits = (tensors[name] for name in node.input[1:])
            found[node.output[0]] = (
                node.name, np.squeeze(scale).tolist(), float(np.max(np.abs(zero))), float(bits),
                attrs.get("signed", 1), attrs.get("narrow", 0), attrs["rounding_mode"],
            )  # fmt: skip
    return found


def operators(path: Path) -> list[str]:
    """Return the types of a file's nodes, in order, without constants."""
    return [node.op_type for node in onnx.load(path).graph.node if node.op_type != "Constant"]
