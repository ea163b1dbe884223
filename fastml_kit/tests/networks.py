"""Small networks with random weights on their grid, for tests of everything behind training."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit import models
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph.writer import Writer

INPUT = FixedSpec(5, 1, signed=False)


def keras_model(name: str, seed: int, **sizes: int) -> Any:
    """Build the family `name` for 8x8 images with random weights, frozen on their grid."""
    from fastml_kit.models import train

    request = models.ModelRequest((8, 8, 1), 10, INPUT, **sizes)
    model = models.build(name, request)
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights([rng.normal(0, 0.5, w.shape) for w in layer.get_weights()])
    train.freeze(model)
    return model


def images(samples: int, seed: int) -> NDArray[np.float32]:
    """Return random 8x8 images on the grid of `INPUT`."""
    rng = np.random.default_rng(seed)
    return INPUT.to_values(rng.integers(0, 17, (samples, 8, 8, 1))).astype(np.float32)


def mlp(path: Path, seed: int = 0, sizes: tuple[int, ...] = (6, 5, 3), act_bits: int = 4) -> Path:
    """Write a random MLP as QONNX, without Keras: inputs ufixed<5,1>, weights fixed<4,1>."""
    rng = np.random.default_rng(seed)
    weight, bias = FixedSpec(4, 1, narrow=True), FixedSpec(8, 2)
    graph = Writer(shape=(sizes[0],))
    graph.quantize("input", INPUT)
    for number, (rows, columns) in enumerate(pairwise(sizes), start=1):
        kernel = weight.to_values(rng.integers(weight.low, weight.high + 1, (rows, columns)))
        offset = bias.to_values(rng.integers(-40, 41, columns))
        name = f"dense{number}"
        graph.node("MatMul", name, graph.weight(f"{name}_kernel", kernel, weight), shape=(columns,))
        graph.node("Add", f"{name}_add", graph.weight(f"{name}_bias", offset, bias))
        if number < len(sizes) - 1:
            graph.node("Relu", f"relu{number}")
            graph.quantize(f"act{number}", FixedSpec(act_bits, 2, signed=False))
    return graph.save(path, "random_mlp")


def residual(path: Path) -> Path:
    """Write a strided, padded convolution, a max-pool, a residual sum and a dense layer."""
    rng = np.random.default_rng(0)
    weight, bias, act = FixedSpec(4, 1), FixedSpec(7, 2), FixedSpec(3, 2, signed=False)

    def kernel(name: str, *shape: int) -> str:
        return graph.weight(name, weight.to_values(rng.integers(-7, 8, shape)), weight)

    graph = Writer(shape=(2, 8, 6))
    graph.quantize("input", INPUT)
    graph.node(
        "Conv", "conv1", kernel("conv1_kernel", 4, 2, 3, 3),
        graph.weight("conv1_bias", bias.to_values(rng.integers(-30, 31, 4)), bias),
        shape=(4, 4, 6), kernel_shape=(3, 3), strides=(2, 1), pads=(1, 1, 1, 1),
    )  # fmt: skip
    graph.node("Relu", "relu1")
    trunk = graph.quantize("act1", act)
    graph.node(
        "Conv", "conv2", kernel("conv2_kernel", 4, 4, 1, 1),
        shape=(4, 4, 6), kernel_shape=(1, 1), strides=(1, 1), pads=(0, 0, 0, 0),
    )  # fmt: skip
    graph.quantize("act2", FixedSpec(4, 3))
    graph.node("Add", "sum", trunk)
    graph.quantize("act3", act)
    graph.node("MaxPool", "pool", shape=(4, 2, 3), kernel_shape=(2, 2), strides=(2, 2))
    graph.node("Flatten", "flatten", shape=(24,))
    graph.node("MatMul", "dense", kernel("dense_kernel", 24, 3), shape=(3,))
    graph.node("Add", "dense_add", graph.weight("dense_bias", bias.to_values([9, -30, 4]), bias))
    return graph.save(path, "small_cnn")
