"""QKeras to QONNX, layer by layer: what the file says is exactly what the model computes.

The model is walked and Quant nodes are written; nothing is traced through TensorFlow. What has
no exact form is refused by name. Images become channel first (NCHW), as ONNX has them, and the
rows of the dense layer behind a Flatten are reordered to match.

QONNX: Pappalardo et al., arXiv:2206.07527.
"""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph.writer import Writer


def quantizer_spec(quantizer: Any, where: str) -> FixedSpec:
    """Return the format of a QKeras quantizer whose grid is uniform and a power of two.

    Raises:
        UnsupportedModel: the quantizer has no exact form; names what to use instead.
    """
    kind = type(quantizer).__name__
    if kind == "quantized_bits":
        config = quantizer.get_config()
        if config["alpha"] not in (1, 1.0, None) or config["use_stochastic_rounding"]:
            raise UnsupportedModel(
                f"{where} uses quantized_bits with alpha={config['alpha']!r}; use alpha=1 and no "
                "stochastic rounding"
            )
        _refuse_noise(config, where)
        signed = bool(config["keep_negative"])
        if config["bits"] - signed < 1:
            raise UnsupportedModel(
                f"{where} has one bit, which QKeras makes binary; use two or more"
            )
        narrow = bool(config["symmetric"]) and signed
        return FixedSpec(config["bits"], config["integer"] + signed, signed, narrow)
    if kind == "quantized_relu":
        config = quantizer.get_config()
        odd = {"use_sigmoid", "negative_slope", "use_stochastic_rounding", "relu_upper_bound"}
        if used := sorted(name for name in odd if config.get(name)):
            raise UnsupportedModel(f"{where} uses quantized_relu with {used}; use the plain form")
        _refuse_noise(config, where)
        return FixedSpec(config["bits"], config["integer"], signed=False)
    raise UnsupportedModel(
        f"{where} uses {kind}; supported quantizers: quantized_bits(alpha=1), quantized_relu"
    )


def _refuse_noise(config: dict[str, Any], where: str) -> None:
    """Refuse a quantizer that is only partly switched on, as during some training schedules."""
    if config.get("qnoise_factor", 1.0) != 1.0:
        raise UnsupportedModel(
            f"{where} has qnoise_factor={config['qnoise_factor']}; set it to 1 before you export"
        )


def _refuse_channels_first(layer: Any) -> None:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise UnsupportedModel(f"{layer.name}: data_format 'channels_last' is supported")


def _weights(layer: Any, index: int) -> tuple[NDArray[Any], FixedSpec]:
    """Return quantized values and format of a layer's kernel (0) or bias (1)."""
    name = ("kernel", "bias")[index]
    quantizer = layer.get_quantizers()[index]
    if quantizer is None:
        raise UnsupportedModel(f"{layer.name}: the {name} is not quantized; give {name}_quantizer")
    spec = quantizer_spec(quantizer, f"{layer.name}'s {name}")
    values = np.asarray(quantizer(layer.get_weights()[index]), dtype=np.float64)
    # QKeras' straight-through sums may leave a value an ulp beside its grid point.
    codes = spec.to_codes(values)
    if np.abs(values - spec.to_values(codes)).max(initial=0) > 1e-6 * spec.step:
        raise UnsupportedModel(f"{layer.name}: quantized {name} values are not codes of {spec}")
    return spec.to_values(codes), spec


def _activation_of(layer: Any) -> None:
    activation = getattr(layer, "activation", None)
    if activation is not None and getattr(activation, "__name__", "") != "linear":
        raise UnsupportedModel(
            f"{layer.name} has an activation of its own; put a QActivation layer behind it"
        )


def _dense(layer: Any, out: Writer) -> None:
    _activation_of(layer)
    if len(out.shape) != 1:
        raise UnsupportedModel(f"{layer.name} reads an image; put a Flatten layer before it")
    kernel, spec = _weights(layer, 0)
    if out.flattened is not None:
        c, h, w = out.flattened
        # Keras flattened (h, w, c); the rows go to channel-first order.
        kernel = kernel.reshape(h, w, c, -1).transpose(2, 0, 1, 3).reshape(c * h * w, -1)
        out.flattened = None
    weight = out.weight(f"{layer.name}_kernel", kernel, spec)
    out.node("MatMul", layer.name, weight, shape=(kernel.shape[1],))
    if layer.use_bias:
        bias, spec = _weights(layer, 1)
        out.node("Add", f"{layer.name}_add", out.weight(f"{layer.name}_bias", bias, spec))


def _conv2d(layer: Any, out: Writer) -> None:
    _activation_of(layer)
    if layer.padding != "valid" or set(layer.dilation_rate) != {1} or layer.groups != 1:
        raise UnsupportedModel(
            f"{layer.name}: padding 'valid', dilation 1 and one group are supported"
        )
    kernel, spec = _weights(layer, 0)
    parameters = [out.weight(f"{layer.name}_kernel", kernel.transpose(3, 2, 0, 1), spec)]
    if layer.use_bias:
        bias, spec = _weights(layer, 1)
        parameters.append(out.weight(f"{layer.name}_bias", bias, spec))
    out.node(
        "Conv",
        layer.name,
        *parameters,
        shape=_image_shape(layer),
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.strides),
        pads=[0, 0, 0, 0],
        dilations=[1, 1],
        group=1,
    )


def _max_pool(layer: Any, out: Writer) -> None:
    if layer.padding != "valid":
        raise UnsupportedModel(f"{layer.name}: padding 'valid' is supported")
    out.node(
        "MaxPool",
        layer.name,
        shape=_image_shape(layer),
        kernel_shape=list(layer.pool_size),
        strides=list(layer.strides),
        pads=[0, 0, 0, 0],
    )


def _image_shape(layer: Any) -> tuple[int, ...]:
    """Return the layer's output shape as the graph has it, channel first."""
    _, h, w, c = layer.output_shape
    return c, h, w


def _flatten(layer: Any, out: Writer) -> None:
    if len(out.shape) == 3:
        out.flattened = out.shape
    out.node("Flatten", layer.name, shape=(prod(out.shape),), axis=1)


def _activation(layer: Any, out: Writer) -> None:
    quantizer = layer.quantizer
    if quantizer is None:
        raise UnsupportedModel(f"{layer.name} is an activation without a quantizer")
    spec = quantizer_spec(quantizer, layer.name)
    if type(quantizer).__name__ == "quantized_relu":
        out.node("Relu", f"{layer.name}_relu")
    out.quantize(layer.name, spec)


def _nothing(layer: Any, out: Writer) -> None:
    """Write nothing: the layer changes no value when the model predicts."""


LAYERS: dict[str, Callable[[Any, Writer], None]] = {
    "Dropout": _nothing,
    "Flatten": _flatten,
    "InputLayer": _nothing,
    "MaxPooling2D": _max_pool,
    "QActivation": _activation,
    "QConv2D": _conv2d,
    "QDense": _dense,
}


def export_qonnx(model: Any, path: Path) -> Path:
    """Write the QKeras `model`, a chain of layers, as a QONNX file and return its path.

    Raises:
        UnsupportedModel: a layer or quantizer has no exact QONNX form, by name.
    """
    if not model.built:
        raise UnsupportedModel("the model has no input shape yet; give it a keras.Input layer")
    _refuse_branches(model)
    shape = tuple(model.input_shape[1:])
    if None in shape or len(shape) not in (1, 3):
        raise UnsupportedModel(f"the input shape is {shape}; (n,) or (height, width, channels)")
    out = Writer(shape=(shape[-1], *shape[:-1]))
    for layer in model.layers:
        kind = type(layer).__name__
        if kind not in LAYERS:
            raise UnsupportedModel(
                f"layer {layer.name!r} is a {kind}; supported: {', '.join(sorted(LAYERS))}"
            )
        _refuse_channels_first(layer)
        LAYERS[kind](layer, out)
    if out.flattened is not None:
        raise UnsupportedModel("the model ends in Flatten; end it with a QDense")
    return out.save(path, model.name)


def _refuse_branches(model: Any) -> None:
    """Refuse a model whose layers are no chain: walking them in order would change its meaning."""
    tensor = model.input
    for layer in model.layers:
        if type(layer).__name__ == "InputLayer":
            continue
        # A layer that is used twice has no single `input`.
        if getattr(layer, "input", None) is not tensor:
            raise UnsupportedModel(
                f"layer {layer.name!r} does not read the layer before it (and nothing else); "
                "only a chain of layers is supported"
            )
        tensor = layer.output
    if model.output is not tensor:
        raise UnsupportedModel("the last layer is not the model's only output")


def channel_first(x: NDArray[Any]) -> NDArray[Any]:
    """Return samples in the graph's order: (n, h, w, c) becomes (n, c, h, w), (n, k) stays."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x
