"""Layers that a batch normalization is folded into, for QAT that begins from a float twin.

The float twin has the layer and, behind it, the normalization ``<name>_norm``. The quantized
network has one layer with a bias, and `fold` puts into it what the twin has learned. So no power
of two needs to stand in for the normalization's factors; but weights must be wide enough, from
about six bits, to hold channels of different scale on one grid. (Narrower ones keep their
normalization: see `layers.normalization`.)

Jacob et al., arXiv:1712.05877, fold on every step of the training; here it happens once.
"""

from typing import Any

import numpy as np

from fastml_kit.errors import BadRequest
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.models import ModelRequest
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import ACT_INTEGER_BITS, bias_quantizer, kernel_quantizer

NORM = "_norm"  # behind a layer's name
BIAS_BITS = 12  # of a layer that a normalization is folded into


def conv_norm(
    request: ModelRequest,
    filters: int,
    size: int,
    name: str,
    *,
    stride: int = 1,
    padding: str = "same",
    integer: int = 0,
) -> list[Any]:
    """Return a square convolution and, in the float twin, its normalization.

    The quantized one's weights lie between plus and minus ``2**integer``.
    """
    options = {"strides": stride, "padding": padding, "name": name}
    if request.weight_bits is None:
        plain = keras.layers.Conv2D(
            filters, size, use_bias=False, kernel_initializer="he_normal", **options
        )
        return [plain, keras.layers.BatchNormalization(name=name + NORM)]
    from qkeras import QConv2D

    return [QConv2D(filters, size, **_quantizers(request, integer), **options)]


def dense_norm(
    request: ModelRequest,
    units: int,
    name: str,
    *,
    integer: int = 0,
    act_integer: int = ACT_INTEGER_BITS,
) -> list[Any]:
    """Return a dense layer and, in the float twin, its normalization.

    The quantized one's weights lie between plus and minus ``2**integer``. Where the activations
    behind it reach to ``2**act_integer``, the normalization begins with a spread to match.
    """
    if request.weight_bits is None:
        plain = keras.layers.Dense(units, use_bias=False, kernel_initializer="he_normal", name=name)
        wider = keras.initializers.Constant(2.0 ** (act_integer - ACT_INTEGER_BITS))
        norm = keras.layers.BatchNormalization(gamma_initializer=wider, name=name + NORM)
        return [plain, norm]
    from qkeras import QDense

    return [QDense(units, **_quantizers(request, integer, act_integer), name=name)]


def _quantizers(
    request: ModelRequest, integer: int, act_integer: int = ACT_INTEGER_BITS
) -> dict[str, Any]:
    """Return a layer's quantizers; a folded bias lies within twice the activations' range."""
    bias = FixedSpec(width=BIAS_BITS, integer=act_integer + 2)
    return {
        "kernel_quantizer": kernel_quantizer(request, integer),
        "bias_quantizer": bias_quantizer(bias),
    }


def fold(twin: Any, model: Any) -> None:
    """Give `model` the weights of its float `twin`, the twin's normalizations folded in.

    Layers are matched by name. A normalization that the model has, too, is copied.

    Raises:
        BadRequest: the twin lacks a layer of the model, or has it in another shape.
    """
    given = {layer.name: layer for layer in twin.layers}
    own = {layer.name for layer in model.layers}
    for layer in model.layers:
        if not layer.get_weights():
            continue
        if layer.name not in given:
            raise BadRequest(
                f"{twin.name!r} has no layer {layer.name!r} to begin from; "
                "a float twin is built by models.build from request.float_twin()"
            )
        weights = given[layer.name].get_weights()
        norm = given.get(layer.name + NORM)
        if norm is not None and norm.name not in own:
            gamma, beta, mean, variance = norm.get_weights()
            factor = gamma / np.sqrt(variance + norm.epsilon)
            weights = [weights[0] * factor, beta - mean * factor]
        shapes = [[w.shape for w in ws] for ws in (weights, layer.get_weights())]
        if shapes[0] != shapes[1]:
            raise BadRequest(f"{layer.name}: weights {shapes[0]} do not fit into {shapes[1]}")
        layer.set_weights(weights)
