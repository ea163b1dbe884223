"""Perceptrons whose hidden layers have a batch normalization each, in powers of two.

The factors of a channel make up for weights of few bits: three are enough for keyword spotting.
`network` is what other families are made by; the family ``mlp_bn`` has three hidden layers of
`width`, and is called ``kws_mlp``, too.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

from fastml_kit.models import ModelRequest
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import dense, input_quantizer, normalization, relu, unbiased


def build(request: ModelRequest) -> Any:
    """Build inputs - width - width - width - classes. The input is the flattened sample."""
    return network(request, (request.width,) * 3, "mlp_bn")


def network(request: ModelRequest, hidden: Sequence[int], name: str) -> Any:
    """Build a perceptron with `hidden` units in its hidden layers, in order."""
    layers = [keras.Input(shape=(prod(request.input_shape),), name="x"), input_quantizer(request)]
    for number, units in enumerate(hidden, start=1):
        layers += [
            unbiased(request, units, f"dense{number}"),
            normalization(request, f"norm{number}"),
            relu(request, f"relu{number}"),
        ]
    return keras.Sequential([*layers, dense(request, request.classes, "logits")], name=name)
