"""Writing a graph of FINN's dialect: integer tensors in float32, each with its type noted."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.fixedpoint import Codes, FixedSpec


class FinnGraph:
    """A graph in the making. `types` are those of its tensors, whose values are codes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[np.float32]] = {}
        self.types: dict[str, FixedSpec] = {}
        self.layers: dict[str, str] = {}  # tensor -> name of the node that it comes from

    def put(self, values: Any, spec: FixedSpec) -> str:
        """Add a constant of integers and return its name."""
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(values, dtype=np.float32)
        self.types[name] = spec
        return name

    def add(self, op: str, layer: str, *inputs: str, spec: FixedSpec, **attributes: Any) -> str:
        """Add a node that stands for `layer` and return its output's name; `spec` is its type."""
        from onnx import helper

        output, name = f"codes{len(self.nodes)}", f"n{len(self.nodes)}"
        domain = "qonnx.custom_op.general" if op == "MultiThreshold" else ""
        self.nodes.append(
            helper.make_node(op, inputs, [output], name=name, domain=domain, **attributes)
        )
        self.types[output] = spec
        self.layers[output] = layer
        return output

    def model(
        self, x: str, input_shape: tuple[int, ...], y: str, output_shape: tuple[int, ...]
    ) -> Any:
        """Return the ONNX model from tensor `x` to `y`; shapes leave the batch of one out."""
        from onnx import TensorProto, helper, numpy_helper
        from qonnx.core.modelwrapper import ModelWrapper

        graph = helper.make_graph(
            self.nodes,
            "finn",
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, (1, *input_shape))],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, (1, *output_shape))],
            initializer=[numpy_helper.from_array(v, name) for name, v in self.constants.items()],
        )
        proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 11)])
        model = ModelWrapper(proto)
        for name, spec in self.types.items():
            model.set_tensor_datatype(name, _datatype(spec))
        return model.model


def datatype(spec: FixedSpec) -> str:
    """Return the name that FINN has for integers of this format."""
    return str(_datatype(spec).name)


def _datatype(spec: FixedSpec) -> Any:
    from qonnx.core.datatype import DataType

    return DataType[f"{'INT' if spec.signed else 'UINT'}{spec.width}"]


def sum_spec(first: FixedSpec, second: FixedSpec) -> FixedSpec:
    """Return the type that FINN gives a sum of two streams.

    It overlooks a second one that is unsigned, and as wide as a signed first one: the sum would
    overflow. So the unsigned one must come first.
    """
    mixed = second.signed and not first.signed and first.width >= second.width
    width = max(first.width, second.width) + 1 + mixed
    return FixedSpec(width, width, first.signed or second.signed)


def first_at_least(
    ask: Callable[[Codes], Codes], low: Codes, high: Codes, levels: Codes
) -> NDArray[np.int64]:
    """Return the least codes, (levels, channels), at which `ask` reaches each level.

    `ask` is nondecreasing. A level that is never reached gets a code past the greatest.
    """
    below = np.broadcast_to(low - 1, (len(levels), len(low))).copy()
    above = np.broadcast_to(high + 1, below.shape).copy()
    while (above - below > 1).any():
        middle = (below + above) >> 1
        reached = ask(np.clip(middle, low, high)) >= levels[:, None]
        reached &= middle > below
        above, below = np.where(reached, middle, above), np.where(reached, below, middle)
    return above


def shared_zeros(rows: Codes) -> Codes:
    """Return for each row how many low bits are zero in all of its codes; 0 if all codes are."""
    together = np.bitwise_or.reduce(np.abs(rows).reshape(len(rows), -1), axis=1)
    lowest = together & -together
    return np.where(together > 0, np.log2(np.maximum(lowest, 1)).astype(np.int64), 0)


def elements(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return which element of a (flat) NCHW sample comes at each place of its stream, NHWC."""
    order = np.arange(prod(shape))
    return order if len(shape) == 1 else np.moveaxis(order.reshape(shape), 0, -1).ravel()
