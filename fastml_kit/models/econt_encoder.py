"""ECON-T's encoder: what the ASIC of the CMS endcap calorimeter keeps of a sensor's 48 cells.

A 3x3 convolution with 8 filters and stride 2 on the 8x8 image, and a dense layer with 16 outputs
behind a ReLU (Di Guglielmo et al., arXiv:2105.01683). On the detector only this half computes; the
decoder stays on the host, see `host_part`. `width` is the number of filters; twice that many
numbers are sent.
"""

from math import prod
from typing import Any

from fastml_kit.errors import BadRequest
from fastml_kit.models import ModelRequest
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import conv, dense, input_quantizer, relu


def build(request: ModelRequest) -> Any:
    """Build the encoder; its outputs are codes of `act_bits` bits, not logits."""
    return keras.Sequential(
        [
            keras.Input(shape=request.input_shape, name="x"),
            input_quantizer(request),
            conv(request, request.width, 3, "conv1", strides=2, padding="same"),
            relu(request, "relu1"),
            keras.layers.Flatten(name="flatten"),
            dense(request, latent(request), "dense1"),
            relu(request, "code"),
        ],
        name="econt_encoder",
    )


def latent(request: ModelRequest) -> int:
    """Return how many numbers the encoder sends."""
    return 2 * request.width


def host_part(request: ModelRequest) -> Any:
    """Build the decoder, in floating point: the encoder backwards, ending in a sigmoid.

    Its outputs are the `classes` pixels of the image, flattened, each a share of the charge.
    """
    height, width, _ = request.input_shape
    if height % 2 or width % 2 or prod(request.input_shape) != request.classes:
        raise BadRequest(
            f"ECON-T's decoder makes an image of even sides back from its code; inputs of shape "
            f"{request.input_shape} and {request.classes} outputs are none"
        )
    image = (height // 2, width // 2, request.width)
    return keras.Sequential(
        [
            keras.Input(shape=(latent(request),), name="code"),
            keras.layers.Dense(prod(image), activation="relu", name="spread"),
            keras.layers.Reshape(image, name="image"),
            keras.layers.Conv2DTranspose(
                request.width, 3, strides=2, padding="same", activation="relu", name="widen"
            ),
            keras.layers.Conv2DTranspose(
                request.input_shape[-1], 3, padding="same", activation="sigmoid", name="paint"
            ),
            keras.layers.Flatten(name="pixels"),
        ],
        name="econt_decoder",
    )
