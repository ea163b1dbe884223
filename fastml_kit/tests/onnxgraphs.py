"""ONNX files built node by node, for the tests of what reads them: any operation, any dialect."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fastml_kit.graph.writer import QONNX_DOMAIN

CUSTOM = {"BipolarQuant", "IntQuant", "MultiThreshold", "Quant", "Trunc"}


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    """Return a node named after its output, in QONNX's domain where it belongs there."""
    domain = QONNX_DOMAIN if op in CUSTOM else ""
    return helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes)


def quant(
    source: str, output: str, constants: dict[str, Any], scale: Any, bits: float, *,
    zero_point: float = 0.0, signed: int = 1, narrow: int = 0, rounding_mode: str = "ROUND",
) -> onnx.NodeProto:  # fmt: skip
    """Return a Quant node; its parameters go into `constants`."""
    names = [f"{output}_scale", f"{output}_zero_point", f"{output}_bits"]
    constants.update(zip(names, (scale, zero_point, bits), strict=True))
    return node(
        "Quant", [source, *names], output, signed=signed, narrow=narrow, rounding_mode=rounding_mode
    )


def model(
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, Any],
    shape: tuple[int, ...],
    *,
    to: tuple[int, ...] | None = None,
    qonnx_opset: int = 1,
) -> onnx.ModelProto:
    """Return a model from input ``x`` (1, *shape) to the last node's output (1, *to).

    Constants are float32, or int64 where they are given so.
    """
    tensors = []
    for name, given in constants.items():
        values = np.asarray(given)
        kind = values.dtype if values.dtype == np.int64 else np.float32
        tensors.append(numpy_helper.from_array(values.astype(kind), name))
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, *size))
        for name, size in (("x", shape), (nodes[-1].output[0], to or shape))
    )
    return helper.make_model(
        helper.make_graph(nodes, "test", [x], [y], tensors),
        ir_version=8,
        opset_imports=[
            helper.make_opsetid("", 16), helper.make_opsetid(QONNX_DOMAIN, qonnx_opset)
        ],
    )  # fmt: skip


def save(path: Path, *args: Any, **kwargs: Any) -> Path:
    """Write `model` of the arguments to `path`."""
    path.write_bytes(model(*args, **kwargs).SerializeToString(deterministic=True))
    return path
