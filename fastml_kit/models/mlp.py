"""The multilayer perceptron: one hidden layer of `width` neurons, without normalization."""

from collections.abc import Sequence
from math import prod
from typing import Any

from fastml_kit.models import ModelRequest
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import dense, input_quantizer, relu


def build(request: ModelRequest) -> Any:
    """Build inputs - width - classes. The input is the flattened sample."""
    return network(request, (request.width,), "mlp")


def network(request: ModelRequest, hidden: Sequence[int], name: str) -> Any:
    """Build a perceptron with `hidden` units in its hidden layers, in order."""
    layers = [keras.Input(shape=(prod(request.input_shape),), name="x"), input_quantizer(request)]
    for number, units in enumerate(hidden, start=1):
        layers += [
            dense(request, units, f"dense{number}"),
            relu(request, f"relu{number}"),
        ]
    return keras.Sequential([*layers, dense(request, request.classes, "logits")], name=name)
