"""RN07: the convolutional network of the hls4ml submission to MLPerf Tiny's image classification.

Five convolutions with 'same' padding, no skips and no pooling: 32 1x1, 4 4x4, 32 4x4, 32 4x4 with
stride 4, 32 4x4, then a dense layer (Borras et al., arXiv:2206.11791). `width` is the number of
filters of the wide ones: 32 makes the published network, whose narrow one has width/8.

The published network folds its batch normalizations on each step; here the float twin has them,
and the quantized network begins from the twin with them folded in (QAT from float).
"""

from typing import Any

from fastml_kit.models import ModelRequest
from fastml_kit.models.folding import conv_norm
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import dense, input_quantizer, relu

#: Kernel size and stride of each convolution, and whether it is a narrow one.
CONVOLUTIONS = ((1, 1, False), (4, 1, True), (4, 1, False), (4, 4, False), (4, 1, False))


def build(request: ModelRequest) -> Any:
    """Build five convolutions, flatten, dense; inputs (height, width, channels)."""
    layers = [keras.Input(shape=request.input_shape, name="x"), input_quantizer(request)]
    for number, (size, stride, narrow) in enumerate(CONVOLUTIONS, start=1):
        filters = max(1, request.width // 8) if narrow else request.width
        # Weights on pixels, which stand for [0, 1), are larger than those on activations.
        integer = 2 if number == 1 else 0
        layers += conv_norm(request, filters, size, f"conv{number}", stride=stride, integer=integer)
        layers.append(relu(request, f"relu{number}"))
    layers += [keras.layers.Flatten(name="flatten"), dense(request, request.classes, "logits")]
    return keras.Sequential(layers, name="rn07")
