"""Which layer is written by which function: the table that the walk looks into."""

from collections.abc import Callable

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.export.linear import conv, dense, depthwise, separable, transposed
from fastml_kit.graph.export.normalization import batch_norm, folded_conv
from fastml_kit.graph.export.pooling import average_pool, global_pool, max_pool
from fastml_kit.graph.export.quantizers import apply
from fastml_kit.graph.export.shaping import (
    concatenate,
    flatten,
    merge,
    nothing,
    permute,
    reshape,
    up_sampling,
    zero_padding,
)
from fastml_kit.graph.export.site import Site, Value, fraction_bits


def activation(site: Site, value: Value) -> Value:
    """Write a QActivation or Activation layer."""
    layer = site.layer
    function = getattr(layer, "quantizer", None) or getattr(layer, "activation", None)
    if function is None or isinstance(function, str):
        raise UnsupportedModel(f"{layer.name} is an activation without a quantizer")
    return apply(site, value, function)


def softmax(site: Site, value: Value) -> Value:
    """Leave a Softmax layer at the model's end to the host."""
    if not site.last:
        raise UnsupportedModel(
            f"{site.layer.name} is a softmax inside the model; only as the last layer can the "
            "host compute it"
        )
    site.notes.host.append(f"{site.layer.name}: softmax")
    return value


def relu(site: Site, value: Value) -> Value:
    """Write a ReLU or LeakyReLU layer, whose slope and bound must be short binary fractions."""
    layer = site.layer
    slope = float(layer.alpha if hasattr(layer, "alpha") else layer.negative_slope)
    bound = getattr(layer, "max_value", None)
    if float(getattr(layer, "threshold", 0.0)):
        raise UnsupportedModel(f"{layer.name} has threshold={layer.threshold}; 0 is supported")
    for name, number in (("slope", slope), ("max_value", bound or 0.0)):
        if fraction_bits(np.array([float(np.float32(number))])) > 12:
            site.inexact(
                f"{layer.name} has the {name} {number:g}, which is no short binary fraction; "
                "use one such as 0.25"
            )
    if slope:
        tensor = site.node("LeakyRelu", value, part="slope" if bound else "", alpha=slope)
    else:
        tensor = site.node("Relu", value, part="relu" if bound else "")
    if bound:
        low = site.constant("low", np.finfo(np.float32).min if slope else 0.0)
        tensor = site.node("Clip", tensor, low, site.constant("high", bound))
    return Value(tensor, value.shape, value.parts)


#: Layers with a kernel that a batch normalization behind them can be folded into.
WITH_WEIGHTS: dict[str, Callable[..., Value]] = {
    "QConv1D": conv,
    "QConv2D": conv,
    "QConv2DTranspose": transposed,
    "QDense": dense,
    "QDepthwiseConv2D": depthwise,
    "QSeparableConv1D": separable,
    "QSeparableConv2D": separable,
}

LAYERS: dict[str, Callable[..., Value]] = {
    **WITH_WEIGHTS,
    "Activation": activation,
    "ActivityRegularization": nothing,
    "Add": merge("Add"),
    "AlphaDropout": nothing,
    "AveragePooling1D": average_pool,
    "AveragePooling2D": average_pool,
    "BatchNormalization": batch_norm,
    "Concatenate": concatenate,
    "Dropout": nothing,
    "Flatten": flatten,
    "GaussianDropout": nothing,
    "GaussianNoise": nothing,
    "GlobalAveragePooling1D": global_pool,
    "GlobalAveragePooling2D": global_pool,
    "GlobalMaxPooling1D": global_pool,
    "GlobalMaxPooling2D": global_pool,
    "InputLayer": nothing,
    "LeakyReLU": relu,
    "MaxPooling1D": max_pool,
    "MaxPooling2D": max_pool,
    "Multiply": merge("Mul"),
    "Permute": permute,
    "QActivation": activation,
    "QAveragePooling2D": average_pool,
    "QBatchNormalization": batch_norm,
    "QConv2DBatchnorm": folded_conv,
    "QDepthwiseConv2DBatchnorm": folded_conv,
    "QGlobalAveragePooling2D": global_pool,
    "ReLU": relu,
    "Reshape": reshape,
    "Softmax": softmax,
    "SpatialDropout1D": nothing,
    "SpatialDropout2D": nothing,
    "Subtract": merge("Sub"),
    "UpSampling1D": up_sampling,
    "UpSampling2D": up_sampling,
    "ZeroPadding1D": zero_padding,
    "ZeroPadding2D": zero_padding,
}
