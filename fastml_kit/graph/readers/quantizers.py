"""Readers of what puts numbers on a grid: Quant, BipolarQuant, Trunc, MultiThreshold."""

from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import Rounding
from fastml_kit.graph.ir import Constant, Node, Tensor
from fastml_kit.graph.readers.base import Reading, attributes, dyadic, fracs_of, label, spec_of

#: QONNX's names for a rounding, and ours.
ROUNDING = {name: name for name in get_args(Rounding) if name != "HALF_CEIL"} | {
    "HALF_EVEN": "ROUND"
}


def quant(reading: Reading, node: Any) -> None:
    """Read a Quant: {spec, rounding, overflow, zero_point, fracs, divisor}.

    `fracs` is None for one scale, or an array that broadcasts against the tensor: the fractional
    bits of each channel, of which `spec` has the most.
    """
    where, attrs = label(node), attributes(node)
    fracs = _fracs(reading, node.input[1], where)
    zero_point = _zero_point(reading, node.input[2], where)
    signed, narrow = bool(attrs.get("signed", 1)), bool(attrs.get("narrow", 0))
    finest = int(fracs.max())
    spec = spec_of(reading.scalar(node.input[3], where), finest, signed, narrow, where)
    if spec.width == 1 and signed:
        _one_signed_bit(reading, node, fracs, zero_point)
        return
    values = {
        "spec": spec,
        "rounding": _rounding(attrs.get("rounding_mode", "ROUND"), where),
        "overflow": "SAT",
        "zero_point": zero_point,
        "fracs": None if np.unique(fracs).size == 1 else fracs,
    }
    _emit(reading, "Quant", node, values)


def bipolar_quant(reading: Reading, node: Any) -> None:
    """Read a BipolarQuant: {frac, steps}, the codes of its scale."""
    steps = _steps(_fracs(reading, node.input[1], label(node)))
    _emit(reading, "BipolarQuant", node, steps)


def trunc(reading: Reading, node: Any) -> None:
    """Read a Trunc, version 1 (5 inputs) or 2 (6): {frac, zero_point, drop, rounding, spec}."""
    where, attrs = label(node), attributes(node)
    frac = _one_frac(reading, node.input[1], where)
    spec = None
    if len(node.input) == 6:
        out_frac = _one_frac(reading, node.input[4], where)
        drop = frac - out_frac
        signed, narrow = bool(attrs.get("signed", 1)), bool(attrs.get("narrow", 0))
        spec = spec_of(reading.scalar(node.input[5], where), out_frac, signed, narrow, where)
    else:
        widths = [reading.scalar(name, where) for name in node.input[3:5]]
        drop = int(widths[0] - widths[1])
        if drop != widths[0] - widths[1] or abs(drop) > 32:
            raise UnsupportedModel(f"{where} goes from {widths[0]:g} to {widths[1]:g} bits")
    values = {
        "frac": frac,
        "zero_point": _zero_point(reading, node.input[2], where),
        "drop": drop,
        "rounding": _rounding(attrs.get("rounding_mode", "FLOOR"), where),
        "spec": spec,
    }
    _emit(reading, "Trunc", node, values)


def multi_threshold(reading: Reading, node: Any) -> None:
    """Read FINN's MultiThreshold: {thresholds, base, step, frac}; channels are on axis 1."""
    where, attrs = label(node), attributes(node)
    thresholds = np.asarray(reading.raw(node.input[1], where), dtype=np.float64)
    rank = len(reading.shapes[node.output[0]])
    # Where the file names no layout, qonnx takes three axes for channels last.
    layout = attrs.get("data_layout", "") or {2: "NC", 3: "NWC", 4: "NCHW"}.get(rank, "?")
    if layout not in ("NC", "NCW", "NCHW") and thresholds.shape[:1] != (1,):
        raise UnsupportedModel(f"{where} has data_layout {layout}; channel first is read")
    if thresholds.ndim != 2 or np.isnan(thresholds).any():
        raise UnsupportedModel(f"{where} needs thresholds of shape (channels or 1, n), no NaN")
    grid = dyadic([attrs.get("out_bias", 0.0), attrs.get("out_scale", 1.0)], f"the grid of {where}")
    base, step = grid.codes.tolist()
    if step <= 0:
        raise UnsupportedModel(f"{where} has out_scale {attrs['out_scale']:g}; a positive is read")
    values = {"thresholds": thresholds, "base": base, "step": step, "frac": grid.frac}
    _emit(reading, "MultiThreshold", node, values)


def _emit(reading: Reading, op: str, node: Any, values: dict[str, Any]) -> None:
    """Add the node; of a constant, take its values as they are, on a grid or not."""
    from fastml_kit.graph.reference import OPERATIONS

    name, output = node.name or node.output[0], node.output[0]
    source = reading.names.get(node.input[0], node.input[0])
    if source in reading.initializers and source not in reading.constants:
        given = _rough(reading.initializers[source], values, label(node))
        result = OPERATIONS[op](Node(op, name, (source,), output, values), given)
        reading.constants[output] = Constant(result.codes, result.frac)
        return
    divisor = reading.divisors.get(source, 1)
    if divisor != 1:
        if op not in ("Quant", "BipolarQuant"):
            raise UnsupportedModel(
                f"{label(node)} reads an average over {divisor} values or a multiple, which has no "
                "exact binary form; put a Quant between"
            )
        values = values | ({"divisor": divisor} if op == "Quant" else {})
    reading.emit(op, name, (reading.operand(source),), output, **values)


def _rough(values: Any, attrs: dict[str, Any], where: str) -> Tensor:
    """Return float constants as codes fine enough that no quantizer tells the difference.

    A float32 has at most 24 significant bits: with 30 fractional bits below the quantizer's step
    it is exact, or so small that only its sign and its not being zero matter.
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise UnsupportedModel(f"{where} quantizes NaN or infinite values; repair the file")
    frac = (attrs["spec"].frac if attrs.get("spec") else attrs["frac"]) + 28
    scaled = np.clip(values * 2.0**frac, -(2.0**61), 2.0**61)
    codes = np.copysign(np.ceil(np.abs(scaled)), scaled).astype(np.int64)
    return Tensor(codes, frac)


def _fracs(reading: Reading, tensor: str, where: str) -> NDArray[np.int64]:
    return fracs_of(np.asarray(reading.raw(tensor, where)), where)


def _one_frac(reading: Reading, tensor: str, where: str) -> int:
    fracs = np.unique(_fracs(reading, tensor, where))
    if fracs.size != 1:
        raise UnsupportedModel(f"{where} has a scale for each channel; one for all is read")
    return int(fracs[0])


def _zero_point(reading: Reading, tensor: str, where: str) -> int:
    zero = reading.scalar(tensor, where)
    if zero != int(zero) or abs(zero) >= 2**24:
        raise UnsupportedModel(f"{where} has zero point {zero:g}; a whole number is read")
    return int(zero)


def _rounding(mode: str, where: str) -> str:
    if mode.upper() not in ROUNDING:
        raise UnsupportedModel(f"{where} rounds by {mode}; supported: {', '.join(ROUNDING)}")
    return ROUNDING[mode.upper()]


def _steps(fracs: NDArray[np.int64]) -> dict[str, Any]:
    finest = int(fracs.max())
    return {"frac": finest, "steps": 1 << (finest - fracs)}


def _one_signed_bit(reading: Reading, node: Any, fracs: NDArray[np.int64], zero_point: int) -> None:
    """One signed bit is bipolar in QONNX: plus or minus one step, split at the zero point."""
    if zero_point == 0:
        _emit(reading, "BipolarQuant", node, _steps(fracs))
        return
    if np.unique(fracs).size > 1:
        raise UnsupportedModel(
            f"{label(node)}: one bit, scales by channel and a zero point at once"
        )
    frac = int(fracs.max())
    split = np.array([[-zero_point * 2.0**-frac]])
    grid = {"thresholds": split, "base": -1 - zero_point, "step": 2, "frac": frac}
    _emit(reading, "MultiThreshold", node, grid)
