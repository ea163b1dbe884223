"""The multilayer perceptron: one hidden layer of `width` neurons."""

from math import prod
from typing import Any

from fastml_kit.models import ModelRequest
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import dense, input_quantizer, relu


def build(request: ModelRequest) -> Any:
    """Build inputs - width - classes. The input is the flattened sample."""
    return keras.Sequential(
        [
            keras.Input(shape=(prod(request.input_shape),), name="x"),
            input_quantizer(request),
            dense(request, request.width, "dense1"),
            relu(request, "relu1"),
            dense(request, request.classes, "logits"),
        ],
        name="mlp",
    )
