"""The perceptron of keyword spotting: three hidden layers, each with batch normalization.

With width 256 and three bits it is the network of the hls4ml-FINN submission to MLPerf Tiny
(KWS-W3A3: 490-256-256-256-12, no bias in the hidden layers; Borras et al., arXiv:2206.11791),
but for its scales: here they are powers of two, so that it has an exact form in integers.
"""

from math import prod
from typing import Any

from fastml_kit.models import ModelRequest
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import dense, input_quantizer, relu, weight_options

HIDDEN = 3
#: Weights begin between plus and minus this, or 0.8 steps of their grid if that is more. Keras's
#: own default shrinks with the number of inputs: with 490 it lies within half a step of zero, and
#: the quantized network would begin with no weights at all. What is too much, the normalization
#: takes back; wider starts were tried, and learned the training data by heart.
FIRST_WEIGHTS = 0.2


def build(request: ModelRequest) -> Any:
    """Build inputs - width - width - width - classes. The input is the flattened sample."""
    layers = [keras.Input(shape=(prod(request.input_shape),), name="x"), input_quantizer(request)]
    for number in range(1, HIDDEN + 1):
        layers += [
            hidden(request, f"dense{number}"),
            normalization(request, f"norm{number}"),
            relu(request, f"relu{number}"),
        ]
    return keras.Sequential([*layers, dense(request, request.classes, "logits")], name="mlp_bn")


def hidden(request: ModelRequest, name: str) -> Any:
    """Return a dense layer without bias, which the normalization behind it has."""
    bits = request.weight_bits
    limit = max(FIRST_WEIGHTS, 0.8 * 2.0 ** (1 - bits)) if bits else FIRST_WEIGHTS
    spread = keras.initializers.RandomUniform(-limit, limit)
    options = {"use_bias": False, "kernel_initializer": spread, "name": name}
    if bits is None:
        return keras.layers.Dense(request.width, **options)
    from qkeras import QDense

    kernel = {"kernel_quantizer": weight_options(request)["kernel_quantizer"]}
    return QDense(request.width, **kernel, **options)


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
