"""Readers: what each supported ONNX operation means in integers, a function for each.

A reader looks at one ONNX node and adds nodes of the integer program (`graph.ir`) to a `Reading`.
"""

from collections.abc import Callable
from typing import Any

from fastml_kit.graph.readers import arithmetic, quantizers, shaping, windows
from fastml_kit.graph.readers.base import Reading

READERS: dict[str, Callable[[Reading, Any], None]] = {
    "Add": arithmetic.binary,
    "AveragePool": windows.average_pool,
    "BipolarQuant": quantizers.bipolar_quant,
    "Clip": arithmetic.clip,
    "Concat": shaping.concat,
    "Conv": windows.conv,
    "ConvTranspose": windows.conv_transpose,
    "Div": arithmetic.div,
    "Dropout": arithmetic.identity,
    "Flatten": shaping.reshape,
    "Gemm": arithmetic.gemm,
    "GlobalAveragePool": windows.global_pool,
    "GlobalMaxPool": windows.global_pool,
    "Identity": arithmetic.identity,
    "IntQuant": quantizers.quant,
    "LeakyRelu": arithmetic.leaky_relu,
    "MatMul": arithmetic.matmul,
    "MaxPool": windows.max_pool,
    "Mul": arithmetic.binary,
    "MultiThreshold": quantizers.multi_threshold,
    "PRelu": arithmetic.leaky_relu,
    "Pad": shaping.pad,
    "Quant": quantizers.quant,
    "ReduceMax": windows.global_pool,
    "ReduceMean": windows.global_pool,
    "Relu": arithmetic.relu,
    "Reshape": shaping.reshape,
    "Resize": shaping.resize,
    "Squeeze": shaping.reshape,
    "Sub": arithmetic.binary,
    "Transpose": shaping.transpose,
    "Trunc": quantizers.trunc,
    "Unsqueeze": shaping.reshape,
    "Upsample": shaping.resize,
}

__all__ = ["READERS", "Reading"]
