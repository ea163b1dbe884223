"""Writing a QONNX file node by node: a chain that begins with the model's input.

The kit's exporter uses it, and so can you, for a network that never was in Keras::

    graph = Writer(shape=(64,))
    graph.quantize("pixels", FixedSpec(5, 1, signed=False))
    graph.node("MatMul", "scores", graph.weight("w", values, FixedSpec(4, 1)), shape=(10,))
    graph.save(path, "linear")
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fastml_kit import __version__
from fastml_kit.errors import BadRequest
from fastml_kit.fixedpoint import FixedSpec

OPSET = 16
QONNX_DOMAIN = "qonnx.custom_op.general"
INPUT, OUTPUT = "x", "y"


@dataclass
class Writer:
    """The graph being written, and what is known of the tensor at its end."""

    shape: tuple[int, ...]  # of the current tensor without batch, channel first
    tensor: str = field(default=INPUT, init=False)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    # After a Flatten: the image shape (c, h, w) whose channel-first order the elements are in.
    flattened: tuple[int, ...] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.input_shape = self.shape

    def constant(self, name: str, values: Any) -> str:
        """Add an initializer and return its name."""
        self.initializers.append(
            numpy_helper.from_array(np.asarray(values, dtype=np.float32), name)
        )
        return name

    def node(
        self,
        op: str,
        name: str,
        *parameters: str,
        shape: tuple[int, ...] | None = None,
        **attributes: Any,
    ) -> None:
        """Add a node that reads the current tensor and `parameters`; its output is current next.

        `shape` is the output's, without batch; left out where the node keeps it.
        """
        output = f"{name}_out"
        self.nodes.append(
            helper.make_node(op, [self.tensor, *parameters], [output], name=name, **attributes)
        )
        self.tensor = output
        self.shape = shape or self.shape

    def quant_node(self, name: str, source: str, spec: FixedSpec, ndim: int = 0) -> str:
        """Add a Quant node that puts `source` on the grid of `spec`; return its output."""
        parameters = [
            self.constant(f"{name}_scale", np.full((1,) * ndim, spec.step)),
            self.constant(f"{name}_zero_point", np.zeros((1,) * ndim)),
            self.constant(f"{name}_bits", float(spec.width)),
        ]
        self.nodes.append(
            helper.make_node(
                "Quant",
                [source, *parameters],
                [f"{name}_out"],
                name=name,
                domain=QONNX_DOMAIN,
                signed=int(spec.signed),
                narrow=int(spec.narrow),
                rounding_mode="ROUND",
            )
        )
        return f"{name}_out"

    def quantize(self, name: str, spec: FixedSpec) -> None:
        """Quantize the current tensor."""
        self.tensor = self.quant_node(name, self.tensor, spec)

    def weight(self, name: str, values: NDArray[Any], spec: FixedSpec) -> str:
        """Add quantized weights as an initializer behind a Quant, as QONNX has them."""
        # hls4ml reads scalars; FINN finds a bias by its scale and zero point of shape (1,).
        ndim = 1 if values.ndim == 1 else 0
        return self.quant_node(f"{name}_quant", self.constant(name, values), spec, ndim)

    def save(self, path: Path, name: str) -> Path:
        """Write the graph as a file, the same bytes for the same graph, and return its path.

        Raises:
            BadRequest: the graph has no nodes.
        """
        if not self.nodes:
            raise BadRequest("the graph is empty; add nodes before you save it")
        self.nodes[-1].output[0] = OUTPUT
        shapes = {INPUT: (1, *self.input_shape), OUTPUT: (1, *self.shape)}
        x, y = (helper.make_tensor_value_info(t, TensorProto.FLOAT, s) for t, s in shapes.items())
        proto = helper.make_model(
            helper.make_graph(self.nodes, name, [x], [y], initializer=self.initializers),
            producer_name="fastml_kit",
            producer_version=__version__,
            ir_version=8,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(QONNX_DOMAIN, 1)],
        )
        onnx.checker.check_model(proto)
        path.write_bytes(proto.SerializeToString(deterministic=True))
        return path
