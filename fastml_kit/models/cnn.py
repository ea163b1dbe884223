"""The small CNN: two convolutions with a max-pool between them, and a dense layer.

Its size is chosen for a circuit that computes every position at once: on 8x8 digits and width 24
it has 6 and 8 filters and 3,032 multiplications, 1.7 times the MLP of the same width.
"""

from typing import Any

from fastml_kit.models import ModelRequest
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import conv, dense, input_quantizer, relu


def build(request: ModelRequest) -> Any:
    """Build conv 3x3 (width/4 filters), max-pool 2x2, conv 2x2 (width/3 filters), dense."""
    return keras.Sequential(
        [
            keras.Input(shape=request.input_shape, name="x"),
            input_quantizer(request),
            conv(request, max(1, request.width // 4), 3, "conv1"),
            relu(request, "relu1"),
            keras.layers.MaxPooling2D(2, name="pool1"),
            conv(request, max(1, request.width // 3), 2, "conv2"),
            relu(request, "relu2"),
            keras.layers.Flatten(name="flatten"),
            dense(request, request.classes, "logits"),
        ],
        name="cnn",
    )
