"""What QCDQ can carry: a QONNX quantizer's parameters, and why it cannot be carried, if so.

QuantizeLinear rounds half to even to 8 bits with one scale, or one along an axis; a Clip between
integers narrows them. Everything else a Quant may say has no place in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import FastmlError
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph.checks.structure import QONNX
from fastml_kit.graph.readers.base import attributes

#: Operators of QONNX that are no Quant, and what QCDQ lacks for each.
OTHERS = {
    "BipolarQuant": "it has one bit, plus or minus one step, and 2 to 8 bits are carried",
    "FloatQuant": "it rounds to floating point; fixed point is carried",
    "MultiThreshold": "it compares with thresholds of its own; uniform steps are carried",
    "QuantAvgPool2d": "it sums and truncates integers, for which there is no operator",
    "Trunc": "it drops low bits, for which there is no operator",
}
#: Constants of more than 8 bits are stored as int32, whose values float32 must hold.
CONSTANT_MOST = 2**24


@dataclass(frozen=True)
class Quantizer:
    """A Quant node that QCDQ can carry. `scale` is one number, or has the rank of the tensor."""

    node: Any
    scale: NDArray[np.float32]
    spec: FixedSpec  # of the codes alone: no fractional bits
    #: The codes, where the tensor is a constant.
    codes: NDArray[np.int32] | None


def examine(
    node: Any, constants: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]
) -> Quantizer | str:
    """Return a node of QONNX's domain as a `Quantizer`, or why QCDQ cannot carry it."""
    if node.domain != QONNX or node.op_type not in ("Quant", "IntQuant"):
        return OTHERS.get(node.op_type, f"there is no operator for {node.op_type} in {node.domain}")
    for what, name in zip(("scale", "zero point", "bit width"), node.input[1:], strict=True):
        if name not in constants:
            return f"its {what} is computed at run time; a constant is carried"
    given = attributes(node)
    scale, zero, bits = (np.asarray(constants[name]) for name in node.input[1:])
    mode = given.get("rounding_mode", "ROUND")
    if mode.upper() not in ("ROUND", "HALF_EVEN"):
        return f"it rounds by {mode}; QuantizeLinear rounds half to even (ROUND)"
    if np.any(zero != 0):
        return "it has a zero point other than 0, which QuantizeLinear adds after rounding"
    shaped = _scale(scale, len(shapes[node.input[0]]))
    if isinstance(shaped, str):
        return shaped
    values = constants.get(node.input[0])
    spec = _spec(bits, bool(given.get("signed", 1)), bool(given.get("narrow", 0)))
    if isinstance(spec, str):
        return spec
    if values is None and spec.width > 8:
        return f"it has {spec.width} bits; QuantizeLinear makes 8 at most"
    codes = None
    if values is not None:
        ratios = values.astype(np.float32) / shaped  # in float32, as both engines divide
        codes = spec.to_codes(ratios).astype(np.int64)
        if spec.width > 31 or np.abs(codes).max(initial=0) > CONSTANT_MOST:
            return f"it has {spec.width} bits, of which its constants need more than float32 holds"
    return Quantizer(node, shaped, spec, None if codes is None else codes.astype(np.int32))


def _scale(scale: NDArray[Any], rank: int) -> NDArray[np.float32] | str:
    """Return a Quant's scale as one number, or with as many axes as its tensor."""
    single = scale.astype(np.float32)
    if not (single == scale).all() or not (single > 0).all() or not np.isfinite(single).all():
        return "it has a scale that is no positive float32"
    if single.size == 1:
        return np.asarray(single.reshape(()))
    if single.ndim > rank or sum(size > 1 for size in single.shape) > 1:
        return f"its scale has shape {scale.shape}; one number, or one axis of them, is carried"
    return single.reshape((1,) * (rank - single.ndim) + single.shape)


def _spec(bits: NDArray[Any], signed: bool, narrow: bool) -> FixedSpec | str:
    """Return the format of a Quant's codes."""
    if bits.size != 1 or bits.reshape(()) != np.floor(bits.reshape(())):
        return f"its bit width is {bits.tolist()}; a whole number is carried"
    width = int(bits.reshape(()))
    if width < 2:
        return f"it has {width} bit; 2 to 8 are carried"
    try:
        return FixedSpec(width, width, signed, narrow)
    except FastmlError as error:
        return f"it has {error}"
