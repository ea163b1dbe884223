"""A graph as da4ml's symbolic arithmetic: every operation becomes adders and wires.

da4ml unrolls a network completely and shares adders between the constant multiplications of a
layer (https://github.com/calad0i/da4ml). Values travel through the functions below as arrays of
`FixedVariable`, each of which knows its range and step, so that nothing is ever rounded unless
the graph says so. Arrays keep ONNX's shapes, with a batch of one in front.

How large a network may be is a matter of time: da4ml 0.6.0 searches each matrix for common parts.
Seconds of one core for a dense layer, its trace and its Verilog, measured:

    bits    887 to 1,022 products    3,522 to 4,030    7,026
      3              0.3                   4.5           27
      6              1.0                    18            -
     12              3.4                     -            -

That is about 4e-8 * (products * bits)**2 a matrix, within a factor of two, in less than 100 MB. The
request's `most_multiplications` is 20,000 if it says nothing: by that rule (an estimate), ten
minutes for one matrix of 6-bit weights. At da4ml's estimates of 3.5, 10 and 32 LUTs a product of 3,
6 and 12 bits, a design of that size fills a board of about 60,000 LUTs at any of these widths.

`da4ml_rounding` builds the quantizers, and `da4ml_windows` what moves elements or slides over
them; both are held to the reference engine's rules.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastml_kit.backends import da4ml_rounding, da4ml_windows
from fastml_kit.backends.da4ml_rounding import MAX_FRAC
from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import ranges
from fastml_kit.graph.host import input_quant
from fastml_kit.graph.program import Node, Program

#: da4ml's solver takes its constants as float32, whose integers are exact up to this one.
MAX_WEIGHT_CODE = 2**24

#: Codes of this many bits pass through da4ml's float64 intervals and int64 interpreter unharmed.
MAX_WIDTH = 48


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
        name: np.asarray(constant.codes * 2.0**-constant.frac)
        for name, constant in program.constants.items()
    }
    _check(program)
    first = input_quant(program)
    tensors[first.output] = wires.quantize(*da4ml_rounding.kif(first.attrs["spec"]))
    for node in program.nodes:
        if node is first:
            continue
        tensors[node.output] = OPERATIONS[node.op](node, *(tensors[name] for name in node.inputs))
    return comb_trace(wires, tensors[program.output])


def multiplications(program: Program, most: int) -> int:
    """Return how many multiplications by a non-zero constant the unrolled `program` holds.

    Raises:
        UnsupportedModel: they are more than `most`, or a weight is too wide; the message names the
            node.
    """
    found, counts = ranges.analyse(program), dict[str, int]()
    for node in program.nodes:
        constants = [program.constants[i].codes for i in node.inputs if i in program.constants]
        if node.op not in ("MatMul", "Conv", "ConvTranspose", "Mul") or not constants:
            continue
        weights, shape = constants[0], found[node.output].low.shape
        if node.op == "Mul":
            count = int(np.count_nonzero(np.broadcast_to(weights, shape)))
        elif node.op == "ConvTranspose":
            count = da4ml_windows.products(node, found[node.inputs[0]].low.shape[2:], weights)
        else:
            positions = np.prod(shape[2:] if node.op == "Conv" else shape[:-1])
            count = int(positions) * int(np.count_nonzero(weights))
        counts[f"{node.op} {node.name!r}"] = count
        if np.abs(weights).max(initial=0) > MAX_WEIGHT_CODE:
            raise UnsupportedModel(
                f"da4ml backend: {node.op} {node.name!r} has weights of more than 24 bits, which "
                "da4ml's solver would round. Use fewer weight bits."
            )
    total = sum(counts.values())
    if total > most:
        largest = max(counts, key=lambda name: counts[name])
        raise UnsupportedModel(
            f"da4ml backend: the design holds {total:,} multiplications, all unrolled, "
            f"{counts[largest]:,} of them in {largest}; at most {most:,} are tried. Use fewer or "
            "narrower layers, prune weights to zero, use the hls4ml or finn backend, which share "
            "multipliers, or raise the request's most_multiplications if you have the time"
        )
    return total


def _check(program: Program) -> None:
    """Refuse what has no circuit, and what da4ml's numbers would not hold exactly."""
    for node in program.nodes:
        if node.op not in OPERATIONS:
            raise UnsupportedModel(
                f"da4ml backend: no exact form for {node.op} {node.name!r}; supported: "
                f"{', '.join(sorted(OPERATIONS))}. Replace the node, or use the hls4ml backend."
            )
    input_quant(program)  # refuses an input that the host could not put on its grid
    found = ranges.analyse(program)
    for node in program.nodes:
        spec = found[node.output].spec
        if spec.width > MAX_WIDTH or abs(spec.frac) > MAX_FRAC:
            raise UnsupportedModel(
                f"da4ml backend: {node.op} {node.name!r} gives {spec.width} bits, {spec.frac} of "
                f"them fractional; up to {MAX_WIDTH} and {MAX_FRAC} are exact in da4ml. "
                "Put a Quant before it."
            )


def _product(node: Node, a: Any, b: Any) -> Any:
    """Multiply data by constants: shifted additions."""
    if not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray):
        raise UnsupportedModel(
            f"da4ml backend: Mul {node.name!r} multiplies data by data, which takes multipliers "
            "instead of adders; use the reference engine, or multiply by constants"
        )
    return a * b


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "Add": lambda node, a, b: a + b,
    "BipolarQuant": da4ml_rounding.bipolar_quant,
    "Clip": da4ml_rounding.clip,
    "Concat": lambda node, *parts: np.concatenate(parts, axis=node.attrs["axis"]),
    "Conv": da4ml_windows.conv,
    "ConvTranspose": da4ml_windows.conv,
    "Flatten": da4ml_windows.move,
    "LeakyRelu": da4ml_rounding.leaky_relu,
    "MatMul": lambda node, x, weights: x @ weights,
    "MaxPool": da4ml_windows.max_pool,
    "Mul": _product,
    "MultiThreshold": da4ml_rounding.multi_threshold,
    "Pad": da4ml_windows.move,
    "Quant": da4ml_rounding.quant,
    "Relu": lambda node, x: x.relu(),
    "Reshape": da4ml_windows.move,
    "Sub": lambda node, a, b: a - b,
    "SumPool": da4ml_windows.sum_pool,
    "Transpose": da4ml_windows.move,
    "Trunc": da4ml_rounding.trunc,
    "Upsample": da4ml_windows.move,
}
