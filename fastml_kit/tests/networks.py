"""Small networks with random weights on their grid, for tests of everything behind training."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit import models
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph.writer import Writer
from fastml_kit.studies.finn_networks import write_residual as residual

__all__ = ["INPUT", "images", "keras_model", "mlp", "residual"]

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
