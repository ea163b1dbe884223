"""What every reader needs: the graph being read, its constants and shapes, and clear refusals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import frexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph.ir import Constant, Node


@dataclass
class Reading:
    """A program in the making. Shapes here include the batch axis."""

    initializers: Mapping[str, NDArray[Any]]
    shapes: dict[str, tuple[int, ...]]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    #: Tensors whose value is the codes' divided by this odd number: averages on their way to a
    #: Quant, which divides and rounds at once.
    divisors: dict[str, int] = field(default_factory=dict)
    #: Other names of tensors, left by nodes that change nothing.
    names: dict[str, str] = field(default_factory=dict)

    def emit(self, op: str, name: str, inputs: tuple[str, ...], output: str, **attrs: Any) -> None:
        """Add a node, or compute it at once where all its inputs are constants."""
        from fastml_kit.graph.reference import OPERATIONS

        node = Node(op, name, inputs, output, attrs)
        if all(i in self.constants for i in inputs) and op not in ("Reshape", "Flatten", "Concat"):
            from fastml_kit.graph.ir import Tensor

            parts = [Tensor(self.constants[i].codes, self.constants[i].frac) for i in inputs]
            result = OPERATIONS[op](node, *parts)
            self.constants[output] = Constant(result.codes, result.frac)
        else:
            self.nodes.append(node)

    def is_constant(self, tensor: str) -> bool:
        """Tell whether `tensor` is known before any sample is."""
        return tensor in self.constants or tensor in self.initializers

    def raw(self, tensor: str, where: str) -> NDArray[Any]:
        """Return an initializer's values.

        Raises:
            UnsupportedModel: it is computed at run time.
        """
        if tensor not in self.initializers:
            raise UnsupportedModel(
                f"{where} reads {tensor!r}, which must be a constant in the file"
            )
        return self.initializers[tensor]

    def scalar(self, tensor: str, where: str) -> float:
        """Return the one value of a constant."""
        values = np.unique(self.raw(tensor, where))
        if values.size != 1:
            raise UnsupportedModel(f"{where} has {values.size} values in {tensor!r}; one is read")
        return float(values[0])

    def operand(self, tensor: str) -> str:
        """Return the name to use for `tensor`, read as integers if it is a plain constant."""
        tensor = self.names.get(tensor, tensor)
        if tensor in self.initializers and tensor not in self.constants:
            self.constants[tensor] = dyadic(self.initializers[tensor], f"constant {tensor!r}")
        return tensor


#: Significant bits that a constant may have which no Quant put on a grid: a float32 that was
#: trained freely has 24.
PLAIN_BITS = 20


def dyadic(values: Any, where: str) -> Constant:
    """Read floats as integers, if few fractional bits hold them all exactly.

    Raises:
        UnsupportedModel: they need more than 20 bits, or are NaN or infinite.
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise UnsupportedModel(f"{where} holds NaN or infinite values; repair the file")
    for frac in range(-31, 32):
        scaled = values * 2.0**frac
        if np.abs(scaled).max(initial=0) >= 2**PLAIN_BITS:
            break
        if np.array_equal(scaled, np.round(scaled)):
            return Constant(scaled.astype(np.int64), frac)
    raise UnsupportedModel(f"{where} is not quantized; pass it through a Quant")


#: Fractional bits of a scale, either way: codes of such different scales cannot meet in 64 bits.
MAX_FRAC = 48


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
    if abs(1 - exponent) > MAX_FRAC:
        raise UnsupportedModel(
            f"{where} has scale {scale:g}; 2**-{MAX_FRAC} to 2**{MAX_FRAC} are read"
        )
    return 1 - exponent


def fracs_of(scales: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Return `frac_of` every element, in the same shape."""
    return np.array([frac_of(float(s), where) for s in scales.ravel()], dtype=np.int64).reshape(
        scales.shape
    )


def attributes(node: Any) -> dict[str, Any]:
    """Return an ONNX node's attributes as Python values, text decoded."""
    from onnx import helper

    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}


def label(node: Any) -> str:
    """Return how messages call an ONNX node: ``Conv 'conv1'``."""
    return f"{node.op_type} {node.name or node.output[0]!r}"


def spec_of(width: float, frac: int, signed: bool, narrow: bool, where: str) -> FixedSpec:
    """Return the format of a quantizer, its width checked."""
    if width != int(width) or width < 1:
        raise UnsupportedModel(f"{where} has {width:g} bits; a whole number is needed")
    if width > 53:
        raise UnsupportedModel(f"{where} has {width:g} bits; at most 53 are read")
    return FixedSpec(int(width), int(width) - frac, signed, narrow)
