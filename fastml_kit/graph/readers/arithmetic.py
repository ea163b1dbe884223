"""Readers of arithmetic: sums, products, dense layers, activations."""

from typing import Any

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.ir import Constant
from fastml_kit.graph.readers.base import Reading, attributes, dyadic, label


def binary(reading: Reading, node: Any) -> None:
    """Read Add, Sub or Mul of two tensors, of which one may be a constant."""
    inputs = _operands(reading, node)
    reading.emit(node.op_type, label_name(node), inputs, node.output[0])


def div(reading: Reading, node: Any) -> None:
    """Read a division by constant powers of two, as a product with their inverses."""
    inputs = _operands(reading, node)
    if inputs[1] not in reading.constants:
        raise UnsupportedModel(f"{label(node)} divides by data; only constants divide exactly")
    divisor = reading.constants[inputs[1]]
    values = divisor.codes * 2.0**-divisor.frac
    if not (values != 0).all() or (np.frexp(values)[0] != np.copysign(0.5, values)).any():
        raise UnsupportedModel(f"{label(node)} divides by other numbers than powers of two")
    name = f"{inputs[1]}_inverse"
    reading.constants[name] = dyadic(1 / values, f"the inverse in {label(node)}")
    reading.emit("Mul", label_name(node), (inputs[0], name), node.output[0])


def matmul(reading: Reading, node: Any) -> None:
    """Read a MatMul of data with constant weights of shape (inputs, outputs)."""
    inputs = _operands(reading, node)
    _check_weights(reading, node, inputs)
    reading.emit("MatMul", label_name(node), inputs, node.output[0])


def gemm(reading: Reading, node: Any) -> None:
    """Read a Gemm as a MatMul and an Add."""
    attrs, inputs = attributes(node), _operands(reading, node)
    if attrs.get("transA", 0) or {attrs.get("alpha", 1.0), attrs.get("beta", 1.0)} != {1.0}:
        raise UnsupportedModel(f"{label(node)}: alpha 1, beta 1 and transA 0 are read")
    name, weights = label_name(node), inputs[1]
    if attrs.get("transB", 0) and weights in reading.constants:
        given = reading.constants[weights]
        weights = f"{weights}_transposed"
        reading.constants[weights] = Constant(given.codes.T, given.frac)
    _check_weights(reading, node, (inputs[0], weights))
    middle = f"{node.output[0]}_product" if len(inputs) == 3 else node.output[0]
    reading.emit("MatMul", name, (inputs[0], weights), middle)
    if len(inputs) == 3:
        reading.emit("Add", f"{name}_add", (middle, inputs[2]), node.output[0])


def relu(reading: Reading, node: Any) -> None:
    """Read a Relu."""
    source = reading.operand(node.input[0])
    if source in reading.divisors:
        reading.divisors[node.output[0]] = reading.divisors[source]
    reading.emit("Relu", label_name(node), (source,), node.output[0])


def leaky_relu(reading: Reading, node: Any) -> None:
    """Read a LeakyRelu or PRelu: {alpha, alpha_frac}, its slope below zero."""
    if node.op_type == "PRelu":
        slope = reading.scalar(node.input[1], label(node))
    else:
        slope = attributes(node).get("alpha", 0.01)
    alpha = dyadic(slope, f"the slope of {label(node)}")
    if alpha.frac > 16:
        raise UnsupportedModel(
            f"the slope of {label(node)} is {slope:g}, which is no short binary fraction; use 0.125"
        )
    if alpha.codes < 0:
        raise UnsupportedModel(f"{label(node)} has slope {slope:g}; zero and above are read")
    bits = max(alpha.frac, 0)
    code = int(alpha.codes) << (bits - alpha.frac)
    (source,) = _operands(reading, node)[:1]
    reading.emit(
        "LeakyRelu", label_name(node), (source,), node.output[0], alpha=code, alpha_frac=bits
    )


def clip(reading: Reading, node: Any) -> None:
    """Read a Clip: {low, high, frac}; a bound may be None."""
    attrs, where = attributes(node), label(node)
    bounds: list[float | None] = [attrs.get("min"), attrs.get("max")]
    for place, tensor in enumerate(node.input[1:3]):
        bounds[place] = reading.scalar(tensor, where) if tensor else None
    given = [bound for bound in bounds if bound is not None and abs(bound) < 2.0**31]
    grid = dyadic(given, f"the bounds of {where}")
    codes = iter(grid.codes.tolist())
    low, high = (
        None if bound is None or abs(bound) >= 2.0**31 else next(codes) for bound in bounds
    )
    if low is not None and high is not None and low > high:
        raise UnsupportedModel(f"{where} has its lower bound above the upper one")
    source = _operands(reading, node, 1)[0]
    reading.emit(
        "Clip", label_name(node), (source,), node.output[0], low=low, high=high, frac=grid.frac
    )


def identity(reading: Reading, node: Any) -> None:
    """Read what changes nothing when a model predicts: the output is another name."""
    reading.names[node.output[0]] = reading.operand(node.input[0])


def label_name(node: Any) -> str:
    """Return the node's name, or its output's where it has none."""
    return str(node.name or node.output[0])


def _operands(reading: Reading, node: Any, count: int | None = None) -> tuple[str, ...]:
    inputs = tuple(reading.operand(i) for i in list(node.input)[:count] if i)
    for tensor in inputs:
        if tensor in reading.divisors:
            raise UnsupportedModel(
                f"{label(node)} reads an average over {reading.divisors[tensor]} values or a "
                "multiple, which has no exact binary form; put a Quant between"
            )
    return inputs


def _check_weights(reading: Reading, node: Any, inputs: tuple[str, ...]) -> None:
    if inputs[0] in reading.constants and len(inputs) > 1 and inputs[1] not in reading.constants:
        raise UnsupportedModel(
            f"{label(node)} has its weights first; they must stand second (data @ weights)"
        )
    if inputs[1] in reading.constants and reading.constants[inputs[1]].codes.ndim != 2:
        raise UnsupportedModel(f"{label(node)} needs weights of shape (inputs, outputs)")
