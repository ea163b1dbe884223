"""Every operation of the integer program as layers of hls4ml, or refused by name."""

from collections.abc import Callable
from math import prod

import numpy as np

from fastml_kit.backends import hls4ml_quantizers, hls4ml_windows
from fastml_kit.backends.hls4ml_design import (
    Design,
    Indices,
    Wire,
    channel_last,
    fixed,
    natural,
    weight_type,
)
from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import ranges
from fastml_kit.graph.host import input_quant
from fastml_kit.graph.ir import Node, Program


def design_of(program: Program, *, stream: bool, merge: bool = False) -> Design:
    """Return hls4ml's layers for `program`; the input, which the host orders, lies as it suits.

    With `merge`, layers of weights take in the activations behind them.

    Raises:
        UnsupportedModel: an operation has no exact form in hls4ml.
    """
    try:
        return _design(program, channel_last(program.input_shape), stream, merge)
    except UnsupportedModel:
        if len(program.input_shape) == 1:
            raise
        try:
            return _design(program, natural(program.input_shape), stream, merge)
        except UnsupportedModel:
            pass  # the first refusal is the one to tell
        raise


def _design(program: Program, order: Indices, stream: bool, merge: bool) -> Design:
    first = input_quant(program)
    design = Design(program, ranges.analyse(program), stream, merge)
    given = program.input_shape
    same = np.array_equal(order, natural(given))
    shape = given if same else (*given[1:], given[0])
    types = {"result": fixed(first.attrs["spec"])}
    design.wires[first.output] = design.add(
        "InputLayer", program.input, (), shape, order, types, input_shape=list(shape)
    )
    for node in program.nodes:
        if node is first or node.output in design.done:
            continue
        if node.op not in LAYERS:
            raise UnsupportedModel(
                f"hls4ml backend: {node.op} {node.name!r} has no exact form in hls4ml; supported: "
                f"{', '.join(sorted(LAYERS))}. Replace the node, or use the da4ml backend."
            )
        LAYERS[node.op](design, node)
    if len(design.layers) == 1:
        raise UnsupportedModel("hls4ml backend: the graph holds nothing but its input's Quant")
    return design


def _matmul(design: Design, node: Node) -> None:
    """A dense layer with its bias; over several positions, a convolution of width one."""
    shape = design.shape(node.inputs[0])
    output, bias = design.take_bias(node, len(shape) - 1)
    wire, weights = design.wires[node.inputs[0]], design.constant(node.inputs[1])
    accum = design.type(output)
    output, result = hls4ml_quantizers.take_activation(design, output)
    types = {
        "result": result, "accum": accum,
        "weight": weight_type(weights), "bias": weight_type(bias),
    }  # fmt: skip
    order = natural(design.shape(output))
    if len(shape) == 1:
        design.wires[output] = design.add(
            "Dense", node.name, (design.reshaped(wire, shape, node.name),), order.shape, order,
            types, n_in=shape[0], n_out=len(order), weight_data=weights[wire.order], bias_data=bias,
        )  # fmt: skip
        return
    rows, (inputs, outputs) = prod(shape[:-1]), weights.shape
    wire = design.arranged(wire, node.inputs[0], natural(shape), (rows, inputs), node.name)
    design.wires[output] = design.add(
        "Conv1D", node.name, (wire,), (rows, outputs), order, types,
        weight_data=weights[None], bias_data=bias, use_bias=True, data_format="channels_last",
        in_width=rows, out_width=rows, n_chan=inputs, n_filt=outputs, filt_width=1,
        stride_width=1, pad_left=0, pad_right=0,
    )  # fmt: skip


def _binary(design: Design, node: Node) -> None:
    """A sum, difference or product of two tensors, or of one and constants."""
    shape, constants = design.shape(node.output), design.program.constants
    a, b = node.inputs
    if a in constants or b in constants:
        data, values = (b, design.constant(a)) if a in constants else (a, design.constant(b))
        if design.shape(data) != shape:
            raise _broadcast(node)
        scale, bias = {
            "Add": (1.0, values),
            "Sub": (-1.0, values) if a in constants else (1.0, -values),
            "Mul": (values, 0.0),
        }[node.op]
        result = design.type(node.output)
        design.wires[node.output] = design.scaled(
            design.wires[data], node.name, scale, bias, result, shape
        )
        return
    if design.shape(a) != design.shape(b):
        raise _broadcast(node)
    left = design.wires[a]
    right = design.arranged(design.wires[b], b, left.order, left.shape, node.name)
    op = {"Add": "add", "Sub": "subtract", "Mul": "multiply"}[node.op]
    design.wires[node.output] = design.add(
        "Merge", node.name, (left, right), left.shape, left.order,
        {"result": design.type(node.output)}, op=op,
    )  # fmt: skip


def _broadcast(node: Node) -> UnsupportedModel:
    return UnsupportedModel(
        f"hls4ml backend: {node.op} {node.name!r} joins tensors of different shapes, of which "
        "hls4ml repeats none exactly; use the da4ml backend"
    )


def _concat(design: Design, node: Node) -> None:
    """Two tensors side by side, as often as there are more."""
    axis, shape = node.attrs["axis"], design.shape(node.output)
    rank = len(shape)
    if design.stream and rank > 1 and axis != 1:
        raise UnsupportedModel(
            f"hls4ml backend: Concat {node.name!r} joins along axis {axis}; hls4ml's streams join "
            "channels (axis 1). Use io_parallel"
        )
    if rank == 1:
        wires = [design.reshaped(design.wires[i], design.shape(i), node.name) for i in node.inputs]
    else:
        wires = [design.image(i, node.name) for i in node.inputs]
    place = 0 if rank == 1 else (rank - 1 if axis == 1 else axis - 2)
    starts = np.cumsum([0, *(len(w.order) for w in wires)])
    joined = wires[0]
    for wire, start in zip(wires[1:], starts[1:], strict=False):
        sides = list(joined.shape)
        sides[place] += wire.shape[place]
        order = np.concatenate([joined.order, wire.order + start]) if rank == 1 else joined.order
        joined = design.add(
            "Concatenate", node.name, (joined, wire), tuple(sides), order,
            {"result": design.type(node.output)}, op=f"concatenate{rank}d", axis=place + 1,
        )  # fmt: skip
    order = joined.order if rank == 1 else channel_last(shape)
    design.wires[node.output] = Wire(joined.layer, joined.shape, order, joined.type)


def _reshape(design: Design, node: Node) -> None:
    """Another shape: the program's numbers of the elements stay."""
    design.wires[node.output] = design.wires[node.inputs[0]]


def _transpose(design: Design, node: Node) -> None:
    """Other places: the program's numbers of the elements change, and nothing moves."""
    wire, shape = design.wires[node.inputs[0]], design.shape(node.inputs[0])
    perm = [axis - 1 for axis in node.attrs["perm"][1:]]
    was = natural(shape).reshape(shape).transpose(perm).ravel()
    now = np.empty_like(was)
    now[was] = natural(shape)
    design.wires[node.output] = Wire(wire.layer, wire.shape, now[wire.order], wire.type)


LAYERS: dict[str, Callable[[Design, Node], None]] = {
    "Add": _binary,
    "BipolarQuant": hls4ml_quantizers.bipolar_quant,
    "Clip": hls4ml_quantizers.clip,
    "Concat": _concat,
    "Conv": hls4ml_windows.conv,
    "ConvTranspose": hls4ml_windows.conv_transpose,
    "Flatten": _reshape,
    "LeakyRelu": hls4ml_quantizers.leaky_relu,
    "MatMul": _matmul,
    "MaxPool": hls4ml_windows.max_pool,
    "Mul": _binary,
    "MultiThreshold": hls4ml_quantizers.multi_threshold,
    "Pad": hls4ml_windows.pad,
    "Quant": hls4ml_quantizers.quant,
    "Relu": hls4ml_quantizers.relu,
    "Reshape": _reshape,
    "Sub": _binary,
    "SumPool": hls4ml_windows.sum_pool,
    "Transpose": _transpose,
    "Upsample": hls4ml_windows.upsample,
}
