"""What one inference costs: multiply-accumulates, bit operations, weights and activations in bits.

The counts of multiply-accumulates and weights are qonnx's own (`qonnx.analysis.inference_cost`,
after the steps of its `inference-cost` tool), so that totals here equal what it prints. This
module adds what it leaves out: every layer under its own name, biases and other constants, the
bits that quantized activations take, transposed convolutions, and bit operations (BOPs) under
each of the three definitions in use (`graph.bops`).

Widths of a layer's data and weights are in bits, as qonnx infers them: 32 where nothing
says that a tensor is quantized, such as a model's input that has no quantizer. QCDQ stores all in
8 bits; turn it into QONNX first to have its narrower widths counted.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.bops import hls4ml_bops, uniq_bops
from fastml_kit.graph.widths import first_line, inferred

if TYPE_CHECKING:
    from onnx import ModelProto

MAC_OPS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Upsample")
#: Operations whose constants are parameters of the network.
ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "BatchNormalization", "PRelu")
INT_QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant", "Trunc", "MultiThreshold", "QuantizeLinear")
QUANTIZERS = (*INT_QUANTIZERS, "FloatQuant")


@dataclass(frozen=True)
class LayerCost:
    """The cost of one node, or of the whole graph, for the batch that the file states.

    What ends in `_sparse` leaves out the work or the storage of weights that are zero. `weights`
    and `constants` are numbers of elements: of the matrix or kernel, and of biases and whatever
    else the node computes with. `activation_bits` is elements times width of what a quantizer
    on data puts out. Widths are in bits, and None where there is no such operand.
    """

    name: str
    op: str
    macs: int = 0
    macs_sparse: int = 0
    weights: int = 0
    weights_sparse: int = 0
    constants: int = 0
    constants_sparse: int = 0
    weight_bits: int = 0
    weight_bits_sparse: int = 0
    constant_bits: int = 0
    activation_bits: int = 0
    input_width: int | None = None
    weight_width: int | None = None
    bops_qonnx: int = 0
    bops_qonnx_sparse: int = 0
    bops_uniq: float = 0.0
    bops_uniq_sparse: float = 0.0
    bops_hls4ml: float = 0.0
    bops_hls4ml_sparse: float = 0.0

    @property
    def parameters(self) -> int:
        """Weights, biases and other constants that the network computes with, in elements."""
        return self.weights + self.constants


@dataclass(frozen=True)
class GraphCost:
    """The cost of a graph, layer by layer in the graph's order, for `batch` samples at once.

    `uncounted` names the operations whose arithmetic no definition here has a figure for, such as
    a Softmax. Elementwise operations and pooling count as free, as they do in qonnx.
    """

    name: str
    batch: int
    layers: tuple[LayerCost, ...]
    uncounted: tuple[str, ...]

    @property
    def total(self) -> LayerCost:
        """All layers together."""
        names = [f.name for f in fields(LayerCost) if f.default == 0]
        sums = {name: sum(getattr(layer, name) for layer in self.layers) for name in names}
        return LayerCost("total", "", **sums)

    def rows(self) -> list[dict[str, Any]]:
        """Return the layers and their total as rows of a table, one dictionary each."""
        return [
            {**asdict(layer), "parameters": layer.parameters}
            for layer in (*self.layers, self.total)
        ]


def count(source: "Path | ModelProto") -> GraphCost:
    """Count the cost of the QONNX file or model `source`, which stays as it is.

    Raises:
        RunError: the file is missing or no ONNX file.
        UnsupportedModel: qonnx cannot infer its shapes or widths, or a width is not constant.
    """
    from qonnx.analysis.inference_cost import inference_cost

    model, name = inferred(source)
    batch = (model.get_tensor_shape(model.graph.input[0].name) or [1])[0]
    try:
        dense, sparse = (
            inference_cost(model, discount_sparsity=discount, cost_breakdown=True)
            for discount in (False, True)
        )
    except Exception as error:  # qonnx asserts, or trips over what a shape does not have
        raise UnsupportedModel(
            f"qonnx cannot count the cost of {name} ({first_line(error)}); "
            "give every tensor a shape, and every convolution its attributes"
        ) from error
    rows: dict[str, LayerCost] = {}
    for node in model.graph.node:
        row = LayerCost(node.name, node.op_type)
        if node.op_type == "ConvTranspose":
            row = _multiplying(model, node, *_transposed(model, node))
        elif node.op_type in MAC_OPS:
            row = _multiplying(
                model, node, dense["node_cost"][node.name], sparse["node_cost"][node.name]
            )
        elif node.op_type in QUANTIZERS:
            row = replace(row, activation_bits=_elements(model, node) * _width(model, node))
        elif node.op_type not in ARITHMETIC:
            continue
        elif layer := _layer_before(model, node):
            # A bias: an Add that nothing but a multiplying layer feeds belongs to that layer.
            rows[layer] = _with_constants(model, rows[layer], node)
            continue
        else:
            row = _with_constants(model, row, node)
            if not row.constants:
                continue
        rows[node.name] = row
    unknown = dense["total_cost"]["unsupported"] - {*MAC_OPS, *QUANTIZERS, *ARITHMETIC}
    layers = tuple(_with_hls4ml(model, rows[n.name], n) for n in model.graph.node if n.name in rows)
    return GraphCost(name, batch, layers, tuple(sorted(unknown)))


def _multiplying(
    model: Any, node: Any, dense: Mapping[str, float], sparse: Mapping[str, float]
) -> LayerCost:
    """Return the row of a layer that qonnx counted with and without its zero weights."""
    from qonnx.core.datatype import DataType
    from qonnx.util.inference_cost import compute_bops_and_macs, compute_mem_bits_and_elems

    # The figures are whole numbers that qonnx carries as floats, the sparse ones times a quotient.
    bops, macs = map(round, compute_bops_and_macs(dense))
    bops_sparse, macs_sparse = map(round, compute_bops_and_macs(sparse))
    bits, weights = map(round, compute_mem_bits_and_elems(dense))
    bits_sparse, weights_sparse = map(round, compute_mem_bits_and_elems(sparse))
    key = next(key for key in dense if key.startswith("op_mac_"))
    b_a, b_w = (DataType[part].bitwidth() for part in key.split("_")[2:])
    fan_in = _fan_in(model, node, macs) if macs else 1
    density = weights_sparse / weights if weights else 1.0
    row = LayerCost(
        node.name,
        node.op_type,
        macs=macs,
        macs_sparse=macs_sparse,
        weights=weights,
        weights_sparse=weights_sparse,
        weight_bits=bits,
        weight_bits_sparse=bits_sparse,
        input_width=b_a,
        weight_width=b_w,
        bops_qonnx=bops,
        bops_qonnx_sparse=bops_sparse,
        bops_uniq=uniq_bops(macs, fan_in, b_a, b_w),
        bops_uniq_sparse=uniq_bops(macs, fan_in, b_a, b_w, density),
    )
    return _with_constants(model, row, node, start=2)


def _fan_in(model: Any, node: Any, macs: int) -> int:
    """Return how many products one output sums up (at most, for a transposed convolution)."""
    if node.op_type == "ConvTranspose":
        channels, _, *kernel = model.get_tensor_shape(node.input[1])
        return int(channels // _attribute(node, "group", 1) * prod(kernel))
    return macs // _elements(model, node)


def _transposed(model: Any, node: Any) -> tuple[dict[str, float], dict[str, float]]:
    """Count a ConvTranspose as qonnx counts a Conv: each input element meets each kernel tap."""
    data, weight = (model.get_tensor_datatype(tensor).name for tensor in node.input[:2])
    shape = model.get_tensor_shape(node.input[1])
    values = model.get_initializer(node.input[1])
    macs = prod(model.get_tensor_shape(node.input[0])) * prod(shape[1:])
    density = 1.0 if values is None else np.count_nonzero(values) / values.size
    stored = 0 if values is None else values.size
    dense, sparse = (
        {f"op_mac_{data}_{weight}": macs * share, f"mem_w_{weight}": stored * share}
        for share in (1.0, density)
    )
    return dense, sparse


def _with_constants(model: Any, row: LayerCost, node: Any, start: int = 0) -> LayerCost:
    """Add what `node` reads from input `start` on, and is constant, to the constants of `row`."""
    found = [t for t in node.input[start:] if t and model.get_initializer(t) is not None]
    sizes = {t: int(np.size(model.get_initializer(t))) for t in found}
    bits = sum(size * model.get_tensor_datatype(t).bitwidth() for t, size in sizes.items())
    nonzero = sum(int(np.count_nonzero(model.get_initializer(t))) for t in found)
    return replace(
        row,
        constants=row.constants + sum(sizes.values()),
        constants_sparse=row.constants_sparse + nonzero,
        constant_bits=row.constant_bits + bits,
    )


def _layer_before(model: Any, node: Any) -> str | None:
    """Return the name of the multiplying layer that the bias `node` belongs to, if it is one."""
    if node.op_type != "Add":
        return None
    data = [tensor for tensor in node.input if model.get_initializer(tensor) is None]
    before = model.find_producer(data[0]) if len(data) == 1 else None
    return before.name if before is not None and before.op_type in MAC_OPS else None


def _with_hls4ml(model: Any, row: LayerCost, node: Any) -> LayerCost:
    """Add the figures of the MLPerf repository's counter, which need the layer's bias as well."""
    if not row.macs or row.input_width is None or row.weight_width is None:
        return row
    batch, *inputs = model.get_tensor_shape(node.input[0])
    kernel = model.get_tensor_shape(node.input[1])[2:] if "Conv" in row.op else ()
    density = (row.weights_sparse + row.constants_sparse) / max(row.parameters, 1)
    dense, sparse = (
        batch
        * hls4ml_bops(
            _elements(model, node) // batch,
            prod(inputs),
            prod(kernel),
            row.input_width,
            row.weight_width,
            share,
        )
        for share in (1.0, density if row.weights else 1.0)
    )
    return replace(row, bops_hls4ml=dense, bops_hls4ml_sparse=sparse)


def _elements(model: Any, node: Any) -> int:
    return prod(model.get_tensor_shape(node.output[0]))


def _width(model: Any, node: Any) -> int:
    """Return the bits of one element that a quantizer on data puts out."""
    inputs = list(node.input)
    if node.op_type == "BipolarQuant":
        return 1
    if node.op_type in ("MultiThreshold", "QuantizeLinear"):
        return int(model.get_tensor_datatype(node.output[0]).bitwidth())
    # Trunc's second version has the output's scale before the output's bits.
    trunc = 5 if len(inputs) > 5 else 4
    places = {"Trunc": [trunc], "FloatQuant": [2, 3]}.get(node.op_type, [3])
    widths = [model.get_initializer(inputs[place]) for place in places]
    if any(width is None or np.size(width) != 1 for width in widths):
        raise UnsupportedModel(
            f"{node.op_type} {node.name!r} has no single constant bit width; "
            "give it as an initializer"
        )
    sign = 1 if node.op_type == "FloatQuant" else 0
    return sign + sum(int(np.asarray(width).item()) for width in widths)


def _attribute(node: Any, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)
