"""CNV: FINN's convolutional network, as the FINN submission to MLPerf Tiny had it with one bit.

Six 3x3 convolutions without padding, width, width, pool, 2 width, 2 width, pool, 4 width, 4 width,
and dense layers of 8 width, 8 width and the classes, a normalization behind each but the last
(Umuroglu et al., arXiv:1612.07119; Borras et al., arXiv:2206.11791). `width` is 64 there. One bit
stands for weights and activations of -1 and +1; their inputs have eight bits.

``cnv_strided`` has no pools: the convolutions before them take strides of two. Its circuits are
smaller, and need no maxima, which not every way into hardware has.
"""

from typing import Any

from fastml_kit.errors import BadRequest
from fastml_kit.models import ModelRequest
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import dense, input_quantizer, normalization, relu, unbiased


def build(request: ModelRequest) -> Any:
    """Build the network with max-pools, for images of 32 pixels a side or more."""
    return network(request, "cnv", pooled=True)


def network(request: ModelRequest, name: str, *, pooled: bool) -> Any:
    """Build the network, with max-pools or with strides in their place.

    Raises:
        BadRequest: the image is too small for six convolutions.
    """
    side = min(request.input_shape[:2])
    if side < 32:
        raise BadRequest(
            f"{name} takes images of at least 32 pixels a side, not {side}; cnn takes smaller ones"
        )
    layers = [keras.Input(shape=request.input_shape, name="x"), input_quantizer(request)]

    def hidden(layer: Any, number: int) -> list[Any]:
        return [
            layer,
            normalization(request, f"norm{number}"),
            relu(request, f"relu{number}"),
        ]

    for number in range(1, 7):
        ends_stage = number in (2, 4)
        strides = 2 if ends_stage and not pooled else 1
        filters = request.width * 2 ** ((number - 1) // 2)
        layer = unbiased(request, filters, f"conv{number}", size=3, strides=strides)
        layers += hidden(layer, number)
        if ends_stage and pooled:
            layers.append(keras.layers.MaxPooling2D(2, name=f"pool{number // 2}"))
    layers.append(keras.layers.Flatten(name="flatten"))
    for number in (7, 8):
        layers += hidden(unbiased(request, 8 * request.width, f"dense{number - 6}"), number)
    return keras.Sequential([*layers, dense(request, request.classes, "logits")], name=name)
