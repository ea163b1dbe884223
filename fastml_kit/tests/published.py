"""The shapes of MLPerf Tiny's published FPGA networks, with random weights on their own grids.

Architectures: Borras et al., arXiv:2206.11791, and the configurations of the public repository
`mlcommons/tiny_results_v0.7` (`open/hls4ml-finn`). Not their weights, and no batch normalization:
nothing here says anything about their quality. Weights spread as those that training begins with
(He et al., arXiv:1502.01852).
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph.writer import Writer

#: RN07's convolutions: filters, side of the kernel, stride. All of them pad as 'same' does.
RN07 = ((32, 1, 1), (4, 4, 1), (32, 4, 1), (32, 4, 4), (32, 4, 1))


def kws(path: Path, seed: int = 0) -> Path:
    """Write 490-256-256-256-12 with 3-bit weights and activations, and inputs of 8 bits."""
    weight, act = FixedSpec(3, 0, narrow=True), FixedSpec(3, 0, signed=False)
    return _dense(path, (490, 256, 256, 256, 12), FixedSpec(8, 6, narrow=True), weight, act, seed)


def ad08(path: Path, seed: int = 0) -> Path:
    """Write 64-72-72-8-72-72-64: quantized_bits(12, 6), quantized_relu(6, 6), inputs of 8 bits.

    The last layer has quantized_bits(12, 0).
    """
    sizes = (64, 72, 72, 8, 72, 72, 64)
    act = FixedSpec(6, 6, signed=False)
    return _dense(path, sizes, FixedSpec(8, 8), FixedSpec(12, 7), act, seed, FixedSpec(12, 1))


def rn07(path: Path, seed: int = 0, side: int = 32) -> Path:
    """Write five convolutions and a dense layer: quantized_bits(8, 2), quantized_relu(8, 2)."""
    rng = np.random.default_rng(seed)
    weight, act = FixedSpec(8, 3), FixedSpec(8, 2, signed=False)
    graph = Writer(shape=(3, side, side))
    graph.quantize("image", FixedSpec(8, 0, signed=False))
    channels = 3
    for number, (filters, size, stride) in enumerate(RN07, start=1):
        name = f"conv{number}"
        shape = (filters, channels, size, size)
        kernel = graph.weight(f"{name}_kernel", _weights(rng, shape, weight, shape[1:]), weight)
        bias = graph.weight(f"{name}_bias", _weights(rng, shape[:1], weight, shape[1:]), weight)
        out, spare = -(-side // stride), max(size - stride, 0)
        pads = (spare // 2, spare // 2, spare - spare // 2, spare - spare // 2)
        graph.node(
            "Conv", name, kernel, bias, shape=(filters, out, out),
            kernel_shape=(size, size), strides=(stride, stride), pads=pads,
        )  # fmt: skip
        graph.node("Relu", f"relu{number}")
        graph.quantize(f"act{number}", act)
        channels, side = filters, out
    flat = channels * side * side
    graph.node("Flatten", "flatten", shape=(flat,))
    kernel = graph.weight("dense_kernel", _weights(rng, (flat, 10), weight, (flat,)), weight)
    graph.node("MatMul", "dense", kernel, shape=(10,))
    graph.node("Add", "dense_add", graph.weight("dense_bias", np.zeros(10), weight))
    return graph.save(path, "rn07_shaped")


def _dense(
    path: Path, sizes: tuple[int, ...], given: FixedSpec, weight: FixedSpec, act: FixedSpec,
    seed: int, last: FixedSpec | None = None,
) -> Path:  # fmt: skip
    rng = np.random.default_rng(seed)
    graph = Writer(shape=sizes[:1])
    graph.quantize("input", given)
    for number, (rows, columns) in enumerate(pairwise(sizes), start=1):
        name = f"dense{number}"
        weight = last if last and number == len(sizes) - 1 else weight
        kernel = _weights(rng, (rows, columns), weight, (rows,))
        graph.node("MatMul", name, graph.weight(f"{name}_kernel", kernel, weight), shape=(columns,))
        bias = _weights(rng, (columns,), weight, (rows,))
        graph.node("Add", f"{name}_add", graph.weight(f"{name}_bias", bias, weight))
        if number < len(sizes) - 1:
            graph.node("Relu", f"relu{number}")
            graph.quantize(f"act{number}", act)
    return graph.save(path, path.stem)


def _weights(
    rng: np.random.Generator, shape: tuple[int, ...], spec: FixedSpec, window: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return normal weights of variance 2 / inputs, rounded to `spec`; a step at least."""
    spread = max(float(np.sqrt(2 / np.prod(window))), spec.step)
    return spec.to_values(spec.requantize(np.round(rng.normal(0, spread, shape) * 2**20), 20))
