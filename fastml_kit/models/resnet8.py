"""ResNet8: MLPerf Tiny's reference network for image classification, with its three skips.

A 3x3 convolution with `width` filters, three blocks of two with width, 2 width and 4 width, the
later two beginning with a stride of two and a 1x1 convolution beside them, the mean over the
image, and a dense layer; `width` is 16 (Banbury et al., arXiv:2106.07597; He et al.,
arXiv:1512.03385). Normalizations are the float twin's, folded in the quantized network.

Before each sum both sides are put on one grid of two bits more than an activation has: a circuit
adds integers of one scale.
"""

from typing import Any

from fastml_kit.models import ModelRequest
from fastml_kit.models.folding import conv_norm
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import ACT_INTEGER_BITS, dense, input_quantizer, relu


def build(request: ModelRequest) -> Any:
    """Build the network; images must have sides that two strides of two divide."""

    def through(tensor: Any, *layers: Any) -> Any:
        for layer in layers:
            tensor = layer(tensor)
        return tensor

    def convolution(tensor: Any, filters: int, size: int, name: str, **options: Any) -> Any:
        return through(tensor, *conv_norm(request, filters, size, name, **options))

    inputs = keras.Input(shape=request.input_shape, name="x")
    tensor = convolution(input_quantizer(request)(inputs), request.width, 3, "conv0", integer=1)
    tensor = relu(request, "relu0")(tensor)
    for block in (1, 2, 3):
        filters, stride = request.width * 2 ** (block - 1), 1 if block == 1 else 2
        side, name = tensor, f"block{block}"
        tensor = convolution(tensor, filters, 3, f"{name}_conv1", stride=stride)
        tensor = relu(request, f"{name}_relu1")(tensor)
        tensor = convolution(tensor, filters, 3, f"{name}_conv2")
        if stride > 1:
            side = convolution(side, filters, 1, f"{name}_side", stride=stride)
        sides = [
            summand(request, f"{name}_{which}")(term)
            for which, term in (("main_grid", tensor), ("side_grid", side))
        ]
        tensor = relu(request, f"{name}_relu2")(keras.layers.Add(name=f"{name}_add")(sides))
    tensor = keras.layers.GlobalAveragePooling2D(name="mean")(tensor)
    tensor = relu(request, "mean_grid")(tensor)
    return keras.Model(inputs, dense(request, request.classes, "logits")(tensor), name="resnet8")


def summand(request: ModelRequest, name: str) -> Any:
    """Return what puts a summand on its grid, that of the activations but with a sign."""
    if request.act_bits is None:
        return keras.layers.Activation("linear", name=name)
    from qkeras import QActivation, quantized_bits

    bits, integer = request.act_bits + 2, ACT_INTEGER_BITS + 1  # a sign and twice the range
    return QActivation(quantized_bits(bits, integer, alpha=1), name=name)
