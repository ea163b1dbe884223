"""Writing a QONNX file node by node.

The kit's exporter uses it, and so can you, for a network that never was in Keras. Written one
after another, nodes form a chain that begins with the model's input::

    graph = Writer(shape=(64,))
    graph.quantize("pixels", FixedSpec(5, 1, signed=False))
    graph.node("MatMul", "scores", graph.weight("w", values, FixedSpec(4, 1)), shape=(10,))
    graph.save(path, "linear")

Every method returns the name of the tensor it made, and takes the name of the tensor it reads as
`source`; so branches are written by keeping names::

    trunk = graph.quantize("act", FixedSpec(4, 2))
    left = graph.node("Relu", "left", source=trunk)
    graph.node("Add", "sum", trunk, source=left)
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from fastml_kit import __version__
from fastml_kit.errors import BadRequest
from fastml_kit.fixedpoint import FixedSpec

OPSET = 16
QONNX_DOMAIN = "qonnx.custom_op.general"
INPUT, OUTPUT = "x", "y"


@dataclass
class Writer:
    """The graph being written; `tensor` and `shape` are those of the node written last."""

    shape: tuple[int, ...]  # of the current tensor without batch, channel first
    tensor: str = field(default=INPUT, init=False)
    nodes: list[onnx.NodeProto] = field(default_factory=list, init=False)
    initializers: list[onnx.TensorProto] = field(default_factory=list, init=False)
    metadata: dict[str, str] = field(default_factory=dict, init=False)  # becomes metadata_props

    def __post_init__(self) -> None:
        self.input_shape = self.shape
        self.shapes = {INPUT: self.shape}  # of every tensor of data
        self._taken = {INPUT, OUTPUT}

    def _claim(self, name: str) -> str:
        if name in self._taken:
            raise BadRequest(f"two tensors would be named {name!r}; give each node its own name")
        self._taken.add(name)
        return name

    def constant(self, name: str, values: ArrayLike, dtype: Any = np.float32) -> str:
        """Add an initializer and return its name."""
        array = np.asarray(values, dtype=dtype)
        self.initializers.append(numpy_helper.from_array(array, self._claim(name)))
        return name

    def node(
        self,
        op: str,
        name: str,
        *parameters: str,
        source: str | None = None,
        shape: tuple[int, ...] | None = None,
        **attributes: Any,
    ) -> str:
        """Add a node that reads `source` (or else the current tensor) and then `parameters`.

        `shape` is the output's, without batch; left out where the node keeps its source's. The
        output is the current tensor next, and its name is returned. An attribute named `domain`
        is the operator's domain.
        """
        source = source or self.tensor
        self.tensor = self._claim(f"{name}_out")
        self.shape = self.shapes[source] if shape is None else shape
        self.shapes[self.tensor] = self.shape
        self.nodes.append(
            helper.make_node(op, [source, *parameters], [self.tensor], name=name, **attributes)
        )
        return self.tensor

    def quant_node(
        self, name: str, source: str, spec: FixedSpec, scale: ArrayLike, rounding: str = "ROUND"
    ) -> str:
        """Add a Quant node that puts `source` on a grid; return its output.

        The width, signedness and narrowness are those of `spec`; the step is `scale`, of any
        shape that broadcasts against the tensor.
        """
        scale = np.asarray(scale)
        parameters = [
            self.constant(f"{name}_scale", scale),
            self.constant(f"{name}_zero_point", np.zeros(scale.shape)),
            self.constant(f"{name}_bits", float(spec.width)),
        ]
        self.nodes.append(
            helper.make_node(
                "Quant",
                [source, *parameters],
                [self._claim(f"{name}_out")],
                name=name,
                domain=QONNX_DOMAIN,
                signed=int(spec.signed),
                narrow=int(spec.narrow),
                rounding_mode=rounding,
            )
        )
        return f"{name}_out"

    def quantize(
        self, name: str, spec: FixedSpec, *, source: str | None = None, rounding: str = "ROUND"
    ) -> str:
        """Quantize `source`, or else the current tensor; return the result's name."""
        source = source or self.tensor
        self.shape = self.shapes[source]
        self.tensor = self.quant_node(name, source, spec, spec.step, rounding)
        self.shapes[self.tensor] = self.shape
        return self.tensor

    def weight(
        self, name: str, values: NDArray[Any], spec: FixedSpec, scale: ArrayLike | None = None
    ) -> str:
        """Add quantized weights as an initializer behind a Quant, as QONNX has them.

        `scale` is the step where it is not that of `spec`, such as one step a channel.
        """
        if scale is None:
            # hls4ml reads scalars; FINN finds a bias by its scale and zero point of shape (1,).
            scale = np.full((1,) if values.ndim == 1 else (), spec.step)
        return self.quant_node(f"{name}_quant", self.constant(name, values), spec, scale)

    def bipolar(self, name: str, source: str, scale: float) -> str:
        """Add a BipolarQuant: `scale` where `source` is at least 0, and ``-scale`` elsewhere."""
        self.nodes.append(
            helper.make_node(
                "BipolarQuant",
                [source, self.constant(f"{name}_scale", scale)],
                [self._claim(f"{name}_out")],
                name=name,
                domain=QONNX_DOMAIN,
            )
        )
        if source in self.shapes:  # data, not weights
            self.tensor, self.shape = f"{name}_out", self.shapes[source]
            self.shapes[self.tensor] = self.shape
        return f"{name}_out"

    def save(self, path: Path, name: str, output: str | None = None) -> Path:
        """Write the graph as a file, the same bytes for the same graph, and return its path.

        The graph's output is the tensor `output`, or else the current one.

        Raises:
            BadRequest: the graph has no nodes, or the output is not made by a node.
        """
        if not self.nodes:
            raise BadRequest("the graph is empty; add nodes before you save it")
        output = output or self.tensor
        if output == INPUT or output not in self.shapes:
            raise BadRequest(f"no node makes {output!r}, so it cannot be the graph's output")
        shapes = {INPUT: (1, *self.input_shape), OUTPUT: (1, *self.shapes[output])}
        x, y = (helper.make_tensor_value_info(t, TensorProto.FLOAT, s) for t, s in shapes.items())
        proto = helper.make_model(
            helper.make_graph(self.nodes, name, [x], [y], initializer=self.initializers),
            producer_name="fastml_kit",
            producer_version=__version__,
            ir_version=8,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(QONNX_DOMAIN, 1)],
        )
        for node in proto.graph.node:
            node.input[:] = [OUTPUT if tensor == output else tensor for tensor in node.input]
            node.output[:] = [OUTPUT if tensor == output else tensor for tensor in node.output]
        helper.set_model_props(proto, dict(sorted(self.metadata.items())))
        onnx.checker.check_model(proto)
        path.write_bytes(proto.SerializeToString(deterministic=True))
        return path
