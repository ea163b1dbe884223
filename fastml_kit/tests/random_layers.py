"""The layers of random models: each function here puts one drawn layer, or a few, on a model."""

from collections.abc import Callable
from typing import Any

from fastml_kit.models.keras2 import keras
from fastml_kit.tests.random_growing import Growing
from fastml_kit.tests.random_quantizers import (
    ACTIVATIONS,
    REFUSED_ACTIVATIONS,
    Kind,
    from_qkeras,
    pick,
)

layers = keras.layers


def activation(g: Growing) -> None:
    """Put a quantizer, as a layer of its own."""
    g.add(from_qkeras("QActivation")(g.activation()))


def _inline(g: Growing, options: dict[str, Any]) -> dict[str, Any]:
    """Now and then give a layer with weights its activation, too."""
    if g.maybe(0.15):
        options["activation"] = g.quantizer(ACTIVATIONS, REFUSED_ACTIVATIONS, 2 * g.top)
    elif g.maybe(0.03):
        options["activation"] = "relu"
    return options


def dense(g: Growing) -> None:
    """Put a QDense; on images it works on the channels."""
    g.add(from_qkeras("QDense")(g.random.randint(1 + g.maybe(0.9), 7), **_inline(
        g, {"kernel_quantizer": g.kernel(), **g.bias()})))  # fmt: skip


def _windows(g: Growing, *, causal: bool = False, stride: int = 2) -> dict[str, Any]:
    """Draw a window that fits in the image, and how it moves."""
    *image, _ = g.shape
    rank = len(image)
    size = [g.random.randint(1, min(3, n)) for n in image]
    choices = ["valid", "same", "causal"] if causal and rank == 1 else ["valid", "same"]
    step = g.random.randint(1, stride)
    options: dict[str, Any] = {"padding": g.random.choice(choices), "strides": (step,) * rank}
    if (
        step == 1
        and g.maybe(0.2)
        and all(2 * (k - 1) < n for k, n in zip(size, image, strict=True))
    ):
        options["dilation_rate"] = (2,) * rank
    return {"kernel_size": tuple(size), **options}


def conv(g: Growing) -> None:
    """Put a QConv1D or QConv2D."""
    rank, channels = len(g.shape) - 1, g.shape[-1]
    options = _windows(g, causal=True)
    if rank == 2 and "dilation_rate" not in options and g.maybe(0.3):
        options["strides"] = (g.random.randint(1, 2), g.random.randint(1, 3))
    groups = channels if channels > 1 and g.maybe(0.15) else 1
    if groups > 1:
        options["groups"] = groups
    filters = groups * g.random.randint(1, 4 if groups == 1 else 2)
    g.add(from_qkeras(f"QConv{rank}D")(filters, **_inline(
        g, {**options, "kernel_quantizer": g.kernel(), **g.bias()})))  # fmt: skip


def depthwise(g: Growing) -> None:
    """Put a QDepthwiseConv2D."""
    g.add(from_qkeras("QDepthwiseConv2D")(depth_multiplier=g.random.randint(1, 2), **_inline(
        g, {**_windows(g), "depthwise_quantizer": g.kernel(), **g.bias()})))  # fmt: skip


def separable(g: Growing) -> None:
    """Put a QSeparableConv1D or 2D."""
    rank = len(g.shape) - 1
    options = {
        **_windows(g),  # QKeras fails on causal ones
        "depth_multiplier": g.random.randint(1, 2),
        "depthwise_quantizer": g.kernel(),
        "pointwise_quantizer": g.kernel(),
        **g.bias(),
    }
    g.add(from_qkeras(f"QSeparableConv{rank}D")(g.random.randint(1, 4), **_inline(g, options)))


def transposed(g: Growing) -> None:
    """Put a QConv2DTranspose, once QKeras finds what it looks for in this TensorFlow."""
    import tensorflow as tf
    from tensorflow.python.ops import array_ops

    array_ops.stack = tf.stack
    options = _windows(g)
    options.pop("dilation_rate", None)
    height, width, _ = g.shape
    if not g.fits(height * 2 + 3, width * 2 + 3, 3):
        return
    g.add(from_qkeras("QConv2DTranspose")(g.random.randint(1, 3), **_inline(
        g, {**options, "kernel_quantizer": g.kernel(), **g.bias()})))  # fmt: skip


def folded(g: Growing) -> None:
    """Put a QConv2DBatchnorm or QDepthwiseConv2DBatchnorm, in either folding mode."""
    options = _windows(g)
    options.pop("dilation_rate", None)
    options |= {
        "folding_mode": g.random.choice(["ema_stats_folding", "batch_stats_folding"]),
        "epsilon": g.random.choice([1e-3, 1e-12]),
        **g.bias(),
    }
    options["bias_quantizer"] = from_qkeras("quantized_bits")(g.random.randint(4, 10), 3, alpha=1)
    if g.maybe(0.5):
        options["depthwise_quantizer"] = g.kernel()
        layer = from_qkeras("QDepthwiseConv2DBatchnorm")(**options)
    else:
        options["kernel_quantizer"] = g.kernel()
        layer = from_qkeras("QConv2DBatchnorm")(g.random.randint(1, 4), **options)
    g.add(layer)


def batch_norm(g: Growing) -> None:
    """Put a batch normalization: of powers of two, or of real numbers, which must be refused."""
    options: dict[str, Any] = {"epsilon": 1e-12}
    if g.refusals and g.maybe(0.15):
        g.note(Kind("batch normalization of real numbers", 1, dict, True))
        g.add(layers.BatchNormalization())
    elif g.maybe(0.5):
        g.add(layers.BatchNormalization(center=g.maybe(0.8), scale=g.maybe(0.8), **options))
    else:
        g.add(from_qkeras("QBatchNormalization")(**options))


def residual(g: Growing) -> None:
    """Add an earlier tensor of this shape; make one by a quantized branch if there is none."""
    same = [pair for pair in g.past if pair[0].shape == g.tensor.shape]
    if not same:
        before = g.tensor, g.values
        activation(g)
        same = [before]
    kind = g.random.choice([layers.Add, layers.Add, layers.Add, layers.Subtract, layers.Multiply])
    count = g.random.randint(1, min(2, len(same))) if kind is layers.Add else 1
    g.add(kind(), *g.random.sample(same, count))


def concatenate(g: Growing) -> None:
    """Join with an earlier tensor along the channels, or along another axis that allows it."""
    rank = len(g.shape)
    axis = g.random.choice([-1, -1, *range(1, rank + 1)]) % (rank + 1)

    def others(shape: Any) -> list[int]:
        return [n for place, n in enumerate(shape) if place not in (0, axis)]

    same = [p for p in g.past if len(p[0].shape) == rank + 1
            and others(p[0].shape) == others(g.tensor.shape)]  # fmt: skip
    if not same:
        return
    other = g.random.choice(same)
    if g.fits(*others(g.tensor.shape), g.tensor.shape[axis] + other[0].shape[axis]):
        g.add(layers.Concatenate(axis=axis), other)


def pooling(g: Growing) -> None:
    """Put a maximum or an average."""
    *image, _ = g.shape
    rank = len(image)
    name = g.random.choice(
        ["MaxPooling", "MaxPooling", "AveragePooling", "GlobalAveragePooling", "GlobalMaxPooling"]
        + ["QAveragePooling", "QGlobalAveragePooling"] * (rank == 2)
    )
    options: dict[str, Any] = {}
    if name.startswith("Q"):
        bits = from_qkeras("quantized_bits")(g.random.randint(3, 8), 0, alpha=1)
        options = {"average_quantizer": bits}
        if g.maybe(0.3):
            options["activation"] = g.activation()
    if "Global" in name:
        if not name.startswith("Q"):
            options["keepdims"] = g.maybe(0.3)
    else:
        size = tuple(g.random.randint(1, min(3, n)) for n in image)
        same = "Max" in name and g.maybe(0.4)
        options |= {"pool_size": size, "padding": "same" if same else "valid"}
        options["strides"] = g.random.choice([None, (1,) * rank, (2,) * rank])
        if rank == 1:
            options |= {"pool_size": size[0], "strides": g.random.choice([None, 1, 2])}
    module = from_qkeras if name.startswith("Q") else lambda kind: getattr(layers, kind)
    g.add(module(f"{name}{rank}D")(**options))


def shaping(g: Growing) -> None:
    """Put a layer that only moves elements."""
    *image, channels = g.shape
    rank, r = len(image), g.random
    if rank == 0:
        if channels % 4 == 0:
            target = r.choice([(channels // 2, 2), (2, channels // 2), (2, 2, channels // 4)])
            g.add(layers.Reshape(target))
        return
    kind = r.choice(["flatten", "permute", "reshape", "pad", "pad", "up"])
    if kind == "flatten":
        g.add(layers.Flatten())
    elif kind == "permute":
        g.add(layers.Permute(tuple(r.sample(range(1, rank + 2), rank + 1))))
    elif kind == "reshape":
        g.add(layers.Reshape((*image[::-1], channels) if rank == 2 else (channels, *image)))
    elif kind == "pad" and g.fits(*(n + 3 for n in image), channels):
        pads = tuple((r.randint(0, 1), r.randint(0, 2)) for _ in image)
        g.add(layers.ZeroPadding2D(pads) if rank == 2 else layers.ZeroPadding1D(pads[0]))
    elif kind == "up" and g.fits(*(2 * n for n in image), channels):
        g.add(layers.UpSampling2D((2, r.randint(1, 2))) if rank == 2 else layers.UpSampling1D(2))


def plain(g: Growing) -> None:
    """Put a layer of Keras itself: a ReLU, a leaky one, or one that does nothing here."""
    chosen = g.random.choice(["relu", "bounded", "leaky", "leaky", "dropout", "noise"])
    if chosen == "leaky" and g.refusals and g.maybe(0.2):
        g.note(Kind("LeakyReLU of slope 0.3", 1, dict, True))
        g.add(layers.LeakyReLU(0.3))
        return
    make: dict[str, Callable[[], Any]] = {
        "relu": lambda: g.random.choice([layers.ReLU, lambda: layers.Activation("relu")])(),
        "bounded": lambda: layers.ReLU(max_value=g.random.choice([1.0, 6.0, 0.5])),
        "leaky": lambda: layers.LeakyReLU(g.random.choice([0.25, 0.125, 0.5])),
        "dropout": lambda: layers.Dropout(0.5),
        "noise": lambda: layers.GaussianNoise(1.0),
    }
    g.add(make[chosen]())


def twice(g: Growing) -> None:
    """Use one QDense layer twice, with a quantizer between."""
    width = g.shape[-1]
    layer = from_qkeras("QDense")(width, kernel_quantizer=g.kernel(), **g.bias())
    g.add(layer)
    activation(g)
    tensor, values = g.tensor, g.values
    g.past.append((tensor, values))
    g.tensor, g.values = layer(tensor), layer(values)
    g.kinds["a layer used twice"] += 1


def nested(g: Growing) -> None:
    """Put a small model as a layer."""
    inside = [
        from_qkeras("QDense")(g.random.randint(1, 6), kernel_quantizer=g.kernel(), **g.bias())
    ]
    if g.maybe(0.5):
        inside.append(
            from_qkeras("QActivation")(g.quantizer(ACTIVATIONS, REFUSED_ACTIVATIONS, 2 * g.top))
        )
    g.add(keras.Sequential([keras.Input(shape=g.shape), *inside]))
    g.kinds["a model in a model"] += 1


VECTOR = [
    Kind("dense", 10, dense),
    Kind("residual", 4, residual),
    Kind("concatenate", 3, concatenate),
    Kind("batch normalization", 2, batch_norm),
    Kind("plain", 1, plain),
    Kind("shaping", 2, shaping),
    Kind("twice", 1, twice),
    Kind("nested", 1, nested),
]
SEQUENCE = [
    *(kind for kind in VECTOR if kind.name not in ("dense", "shaping")),
    Kind("dense", 2, dense),
    Kind("conv", 8, conv),
    Kind("separable", 3, separable),
    Kind("pooling", 5, pooling),
    Kind("shaping", 4, shaping),
]
IMAGE = [
    *SEQUENCE,
    Kind("depthwise", 3, depthwise),
    Kind("transposed", 2, transposed),
    Kind("folded", 4, folded),
]


def put_stage(g: Growing) -> None:
    """Put one stage: a layer, and mostly a quantizer behind it."""
    pick(g.random, (VECTOR, SEQUENCE, IMAGE)[len(g.shape) - 1]).make(g)
    if g.maybe(0.8):
        activation(g)
