"""A graph as da4ml's symbolic arithmetic: every operation becomes adders and wires.

da4ml unrolls a network completely and shares adders between the constant multiplications of a
layer (https://github.com/calad0i/da4ml). Values travel through the functions below as arrays of
`FixedVariable`, each of which knows its range and step, so that nothing is ever rounded unless
the graph says so. Arrays keep ONNX's shapes, with a batch of one in front.

What da4ml lacks is rounding half to even, which QONNX's Quant means by ROUND; `round_half_even`
builds it out of one adder.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec, Rounding
from fastml_kit.graph import ranges
from fastml_kit.graph.host import input_quant
from fastml_kit.graph.program import Node, Program

#: Multiplications by a non-zero constant that one design may hold. With 4 bits each costs about
#: 6 LUTs, so that this many fill a board of `fastml_kit.devices` (about 60,000 LUTs) five times
#: over, and what follows (Verilator, yosys) takes hours instead of minutes.
MAX_MULTIPLICATIONS = 50_000

#: da4ml's solver takes its constants as float32, whose integers are exact up to this one.
MAX_WEIGHT_CODE = 2**24


def trace(program: Program) -> Any:
    """Return `program` as a da4ml `CombLogic` with one input and one output per element.

    Its inputs are numbers already on the grid of the program's first Quant: bringing real ones
    there is the host's work, as it is on a board.

    Raises:
        UnsupportedModel: a node has no exact form here; the message names it.
    """
    from da4ml.trace import FixedVariableArrayInput, HWConfig, comb_trace

    # An adder of any width counts as one unit of delay: its carry chain is fast.
    wires = FixedVariableArrayInput((1, *program.input_shape), HWConfig(1, -1, -1))
    tensors: dict[str, Any] = {
        name: constant.codes * 2.0**-constant.frac for name, constant in program.constants.items()
    }
    first = input_quant(program)
    tensors[first.output] = wires.quantize(*_kif(first.attrs["spec"]))
    for node in program.nodes:
        if node is first:
            continue
        if node.op not in OPERATIONS:
            raise UnsupportedModel(
                f"da4ml backend: no exact form for {node.op} {node.name!r}; supported: "
                f"{', '.join(sorted(OPERATIONS))}. Replace the node, or use the hls4ml backend."
            )
        tensors[node.output] = OPERATIONS[node.op](node, *(tensors[name] for name in node.inputs))
    return comb_trace(wires, tensors[program.output])


def multiplications(program: Program) -> int:
    """Return how many multiplications by a non-zero constant the unrolled `program` holds.

    Raises:
        UnsupportedModel: they are more than `MAX_MULTIPLICATIONS`, or a weight is too wide; the
            message names the node.
    """
    found, total = ranges.analyse(program), 0
    for node in program.nodes:
        if node.op not in ("MatMul", "Conv"):
            continue
        weights = program.constants[node.inputs[1]].codes
        shape = found[node.output].low.shape
        positions = np.prod(shape[2:] if node.op == "Conv" else shape[:-1])
        total += int(positions) * int(np.count_nonzero(weights))
        if total > MAX_MULTIPLICATIONS:
            raise UnsupportedModel(
                f"da4ml backend: up to {node.op} {node.name!r} the design holds {total:,} "
                f"multiplications, all unrolled; at most {MAX_MULTIPLICATIONS:,} are tried. "
                "Use fewer or narrower layers, or prune weights to zero."
            )
        if np.abs(weights).max(initial=0) > MAX_WEIGHT_CODE:
            raise UnsupportedModel(
                f"da4ml backend: {node.op} {node.name!r} has weights of more than 24 bits, which "
                "da4ml's solver would round. Use fewer weight bits."
            )
    return total


def round_half_even(value: Any, frac: int) -> Any:
    """Return the `FixedVariable` `value` rounded to `frac` fractional bits, half to even.

    Adding just under a half and cutting rounds everything but a tie correctly, and a tie down;
    adding one LSB more where the lowest bit that stays is odd sends a tie to its even neighbour.
    A value without bits to drop costs nothing.
    """
    _, _, have = value.kif
    if have <= frac:
        return value
    odd = value.quantize(0, 1 - frac, frac)  # a single bit, of weight 2**-frac
    raised = value + (2.0 ** -(frac + 1) - 2.0**-have) + odd * 2.0 ** (frac - have)
    signed, integers, _ = raised.kif
    return raised.quantize(signed, max(integers, -frac), frac)  # a sign bit at least: -1 LSB


def requantize(value: Any, spec: FixedSpec, rounding: Rounding) -> Any:
    """Return the `FixedVariable` `value` rounded and saturated to `spec`: one Quant's circuit.

    Raises:
        UnsupportedModel: there is no circuit for this rounding.
    """
    if rounding not in ("ROUND", "HALF_UP", "FLOOR"):
        raise UnsupportedModel(
            f"da4ml backend: no circuit for rounding {rounding!r}; supported: ROUND, HALF_UP, FLOOR"
        )
    if value.low == value.high:  # a constant; da4ml 0.6.0 wraps those one bit too late
        code = spec.requantize(int(value.low / value.step), value.kif[2], rounding)
        return value.from_const(float(spec.to_values(code)), hwconf=value.hwconf)
    if rounding == "ROUND":
        value = round_half_even(value, spec.frac)
    return value.quantize(
        *_kif(spec),
        overflow_mode="SAT_SYM" if spec.narrow else "SAT",
        round_mode="RND" if rounding == "HALF_UP" else "TRN",
    )


def _kif(spec: FixedSpec) -> tuple[int, int, int]:
    """Return da4ml's name for a format: sign, integer bits *without* it, fractional bits."""
    return int(spec.signed), spec.integer - spec.signed, spec.frac


def _quant(node: Node, x: Any) -> Any:
    from da4ml.trace import FixedVariableArray

    values = [requantize(v, node.attrs["spec"], node.attrs["rounding"]) for v in x.ravel()]
    return FixedVariableArray(np.array(values, dtype=object).reshape(x.shape), hwconf=x.hwconf)


def _conv(node: Node, x: Any, weights: NDArray[np.float64], *bias: NDArray[np.float64]) -> Any:
    """Gather each window into a row, then multiply every row by the same constant matrix."""
    outputs, _, *kernel = weights.shape
    windows = _windows(x.shape, kernel, node)  # (C, OH, OW, KH, KW)
    flat = np.append(x.ravel(), 0.0)  # index -1, the padding, finds this zero
    groups = node.attrs["group"]
    parts = []
    for seen, kernels in zip(np.split(windows, groups), np.split(weights, groups), strict=True):
        rows = flat[seen.transpose(1, 2, 0, 3, 4).reshape(-1, kernels[0].size)]
        parts.append((rows @ kernels.reshape(len(kernels), -1).T).T)
    y = np.concatenate(parts).reshape(1, outputs, *windows.shape[1:3])
    return y + bias[0].reshape(1, -1, 1, 1) if bias else y


def _max_pool(node: Node, x: Any) -> Any:
    """Take each window's largest element; `graph.program` reads no padded pool."""
    windows = _windows(x.shape, node.attrs["kernel_shape"], node)
    return np.amax(x.ravel()[windows.reshape(1, *windows.shape[:3], -1)], axis=-1)


def _windows(shape: tuple[int, ...], kernel: Any, node: Node) -> NDArray[np.intp]:
    """Return the flat indices that each window of an image (1, C, H, W) sees; -1 is padding."""
    top, left, bottom, right = node.attrs["pads"]
    index = np.arange(np.prod(shape)).reshape(shape[1:])
    index = np.pad(index, ((0, 0), (top, bottom), (left, right)), constant_values=-1)
    down, across = node.attrs["strides"]
    return sliding_window_view(index, tuple(kernel), axis=(1, 2))[:, ::down, ::across]


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "Add": lambda node, a, b: a + b,
    "Conv": _conv,
    "Flatten": lambda node, x: x.reshape(len(x), -1),
    "MatMul": lambda node, x, weights: x @ weights,
    "MaxPool": _max_pool,
    "Quant": _quant,
    "Relu": lambda node, x: x.relu(),
}
