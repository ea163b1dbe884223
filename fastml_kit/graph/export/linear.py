"""Dense layers and convolutions: kernels in the graph's layout, padding written out.

A dense layer on an image or a sequence works on its last axis, the channels: in the graph it is
a convolution with a kernel of one.
"""

from typing import Any

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.export.constants import Constants, quantized, smallest_grid
from fastml_kit.graph.export.quantizers import activate
from fastml_kit.graph.export.site import Array, Shape, Site, Value, channel_first_shape


def dense(site: Site, value: Value) -> Value:
    """Write a QDense layer."""
    kernel, bias = parameters(site, "kernel")
    if len(value.shape) > 1:
        rank = len(value.shape) - 1
        kernel = kernel.map(lambda w: w.T.reshape(*w.T.shape, *(1,) * rank))
        return activate(site, convolution(site, value, kernel, bias))
    order = value.order()  # a flattened image is channel first here: rows move with it
    kernel = kernel.map(lambda w: w[order])
    out = site.node("MatMul", value, kernel.write(site, "kernel"), shape=site.shape)
    if bias is not None:
        out = site.node("Add", out, bias.write(site, "bias"), part="add")
    return activate(site, Value(out, site.shape))


def conv(site: Site, value: Value) -> Value:
    """Write a QConv1D or QConv2D layer; its kernel is (*spatial, in, out) in Keras."""
    kernel, bias = parameters(site, "kernel")
    rank = len(value.shape) - 1
    kernel = kernel.map(lambda w: w.transpose(rank + 1, rank, *range(rank)))
    groups = int(site.layer.groups)
    return activate(site, convolution(site, value, kernel, bias, group=groups))


def depthwise(site: Site, value: Value) -> Value:
    """Write a QDepthwiseConv2D layer: one group a channel."""
    kernel, bias = parameters(site, "depthwise")
    group = value.shape[-1]
    return activate(site, convolution(site, value, kernel.map(by_channel), bias, group=group))


def separable(site: Site, value: Value) -> Value:
    """Write a QSeparableConv1D or 2D layer: a depthwise convolution, then one of size one."""
    layer = site.layer
    by_depth, by_point, *rest = layer.get_weights()
    quantizers = layer.get_quantizers()
    if one_axis := by_depth.ndim == 3:  # QKeras quantizes them with an axis before the others
        by_depth, by_point = by_depth[None], by_point[None]
    steps = [
        quantized(site, part, weights, quantizer)
        for part, weights, quantizer in zip(
            ("depthwise", "pointwise"), (by_depth, by_point), quantizers, strict=False
        )
    ]
    if one_axis:
        steps = [kernel.map(lambda w: w[0]) for kernel in steps]
    bias = quantized(site, "bias", rest[0], quantizers[2]) if rest else None
    steps[1], bias = _with_affine(site, steps[1], bias)
    point = steps[1].map(lambda w: np.moveaxis(w, (-1, -2), (0, 1)))
    middle = convolution(
        site, value, steps[0].map(by_channel), None, group=value.shape[-1], part="depthwise"
    )
    ones: dict[str, Any] = {"strides": 1, "padding": "valid", "dilation": 1}
    return activate(site, convolution(site, middle, point, bias, part="pointwise", **ones))


def transposed(site: Site, value: Value) -> Value:
    """Write a QConv2DTranspose layer; its kernel is (height, width, out, in) in Keras.

    TensorFlow makes it the gradient of a convolution over its output, and so does ONNX: the
    padding is the one that this convolution would have.
    """
    layer = site.layer
    if set(layer.dilation_rate) != {1}:
        raise UnsupportedModel(f"{layer.name}: a transposed convolution of dilation 1 is supported")
    kernel, bias = parameters(site, "kernel")
    kernel = kernel.map(lambda w: w.transpose(3, 2, 0, 1))
    spare = [
        (size - 1) * stride + length - out
        for size, stride, length, out in zip(
            value.shape, layer.strides, layer.kernel_size, site.shape, strict=False
        )
    ]
    before = [max(0, s) // 2 for s in spare]
    after = [max(0, s) - b for s, b in zip(spare, before, strict=True)]
    names = [kernel.write(site, "kernel")]
    if bias is not None:
        names.append(bias.write(site, "bias"))
    out = site.node(
        "ConvTranspose",
        value,
        *names,
        shape=channel_first_shape(site.shape),
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.strides),
        pads=before + after,
        output_padding=[max(0, -s) for s in spare],
        dilations=[1, 1],
        group=1,
    )
    return activate(site, Value(out, site.shape))


def parameters(site: Site, part: str) -> tuple[Constants, Constants | None]:
    """Return a layer's quantized kernel, called `part` in its quantizer's name, and bias."""
    layer = site.layer
    quantizers = layer.get_quantizers()
    weights = layer.get_weights()
    kernel = quantized(site, part, weights[0], quantizers[0])
    bias = quantized(site, "bias", weights[1], quantizers[-1]) if layer.use_bias else None
    return _with_affine(site, kernel, bias)


def _with_affine(
    site: Site, kernel: Constants, bias: Constants | None
) -> tuple[Constants, Constants | None]:
    """Fold the batch normalization behind the layer into its weights, if there is one."""
    if site.affine is None:
        return kernel, bias
    affine, name = site.affine, site.layer.name
    factor, moved = affine.factor, affine.offset
    if bias is not None:
        moved = moved + bias.values * factor
    site.notes.detours[site.name] = affine.detour(0.0 if bias is None else bias.values)
    channels = factor
    if type(site.layer).__name__.startswith("QDepthwise"):
        channels = factor.reshape(kernel.values.shape[2:])
    if type(site.layer).__name__ == "QConv2DTranspose":
        channels = factor[:, None]
    return (
        kernel.scaled(channels, f"{name}'s kernel times its batch normalization"),
        smallest_grid(moved, f"{name}'s bias with its batch normalization"),
    )


def by_channel(kernel: Array) -> Array:
    """Return a depthwise kernel (*spatial, in, multiplier) as (in * multiplier, 1, *spatial)."""
    *spatial, channels, multiplier = kernel.shape
    return np.moveaxis(kernel, (-2, -1), (0, 1)).reshape(channels * multiplier, 1, *spatial)


def convolution(
    site: Site,
    value: Value,
    kernel: Constants,
    bias: Constants | None,
    *,
    group: int = 1,
    part: str = "",
    strides: int | None = None,
    padding: str | None = None,
    dilation: int | None = None,
) -> Value:
    """Write a Conv with a kernel (out, in / group, *spatial).

    Strides, padding and dilation are the layer's, where it has them and they are not given.
    """
    layer = site.layer
    size = kernel.values.shape[2:]
    rank = len(size)

    def option(given: int | None, attribute: str) -> Shape:
        return tuple(getattr(layer, attribute, (1,) * rank)) if given is None else (given,) * rank

    steps, gaps = option(strides, "strides"), option(dilation, "dilation_rate")
    padding = padding or str(getattr(layer, "padding", "valid"))
    pads = window_pads(padding, value.shape[:-1], size, steps, gaps)
    shape = tuple(
        (n + before + after - gap * (k - 1) - 1) // step + 1
        for n, k, step, gap, before, after in zip(
            value.shape, size, steps, gaps, pads[:rank], pads[rank:], strict=False
        )
    )
    shape = (*shape, kernel.values.shape[0])
    names = [kernel.write(site, part or "kernel")]
    if bias is not None:
        names.append(bias.write(site, "bias"))
    out = site.node(
        "Conv",
        value,
        *names,
        part=f"{part}_conv" if part else "",
        shape=channel_first_shape(shape),
        kernel_shape=list(size),
        strides=list(steps),
        pads=list(pads),
        dilations=list(gaps),
        group=group,
    )
    return Value(out, shape)


def window_pads(padding: str, shape: Shape, size: Shape, strides: Shape, gaps: Shape) -> Shape:
    """Return the zeros before each axis and then behind each that Keras's `padding` means."""
    if padding == "valid":
        return (0,) * (2 * len(size))
    before, after = [], []
    for n, k, stride, gap in zip(shape, size, strides, gaps, strict=True):
        reach = (k - 1) * gap
        # 'same' splits what is missing, the odd one behind; 'causal' looks at the past only
        missing = reach if padding == "causal" else (-(-n // stride) - 1) * stride + reach + 1 - n
        missing = max(0, missing)
        before.append(missing if padding == "causal" else missing // 2)
        after.append(missing - before[-1])
    return (*before, *after)


def box(site: Site, value: Value, weight: float, size: Shape) -> Value:
    """Write a depthwise convolution that adds up windows of `size`, each element by `weight`."""
    channels = value.shape[-1]
    ones = np.full((channels, 1, *size), weight)
    kernel = smallest_grid(ones, f"{site.layer.name}'s factor")
    return convolution(site, value, kernel, None, group=channels, dilation=1)
