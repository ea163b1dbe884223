"""A QONNX file read as a list of integer operations: the form that engines and backends walk.

Reading resolves what ONNX spreads over nodes: a Quant of an initializer becomes a `Constant` of
integer codes, the scale and width inputs of a Quant on data become a `FixedSpec`. Nothing is
rewritten or fused; the nodes stay in the graph's order under the graph's names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import frexp
from pathlib import Path
from typing import Any

import numpy as np

from fastml_kit.errors import RunError, UnsupportedModel
from fastml_kit.fixedpoint import Codes, FixedSpec


@dataclass(frozen=True)
class Node:
    """One operation. `attrs` holds what the operation needs, in Python types."""

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Constant:
    """Weights or biases as integers: value = codes * 2**-frac."""

    codes: Codes
    frac: int


@dataclass(frozen=True)
class Program:
    """A graph with one input and one output; shapes leave the batch axis out (NCHW)."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, Constant]
    input: str
    input_shape: tuple[int, ...]
    output: str
    output_shape: tuple[int, ...]


def read(path: Path) -> Program:
    """Read the QONNX file at `path`.

    Raises:
        RunError: the file is missing or no ONNX file.
        UnsupportedModel: a node, quantizer or constant has no exact integer form here.
    """
    import onnx
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

    try:
        proto = onnx.load(str(path))
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf, onnx and the file system each raise their own
        raise RunError(f"{path} is no valid ONNX file: {str(error).splitlines()[0]}") from error
    model = ModelWrapper(proto).transform(InferShapes())
    graph = model.graph
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise UnsupportedModel(
            f"{path.name} has {len(graph.input)} inputs and {len(graph.output)} outputs; "
            "one of each is supported"
        )
    constants: dict[str, Constant] = {}
    nodes: list[Node] = []
    for proto_node in graph.node:
        reader = READERS.get(proto_node.op_type)
        if reader is None:
            raise UnsupportedModel(
                f"node {proto_node.name!r} is a {proto_node.op_type}; supported: "
                + ", ".join(sorted(READERS))
            )
        name, output = proto_node.name or proto_node.output[0], proto_node.output[0]
        if proto_node.op_type == "Quant" and model.get_initializer(proto_node.input[0]) is not None:
            constants[output] = _quantized_constant(model, proto_node, name)
            continue
        attrs = reader(model, proto_node, name)
        inputs = tuple(i for i in proto_node.input if i)
        if proto_node.op_type == "Quant":
            inputs = inputs[:1]  # the others are parameters, and now in attrs
        for tensor in inputs:
            if tensor not in constants and (values := model.get_initializer(tensor)) is not None:
                constants[tensor] = _constant(values, tensor)
        nodes.append(Node(proto_node.op_type, name, inputs, output, attrs))
    x, y = graph.input[0].name, graph.output[0].name
    return Program(
        nodes=tuple(nodes),
        constants=constants,
        input=x,
        input_shape=tuple(model.get_tensor_shape(x)[1:]),
        output=y,
        output_shape=tuple(model.get_tensor_shape(y)[1:]),
    )


def frac_of(scale: float, where: str) -> int:
    """Return `f` such that ``scale == 2**-f``.

    Raises:
        UnsupportedModel: the scale is not a power of two.
    """
    mantissa, exponent = frexp(scale)
    if mantissa != 0.5:
        raise UnsupportedModel(
            f"{where} has scale {scale:g}, which is no power of two; "
            "train with alpha=1 or alpha='auto_po2'"
        )
    return 1 - exponent


def _quant_spec(model: Any, node: Any, name: str) -> FixedSpec:
    values = [model.get_initializer(tensor) for tensor in node.input[1:]]
    if any(v is None for v in values):
        raise UnsupportedModel(
            f"Quant {name!r} computes its scale at run time; it must be constant"
        )
    scales, zero_points, widths = (np.unique(v) for v in values)
    if len(scales) > 1 or len(widths) > 1 or np.any(zero_points != 0):
        raise UnsupportedModel(
            f"Quant {name!r} has per-channel scales or a zero point; one power-of-two scale "
            "and zero point 0 are supported"
        )
    attributes = _attributes(node)
    signed, width = bool(attributes.get("signed", 1)), float(widths[0])
    if width != int(width) or width < 1:
        raise UnsupportedModel(f"Quant {name!r} has {width:g} bits; a whole number is needed")
    if width == 1 and signed:
        raise UnsupportedModel(
            f"Quant {name!r} has one signed bit, which QONNX makes bipolar; use two bits or more"
        )
    frac = frac_of(float(scales[0]), f"Quant {name!r}")
    narrow = bool(attributes.get("narrow", 0))
    if narrow and not signed:
        raise UnsupportedModel(f"Quant {name!r} is narrow and unsigned; signed narrow is supported")
    return FixedSpec(int(width), int(width) - frac, signed, narrow)


ROUNDING = {"ROUND": "ROUND", "FLOOR": "FLOOR"}


def _quant(model: Any, node: Any, name: str) -> dict[str, Any]:
    mode = _attributes(node).get("rounding_mode", b"ROUND").decode().upper()
    if mode not in ROUNDING:
        raise UnsupportedModel(f"Quant {name!r} rounds by {mode}; supported: {', '.join(ROUNDING)}")
    return {"spec": _quant_spec(model, node, name), "rounding": ROUNDING[mode], "overflow": "SAT"}


def _quantized_constant(model: Any, node: Any, name: str) -> Constant:
    attrs = _quant(model, node, name)
    values = model.get_initializer(node.input[0])
    return Constant(attrs["spec"].to_codes(values, attrs["rounding"]), attrs["spec"].frac)


def _constant(values: Any, tensor: str) -> Constant:
    """Read plain float constants as integers, if few fractional bits hold them all exactly."""
    values = np.asarray(values, dtype=np.float64)
    for frac in range(-31, 32):
        scaled = values * 2.0**frac
        if np.array_equal(scaled, np.round(scaled)) and np.abs(scaled).max(initial=0) < 2**31:
            return Constant(scaled.astype(np.int64), frac)
    raise UnsupportedModel(f"constant {tensor!r} is not quantized; pass it through a Quant")


def _attributes(node: Any) -> dict[str, Any]:
    import onnx

    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _pads(node: Any, attributes: Mapping[str, Any], name: str) -> tuple[int, ...]:
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise UnsupportedModel(f"{node.op_type} {name!r} uses auto_pad; give explicit pads")
    return tuple(attributes.get("pads", (0, 0, 0, 0)))


def _flat_window(node: Any, name: str) -> dict[str, Any]:
    """Return the attributes of a Conv or MaxPool over two axes without gaps."""
    attributes = _attributes(node)
    if set(attributes.get("dilations", [1])) != {1}:
        raise UnsupportedModel(f"{node.op_type} {name!r} is dilated; dilation 1 is supported")
    if len(attributes.get("kernel_shape", ())) != 2:
        raise UnsupportedModel(
            f"{node.op_type} {name!r} needs a kernel_shape of two axes; has "
            f"{list(attributes.get('kernel_shape', ()))}"
        )
    return attributes


def _conv(model: Any, node: Any, name: str) -> dict[str, Any]:
    attributes = _flat_window(node, name)
    return {
        "strides": tuple(attributes.get("strides", (1, 1))),
        "pads": _pads(node, attributes, name),
        "group": int(attributes.get("group", 1)),
    }


def _max_pool(model: Any, node: Any, name: str) -> dict[str, Any]:
    attributes = _flat_window(node, name)
    if any(_pads(node, attributes, name)) or attributes.get("ceil_mode", 0):
        raise UnsupportedModel(f"MaxPool {name!r} is padded; padding 0 is supported")
    kernel = tuple(attributes["kernel_shape"])
    return {
        "kernel_shape": kernel,
        "strides": tuple(attributes.get("strides", (1, 1))),
        "pads": (0,) * 4,
    }


def _flatten(model: Any, node: Any, name: str) -> dict[str, Any]:
    if _attributes(node).get("axis", 1) != 1:
        raise UnsupportedModel(f"Flatten {name!r} has another axis than 1")
    return {}


def _nothing(model: Any, node: Any, name: str) -> dict[str, Any]:
    return {}


#: What each supported operation reads from its node. The engines have a table of the same keys.
READERS: dict[str, Callable[[Any, Any, str], dict[str, Any]]] = {
    "Add": _nothing,
    "Conv": _conv,
    "Flatten": _flatten,
    "MatMul": _nothing,
    "MaxPool": _max_pool,
    "Quant": _quant,
    "Relu": _nothing,
}
