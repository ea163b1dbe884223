"""The quantizers that every builder shares: power-of-two steps only, so that codes stay codes."""

from typing import Any

from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.models import ModelRequest
from fastml_kit.models.keras2 import keras

BIAS = FixedSpec(width=8, integer=2)
ACT_INTEGER_BITS = 2  # hidden activations lie in [0, 4)


def input_quantizer(request: ModelRequest) -> Any:
    """Return a layer that puts the input on its grid; on data of the task it changes nothing."""
    from qkeras import QActivation, quantized_bits

    spec = request.input_spec
    quantizer = quantized_bits(
        spec.width, spec.integer - spec.signed, keep_negative=spec.signed, alpha=1
    )
    return QActivation(quantizer, name="input_quantizer")


def weight_options(request: ModelRequest) -> dict[str, Any]:
    """Return the quantizer arguments for QDense and QConv2D.

    Weights are symmetric (no most negative code), as FINN's DSP units need them.
    """
    from qkeras import quantized_bits

    return {
        "kernel_quantizer": quantized_bits(request.weight_bits, 0, symmetric=1, alpha=1),
        "bias_quantizer": quantized_bits(BIAS.width, BIAS.integer - 1, alpha=1),
    }


def dense(request: ModelRequest, units: int, name: str) -> Any:
    """Return a dense layer, quantized if the request says so."""
    if request.weight_bits is None:
        return keras.layers.Dense(units, name=name)
    from qkeras import QDense

    return QDense(units, name=name, **weight_options(request))


def conv(request: ModelRequest, filters: int, size: int, name: str) -> Any:
    """Return a square convolution without padding, quantized if the request says so."""
    if request.weight_bits is None:
        return keras.layers.Conv2D(filters, size, name=name)
    from qkeras import QConv2D

    return QConv2D(filters, size, name=name, **weight_options(request))


def relu(request: ModelRequest, name: str) -> Any:
    """Return the activation: plain ReLU, or ReLU on a grid of `act_bits` bits."""
    if request.act_bits is None:
        return keras.layers.ReLU(name=name)
    from qkeras import QActivation, quantized_relu

    return QActivation(quantized_relu(request.act_bits, ACT_INTEGER_BITS), name=name)
