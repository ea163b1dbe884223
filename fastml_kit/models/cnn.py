"""The small CNN: two convolutions with a max-pool between them, and a dense layer.

Its size is chosen for a circuit that computes every position at once: on 8x8 digits and width 24
it has 6 and 8 filters and 3,032 multiplications, 1.7 times the MLP of the same width.
``cnn_strided`` takes steps of two in the place of the max-pool, which not every way into hardware
has; it has 1,574 multiplications.
"""

from typing import Any

from fastml_kit.models import ModelRequest
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import conv, dense, input_quantizer, relu


def build(request: ModelRequest) -> Any:
    """Build conv 3x3 (width/4 filters), max-pool 2x2, conv 2x2 (width/3 filters), dense."""
    return network(request, "cnn", pooled=True)


def network(request: ModelRequest, name: str, *, pooled: bool) -> Any:
    """Build the network, with a max-pool or with a stride of two in its place."""
    narrow, wide = max(1, request.width // 4), max(1, request.width // 3)
    layers = [
        keras.Input(shape=request.input_shape, name="x"),
        input_quantizer(request),
        conv(request, narrow, 3, "conv1", strides=1 if pooled else 2),
        relu(request, "relu1"),
    ]
    if pooled:
        layers.append(keras.layers.MaxPooling2D(2, name="pool1"))
    layers += [
        conv(request, wide, 2, "conv2"),
        relu(request, "relu2"),
        keras.layers.Flatten(name="flatten"),
        dense(request, request.classes, "logits"),
    ]
    return keras.Sequential(layers, name=name)
