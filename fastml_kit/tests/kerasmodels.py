"""Small Keras models for the exporter's tests, and the question they are asked: are all equal?"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import execute, export, program, reference
from fastml_kit.models.keras2 import keras

qkeras = import_module("qkeras")  # only now: it takes the Keras that the line above has chosen
INPUT = FixedSpec(5, 2)  # of every model here: multiples of 1/8 from -2 to 2


def bits(width: int = 4, integer: int = 0, **options: Any) -> Any:
    """Return a quantized_bits with alpha=1."""
    return qkeras.quantized_bits(width, integer, **{"alpha": 1, **options})


def layer(kind: str, *arguments: Any, **options: Any) -> Any:
    """Return a QKeras layer of 4-bit kernels and a 6-bit bias, where `options` says no other."""
    given: dict[str, Any] = {"bias_quantizer": bits(6, 1)}
    if "Separable" in kind or "Depthwise" in kind:
        given["depthwise_quantizer"] = bits(symmetric=1)
        if "Separable" in kind:
            given["pointwise_quantizer"] = bits()
    else:
        given["kernel_quantizer"] = bits(symmetric=1)
    return getattr(qkeras, kind)(*arguments, **{**given, **options})


def activation(quantizer: Any, **options: Any) -> Any:
    """Return a QActivation."""
    return qkeras.QActivation(quantizer, **options)


def chain(shape: tuple[int, ...], *layers: Any) -> Any:
    """Return a Sequential model of `layers` behind the quantizer of the input."""
    return keras.Sequential([keras.Input(shape=shape), activation(bits(5, 1)), *layers])


def functional(shape: tuple[int, ...], build: Callable[[Any], Any]) -> Any:
    """Return the model that `build` makes of the quantized input."""
    x = keras.Input(shape=shape)
    return keras.Model(x, build(activation(bits(5, 1))(x)))


def randomized(model: Any, seed: int = 0) -> Any:
    """Give `model` random weights, most of them inside the range of their quantizers."""
    rng = np.random.default_rng(seed)
    for one in model._flatten_layers(include_self=False):
        norm = getattr(one, "batchnorm", one)
        if isinstance(norm, keras.layers.BatchNormalization):
            normalize(norm, rng)
        if norm is not one:
            kernel = getattr(one, "kernel", None)
            kernel = one.depthwise_kernel if kernel is None else kernel
            kernel.assign(rng.normal(0, 0.4, kernel.shape))
            if one.use_bias:
                one.bias.assign(rng.normal(0, 0.4, one.bias.shape))
        elif hasattr(one, "kernel") or hasattr(one, "depthwise_kernel"):
            one.set_weights([rng.normal(0, 0.5, w.shape).clip(-1, 1) for w in one.get_weights()])
    return model


def normalize(norm: Any, rng: np.random.Generator) -> None:
    """Give a batch normalization random statistics that are not dyadic."""
    spread = {"gamma": (0.5, 2), "beta": (-1, 1), "moving_mean": (-1, 1), "moving_variance": (1, 4)}
    for name, (low, high) in spread.items():
        if (variable := getattr(norm, name)) is not None:
            variable.assign(rng.uniform(low, high, variable.shape))


def samples(model: Any, count: int = 100, seed: int = 0) -> NDArray[np.float32]:
    """Return random inputs on the grid of `INPUT`, in the shape that the model has."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(INPUT.low, INPUT.high + 1, (count, *model.input_shape[1:]))
    return INPUT.to_values(codes).astype(np.float32)


def agree(model: Any, path: Path, *, distinct: int = 20, count: int = 100) -> Any:
    """Export `model`, assert that Keras, qonnx and the reference give equal outputs; read it.

    At least `distinct` of the outputs differ from one another, so that equality says something.
    """
    exported = export.export_model(model, path)
    assert not exported.inexact
    graph = program.read(path)
    x = samples(model, count)
    want = export.channel_first(
        export.logits_model(model).predict(x, batch_size=count, verbose=0).astype(np.float64)
    )
    assert len(np.unique(want.reshape(count, -1), axis=0)) >= distinct, "it says nothing"
    inputs = export.channel_first(x)
    for name, got in (
        ("qonnx", execute.run(path, inputs)),
        ("reference", reference.run(graph, inputs)),
    ):
        assert got.shape == want.shape, f"{name}: {got.shape}, Keras: {want.shape}"
        assert np.array_equal(got, want), f"{name}: {np.sum(got != want)} of {want.size} differ"
    return graph
