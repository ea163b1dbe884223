"""AD08: the autoencoder of the hls4ml submission to MLPerf Tiny's anomaly detection.

64-72-72-8-72-72-64 (Borras et al., arXiv:2206.11791); `width` is 72, and the narrowest layer has
width/9 units. It learns its input from its input, so that `classes` is the number of inputs; how
far it is off is what tells an anomaly.

Inputs are whole decibels there, activations six bits without any below the point, and weights
twelve bits. Here, too, activations have a quarter of the input's range, whatever its format is; the
normalizations begin with a factor that makes use of it.
"""

from math import prod
from typing import Any

from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.models import ModelRequest
from fastml_kit.models.folding import dense_norm
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import ACT_INTEGER_BITS, dense, input_quantizer, relu

#: Integer bits of the weights: what leaves the narrow layer is spread out by some above 1.
WEIGHT_INTEGER = 1


def build(request: ModelRequest) -> Any:
    """Build inputs - width - width - width/9 - width - width - inputs, all dense."""
    wide, narrow = request.width, max(1, request.width // 9)
    integer = max(ACT_INTEGER_BITS, request.input_spec.integer - 2)
    layers = [keras.Input(shape=(prod(request.input_shape),), name="x"), input_quantizer(request)]
    for number, units in enumerate((wide, wide, narrow, wide, wide), start=1):
        layers += dense_norm(
            request, units, f"dense{number}", integer=WEIGHT_INTEGER, act_integer=integer
        )
        layers.append(relu(request, f"relu{number}", integer=integer))
    spread = request.input_spec.integer
    layers.append(
        dense(
            request,
            request.classes,
            "reconstruction",
            integer=WEIGHT_INTEGER,
            bias=FixedSpec(width=8, integer=spread),
        )
    )
    return keras.Sequential(layers, name="ad08")
