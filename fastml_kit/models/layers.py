"""The layers that every builder shares: power-of-two steps only, so that codes stay codes.

Each function returns the quantized layer, or the plain one where the request is for a float twin.
One bit stands for bipolar weights and activations, -1 and +1.
"""

from typing import Any

from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.models import ModelRequest
from fastml_kit.models.keras2 import keras

BIAS = FixedSpec(width=8, integer=2)
ACT_INTEGER_BITS = 2  # hidden activations lie in [0, 4)
#: Weights of a quantized network begin between plus and minus this, or 0.8 steps of their grid if
#: that is more. Keras's own default shrinks with the number of inputs: with 490 it lies within
#: half a step of three bits, and the network would begin with no weights at all. What is too much,
#: the normalization takes back; wider starts were tried, and learned the training data by heart.
FIRST_WEIGHTS = 0.2


def input_quantizer(request: ModelRequest) -> Any:
    """Return a layer that puts the input on its grid; on data of the task it changes nothing."""
    from qkeras import QActivation, quantized_bits

    spec = request.input_spec
    quantizer = quantized_bits(
        spec.width, spec.integer - spec.signed, keep_negative=spec.signed, alpha=1
    )
    return QActivation(quantizer, name="input_quantizer")


def kernel_quantizer(request: ModelRequest, integer: int = 0) -> Any:
    """Return the weights' quantizer: between plus and minus ``2**integer``; bipolar for one bit.

    Weights are symmetric (no most negative code), as FINN's DSP units need them.
    """
    from qkeras import binary, quantized_bits

    if request.weight_bits == 1:
        return binary(alpha=1)
    return quantized_bits(request.weight_bits, integer, symmetric=1, alpha=1)


def bias_quantizer(spec: FixedSpec = BIAS) -> Any:
    """Return the quantizer of biases, which are wider than weights: there are few of them."""
    from qkeras import quantized_bits

    return quantized_bits(spec.width, spec.integer - 1, alpha=1)


def dense(
    request: ModelRequest, units: int, name: str, *, integer: int = 0, bias: FixedSpec = BIAS
) -> Any:
    """Return a dense layer with a bias; its weights lie between plus and minus ``2**integer``."""
    if request.weight_bits is None:
        return keras.layers.Dense(units, name=name)
    from qkeras import QDense

    quantizers = {
        "kernel_quantizer": kernel_quantizer(request, integer),
        "bias_quantizer": bias_quantizer(bias),
    }
    return QDense(units, name=name, **quantizers)


def conv(request: ModelRequest, filters: int, size: int, name: str, **options: Any) -> Any:
    """Return a square convolution with a bias; `options` are Keras's, strides and padding."""
    if request.weight_bits is None:
        return keras.layers.Conv2D(filters, size, name=name, **options)
    from qkeras import QConv2D

    quantizers = {
        "kernel_quantizer": kernel_quantizer(request),
        "bias_quantizer": bias_quantizer(),
    }
    return QConv2D(filters, size, name=name, **quantizers, **options)


def relu(request: ModelRequest, name: str, *, integer: int = ACT_INTEGER_BITS) -> Any:
    """Return the activation: ReLU on a grid of `act_bits` bits below ``2**integer``.

    One bit makes it the sign, and in the float twin it is the plain ReLU.
    """
    if request.act_bits is None:
        return keras.layers.ReLU(name=name)
    from qkeras import QActivation, binary, quantized_relu

    if request.act_bits == 1:
        return QActivation(binary(alpha=1), name=name)
    return QActivation(quantized_relu(request.act_bits, integer), name=name)


def unbiased(request: ModelRequest, units: int, name: str, size: int = 0, **options: Any) -> Any:
    """Return a layer without bias, which the normalization behind it has.

    It is dense, or with `size` a square convolution; `options` are Keras's.
    """
    bits = request.weight_bits
    limit = max(FIRST_WEIGHTS, 0.8 * 2.0 ** (1 - bits)) if bits else FIRST_WEIGHTS
    options = {
        "use_bias": False,
        "kernel_initializer": keras.initializers.RandomUniform(-limit, limit),
        "name": name,
        **options,
    }
    if bits is None:
        if size:
            return keras.layers.Conv2D(units, size, **options)
        return keras.layers.Dense(units, **options)
    from qkeras import QConv2D, QDense

    kernel = {"kernel_quantizer": kernel_quantizer(request)}
    if size:
        return QConv2D(units, size, **kernel, **options)
    return QDense(units, **kernel, **options)


def normalization(request: ModelRequest, name: str) -> Any:
    """Return a batch normalization; a quantized one multiplies by powers of two.

    Variances are rounded to powers of four, 4**-5 to 4**6, so that their square roots are
    powers of two, too. Its epsilon is one that float32 drops beside them: any other would leave a
    factor that no short binary fraction holds.
    """
    if request.weight_bits is None:
        return keras.layers.BatchNormalization(name=name)
    from qkeras import QBatchNormalization, quantized_bits, quantized_relu_po2

    return QBatchNormalization(
        epsilon=1e-12,
        gamma_quantizer=quantized_relu_po2(4, 4),
        beta_quantizer=quantized_bits(8, 1, alpha=1),
        mean_quantizer=quantized_bits(12, 7, alpha=1),
        variance_quantizer=quantized_relu_po2(4, quadratic_approximation=True),
        name=name,
    )
