"""The networks on which FINN's estimates are held against measurements.

What a circuit costs depends little on how well its network is trained, so training is short, or
weights are random. Each entry knows the interval that it is folded for on an xc7z020.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastml_kit import models, tasks
from fastml_kit.errors import unknown_name
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import program
from fastml_kit.graph.host import quantize_input
from fastml_kit.graph.writer import Writer
from fastml_kit.tasks.base import Part

Samples = NDArray[np.float64]
#: Synthetic data, which are the same everywhere.
STAND_IN = "kws-synthetic"


@dataclass(frozen=True)
class Network:
    """How to write a network, and how fast its circuit is to be."""

    what: str
    interval_cycles: int
    write: Callable[[Path], Samples]  # writes the graph; returns (samples, *its input shape)


def get(name: str) -> Network:
    """Return the network called `name`.

    Raises:
        BadRequest: there is none.
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    return NETWORKS[name]


def digits(family: str, path: Path) -> Samples:
    """Write a digits network of `family`, trained for five epochs; return the whole set."""
    return _trained("digits", family, path, epochs=5, part=None)


def keyword_spotting(path: Path) -> Samples:
    """Write the keyword-spotting MLP, trained for ten epochs on a stand-in; return its test set."""
    sizes = {"width": 256, "weight_bits": 3, "act_bits": 3}
    return _trained("kws", "mlp_bn", path, epochs=10, part="test", dataset=STAND_IN, **sizes)


def residual(path: Path) -> Samples:
    """Write the network of `write_residual`; return 500 random samples on its input's grid."""
    write_residual(path)
    codes = np.random.default_rng(0).integers(0, 17, (500, *program.read(path).input_shape))
    return codes / 16


def write_residual(path: Path) -> Path:
    """Write a strided, padded convolution, a max-pool, a residual sum and a dense layer.

    The weights are random; what forks and joins the streams is what the network is for.
    """
    rng = np.random.default_rng(0)
    weight, bias, act = FixedSpec(4, 1), FixedSpec(7, 2), FixedSpec(3, 2, signed=False)

    def kernel(name: str, *shape: int) -> str:
        return graph.weight(name, weight.to_values(rng.integers(-7, 8, shape)), weight)

    graph = Writer(shape=(2, 8, 6))
    graph.quantize("input", FixedSpec(5, 1, signed=False))
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


def _trained(
    task: str,
    family: str,
    path: Path,
    *,
    epochs: int,
    part: Part | None,
    dataset: str = "",
    **sizes: int,
) -> Samples:
    """Train a network, write it, and return samples of one part of the task's data, or of all."""
    from fastml_kit.graph import export  # late, as TensorFlow is slow to load
    from fastml_kit.models import train

    data = tasks.load(task, dataset)
    request = models.ModelRequest(data.x.shape[1:], len(data.classes), data.input_spec, **sizes)
    network, _ = train.train(family, request, data, epochs=epochs, seed=0)
    export.export_model(network, path)
    images = train.shaped(network, data.select(part)[0] if part else data.x)
    read = program.read(path)
    return quantize_input(read, export.channel_first(images).reshape(-1, *read.input_shape))


NETWORKS: dict[str, Network] = {
    "digits_mlp": Network("digits, dense layers", 16, lambda path: digits("mlp", path)),
    "digits_cnn": Network("digits, convolutions", 72, lambda path: digits("cnn", path)),
    "residual": Network("a fork, a sum and a max-pool", 100, residual),
    "kws": Network("keyword spotting, dense layers", 128, keyword_spotting),
}
