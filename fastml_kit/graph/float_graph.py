"""Writing a plain ONNX graph of floats, node by node."""

from typing import Any

import numpy as np

OPSET = 16


class FloatGraph:
    """A graph in the making, whose tensors are of one type unless said otherwise."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def put(self, values: Any, kind: Any = None) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = f"fast:constant{len(self.tensors)}"
        self.tensors.append(
            numpy_helper.from_array(np.ascontiguousarray(values, dtype=kind or self.dtype), name)
        )
        return name

    def add(self, op: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Add a node and return its output's name."""
        from onnx import helper

        output = to or f"fast:{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def finished(
        self, x: str, y: str, input_shape: tuple[int, ...], output_shape: tuple[int, ...]
    ) -> Any:
        """Return the ONNX model from tensor `x` to `y`, for batches of any size."""
        from onnx import helper

        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        graph = helper.make_graph(
            self.nodes,
            "floats",
            [helper.make_tensor_value_info(x, kind, ("n", *input_shape))],
            [helper.make_tensor_value_info(y, kind, ("n", *output_shape))],
            initializer=self.tensors,
        )
        return helper.make_model(
            graph, ir_version=8, opset_imports=[helper.make_opsetid("", OPSET)]
        )
