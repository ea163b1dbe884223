"""Every layer that is exported: Keras, qonnx's executor and the reference engine agree exactly."""

import numpy as np
import pytest

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import export
from fastml_kit.models.keras2 import keras
from fastml_kit.tests.kerasmodels import (
    activation,
    agree,
    bits,
    chain,
    functional,
    layer,
    qkeras,
    randomized,
)

LAYERS = keras.layers


def relu(width=4, integer=1, **options):
    return qkeras.quantized_relu(width, integer, **options)


#: By what is tried: the input's shape and the layers behind its quantizer.
CHAINS = {
    "dense": lambda: ((6,), layer("QDense", 5), activation(relu()), layer("QDense", 3)),
    "inline activations": lambda: (
        (6,),
        layer("QDense", 5, activation=relu()),
        layer("QDense", 3, activation="relu"),
    ),
    "dense on an image": lambda: ((4, 5, 3), layer("QDense", 2)),
    "dense on a sequence": lambda: ((4, 3), layer("QDense", 2)),
    "conv": lambda: ((7, 6, 3), layer("QConv2D", 4, 3, strides=2)),
    "conv same": lambda: ((7, 6, 3), layer("QConv2D", 4, (3, 2), padding="same", strides=(2, 3))),
    "conv dilated": lambda: ((8, 8, 2), layer("QConv2D", 4, 3, padding="same", dilation_rate=2)),
    "conv in groups": lambda: ((6, 6, 4), layer("QConv2D", 4, 3, groups=2, use_bias=False)),
    "conv, flatten, dense": lambda: (
        (6, 6, 2),
        layer("QConv2D", 3, 3),
        activation(relu()),
        LAYERS.Flatten(),
        layer("QDense", 3),
    ),
    "conv1d": lambda: ((9, 2), layer("QConv1D", 4, 3, strides=2)),
    "conv1d causal": lambda: ((9, 2), layer("QConv1D", 4, 3, padding="causal", dilation_rate=2)),
    "conv1d, flatten, dense": lambda: (
        (9, 2),
        layer("QConv1D", 4, 3, padding="same"),
        activation(relu()),
        LAYERS.Flatten(),
        layer("QDense", 3),
    ),
    "depthwise": lambda: (
        (6, 7, 3),
        layer("QDepthwiseConv2D", 3, depth_multiplier=2, padding="same", strides=2),
    ),
    "depthwise dilated": lambda: ((6, 7, 3), layer("QDepthwiseConv2D", 3, dilation_rate=2)),
    "separable": lambda: (
        (6, 7, 3),
        layer("QSeparableConv2D", 5, 3, depth_multiplier=2, padding="same"),
    ),
    "separable, stride": lambda: ((6, 7, 3), layer("QSeparableConv2D", 5, 3, strides=2)),
    "separable 1d": lambda: ((9, 3), layer("QSeparableConv1D", 5, 3, padding="same")),
    "max pool": lambda: ((5, 6, 3), LAYERS.MaxPooling2D(2)),
    "max pool same": lambda: ((5, 6, 3), LAYERS.MaxPooling2D(3, strides=2, padding="same")),
    "max pool 1d": lambda: ((7, 3), LAYERS.MaxPooling1D(2)),
    "global max": lambda: ((5, 6, 3), LAYERS.GlobalMaxPooling2D(keepdims=True)),
    "global max 1d": lambda: ((4, 3), LAYERS.GlobalMaxPooling1D()),
    "average of 4": lambda: ((5, 6, 3), LAYERS.AveragePooling2D(2)),
    "average of 8, overlapping": lambda: ((5, 6, 3), LAYERS.AveragePooling2D((4, 2), strides=1)),
    "average 1d": lambda: ((6, 3), LAYERS.AveragePooling1D(2)),
    "average of 9": lambda: ((6, 6, 3), LAYERS.AveragePooling2D(3), activation(bits(5, 1))),
    "average of 6, ReLU": lambda: ((6, 6, 3), LAYERS.AveragePooling2D((3, 2)), activation(relu())),
    "global average of 49": lambda: (
        (7, 7, 2),
        LAYERS.GlobalAveragePooling2D(),
        activation(bits(7, 0)),
        layer("QDense", 3),
    ),
    "global average 1d": lambda: ((5, 3), LAYERS.GlobalAveragePooling1D(), activation(bits(5, 1))),
    "up-sampling": lambda: ((3, 4, 2), LAYERS.UpSampling2D((2, 3))),
    "up-sampling 1d": lambda: ((3, 4), LAYERS.UpSampling1D(2)),
    "zero padding": lambda: ((3, 4, 2), LAYERS.ZeroPadding2D(((1, 2), (0, 3)))),
    "zero padding 1d": lambda: ((3, 4), LAYERS.ZeroPadding1D((1, 2))),
    "permute": lambda: ((5, 6, 4), LAYERS.Permute((3, 1, 2))),
    "permute 1d": lambda: ((5, 6), LAYERS.Permute((2, 1))),
    "reshape image to sequence": lambda: ((5, 6, 4), LAYERS.Reshape((5, 24))),
    "reshape image to image": lambda: ((5, 6, 4), LAYERS.Reshape((4, 15, 2))),
    "reshape image to vector": lambda: ((5, 6, 4), LAYERS.Reshape((120,)), layer("QDense", 3)),
    "reshape vector to image": lambda: ((24,), LAYERS.Reshape((3, 4, 2)), layer("QConv2D", 2, 2)),
    "flatten at the end": lambda: ((3, 4, 2), LAYERS.Flatten(), activation(relu())),
    "flatten a sequence": lambda: ((3, 4), LAYERS.Flatten(), layer("QDense", 2)),
    "what training needs": lambda: (
        (6,),
        LAYERS.GaussianNoise(0.1),
        layer("QDense", 5),
        LAYERS.Dropout(0.3),
        LAYERS.ReLU(),
    ),
    "bounded ReLU": lambda: ((6,), LAYERS.ReLU(max_value=1.5)),
    "leaky ReLU": lambda: ((6,), LAYERS.LeakyReLU(alpha=0.25), LAYERS.ReLU(0.5, 0.125)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_agree(tmp_path, name):
    shape, *layers = CHAINS[name]()
    agree(randomized(chain(shape, *layers)), tmp_path / "model.onnx")


def residual(a):
    b = activation(bits(4, 1))(layer("QConv2D", 3, 3, padding="same")(a))
    c = activation(bits(4, 1))(layer("QConv2D", 3, 1)(a))
    y = activation(relu())(LAYERS.Add()([b, c, b]))
    return layer("QDense", 3)(LAYERS.Flatten()(y))


def joined(a):
    """Flattened images and a vector meet in one dense layer, whose rows are permuted for each."""
    b, c = layer("QConv2D", 3, 3)(a), layer("QConv2D", 2, 1)(a)
    parts = [
        activation(bits(4, 1))(LAYERS.Flatten()(b)),
        LAYERS.GlobalMaxPooling2D()(c),
        LAYERS.Flatten()(c),
    ]
    return layer("QDense", 3)(LAYERS.Concatenate()(parts))


def products(a):
    b, c = activation(bits(3, 1))(a), activation(relu())(a)
    return LAYERS.Subtract()([LAYERS.Multiply()([b, c]), b])


def shared(a):
    twice = layer("QDense", 6, name="twice")
    other = layer("QDense", 6, name="twice_2")  # what the second use would be called
    return other(twice(activation(bits(4, 1))(twice(a))))


def nested(a):
    inner = keras.Sequential([keras.Input((6,)), layer("QDense", 5), activation(relu())])
    x = keras.Input((5,))
    branching = keras.Model(x, LAYERS.Add()([x, layer("QDense", 5)(x)]))
    return layer("QDense", 3)(branching(inner(a)))


@pytest.mark.parametrize(
    ("shape", "build"),
    [
        ((5, 5, 2), residual),
        ((5, 5, 2), joined),
        ((5, 5, 2), lambda a: LAYERS.Concatenate(axis=1)([a, layer("QConv2D", 2, 1)(a)])),
        ((5, 2), lambda a: LAYERS.Concatenate()([a, layer("QConv1D", 3, 1)(a)])),
        ((5, 5, 2), lambda a: LAYERS.Add()([LAYERS.Flatten()(a), LAYERS.Flatten()(a)])),
        ((6,), products),
        ((6,), shared),
        ((6,), nested),
    ],
)
def test_branches_agree(tmp_path, shape, build):
    agree(randomized(functional(shape, build)), tmp_path / "model.onnx")


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "stride"), [(3, 2), (2, 3), (3, 1), (4, 2)])
def test_transposed_convolutions_agree(tmp_path, monkeypatch, padding, size, stride):
    """QKeras 0.9.0 calls a function that TensorFlow 2.20 no longer has; here it gets it back."""
    import tensorflow as tf

    monkeypatch.setattr(qkeras.qconvolutional.array_ops, "stack", tf.stack, raising=False)
    transposed = layer("QConv2DTranspose", 2, size, strides=stride, padding=padding)
    agree(randomized(chain((4, 5, 3), transposed)), tmp_path / "model.onnx")


def average(kind, *arguments, quantizer=None, **options):
    quantizer = bits(8) if quantizer is None else quantizer
    return getattr(qkeras, kind)(*arguments, average_quantizer=quantizer, **options)


@pytest.mark.parametrize(
    "pool",
    [
        lambda: average("QAveragePooling2D", (2, 2), activation=relu(5, 1)),
        lambda: average("QAveragePooling2D", (2, 4), quantizer=bits(1, alpha=0.5)),
        lambda: average("QGlobalAveragePooling2D"),
        lambda: average("QGlobalAveragePooling2D", activation=bits(6, 0)),
        lambda: average("QGlobalAveragePooling2D", quantizer=bits(1)),
    ],
)
def test_quantized_averages_agree(tmp_path, pool):
    """A quantizer of one bit makes 1 of every 1/count, and the average a sum."""
    agree(randomized(chain((8, 8, 3), pool())), tmp_path / "model.onnx")


@pytest.mark.parametrize("count", [3, 5, 6, 7, 9, 10, 12, 49])
def test_division_by_any_count_gives_the_code_of_the_true_quotient(count):
    """Every sum that can occur is tried, ties of the quantizer among them."""
    pool = LAYERS.AveragePooling1D(count)
    quantizer = bits(4, 1)  # of step 1/4: half of it is an element's step
    sums = np.arange(-count * 16, count * 16)
    rows = np.zeros((len(sums), count, 1), np.float32)
    # A window with the sum s: all elements the floor of s / count, s mod count of them one more.
    rows[:, :, 0] = (sums // count)[:, None] + (np.arange(count) < (sums % count)[:, None])
    got = np.asarray(quantizer(pool(rows / 8))).ravel() * 4
    floor, rest = np.divmod(sums, 2 * count)
    tie = rest == count
    want = floor + (rest > count) + (tie & (floor % 2 == 1))  # half to even, in integers
    assert np.count_nonzero(tie) > 10
    assert np.array_equal(got, np.clip(want, -8, 7))


def test_softmax_is_left_to_the_host_and_the_file_says_so(tmp_path):
    import onnx

    ends = [
        lambda a: LAYERS.Softmax(name="end")(layer("QDense", 3)(a)),
        lambda a: LAYERS.Activation("softmax", name="end")(layer("QDense", 3)(a)),
        lambda a: layer("QDense", 3, activation="softmax", name="end")(a),
    ]
    for build in ends:
        model = randomized(functional((6,), build))
        path = tmp_path / "model.onnx"
        agree(model, path)
        exported = export.export_model(model, path)
        assert exported.host == ("end: softmax",)
        props = {p.key: p.value for p in onnx.load(path).metadata_props}
        assert props == {"fastml.host": '["end: softmax"]', "fastml.inexact": "[]"}


def test_a_quantized_relu_may_be_the_inputs_quantizer(tmp_path):
    model = keras.Sequential([keras.Input((6,)), activation(relu(5, 1)), layer("QDense", 5)])
    graph = agree(randomized(model), tmp_path / "model.onnx")
    assert [node.op for node in graph.nodes] == ["Quant", "MatMul", "Add"]


REFUSED = {
    r"p: padding 'same' makes windows of different sizes": lambda: chain(
        (5, 5, 2), LAYERS.AveragePooling2D(2, padding="same", name="p")
    ),
    r"d reads the average of 9 elements that pool makes": lambda: chain(
        (3, 3, 2), LAYERS.AveragePooling2D(3, name="pool"), layer("QDense", 2, name="d")
    ),
    r"the model ends in the average of 3 elements": lambda: chain(
        (3, 2), LAYERS.GlobalAveragePooling1D()
    ),
    r"q averages 9 elements with an average_quantizer": lambda: chain(
        (3, 3, 2), average("QAveragePooling2D", (3, 3), name="q")
    ),
    r"u: interpolation 'bilinear' is not exact": lambda: chain(
        (3, 3, 2), LAYERS.UpSampling2D(2, interpolation="bilinear", name="u")
    ),
    r"layer 'l' is a LSTM; supported: Activation, ": lambda: chain(
        (3, 2), LAYERS.LSTM(2, name="l")
    ),
    r"s is a softmax inside the model": lambda: chain(
        (3,), LAYERS.Softmax(name="s"), layer("QDense", 2)
    ),
    r"a is tanh, which no grid describes": lambda: chain((3,), LAYERS.Activation("tanh", name="a")),
    r"r has the slope 0.3": lambda: chain((3,), LAYERS.LeakyReLU(alpha=0.3, name="r")),
    r"r has threshold=1": lambda: chain((3,), LAYERS.ReLU(threshold=1.0, name="r")),
    r"the model has 1 inputs and 2 outputs": lambda: functional((3,), lambda a: [a, a]),
    r"m combines shapes \(3,\) and \(1,\)": lambda: functional(
        (3,), lambda a: LAYERS.Add(name="m")([a, layer("QDense", 1)(a)])
    ),
    r"m combines a flattened image with another": lambda: functional(
        (2, 2, 2),
        lambda a: LAYERS.Add(name="m")([LAYERS.Flatten()(a), LAYERS.Reshape((8,))(a)]),
    ),
    r"drop is called with training=True": lambda: functional(
        (3,), lambda a: LAYERS.Dropout(0.5, name="drop")(a, training=True)
    ),
    r"f: data_format 'channels_last' is supported": lambda: chain(
        (3, 3, 2), LAYERS.Flatten(data_format="channels_first", name="f")
    ),
    r"the input shape is \(2, 2, 2, 2\)": lambda: chain((2, 2, 2, 2), LAYERS.Flatten()),
    r"MatMul 'wide' can take more than 24 bits": lambda: chain(
        (3,),
        activation(bits(12, 1)),
        layer("QDense", 4, kernel_quantizer=bits(14, 0), name="wide"),
    ),
    r"Relu 'r' reads the unquantized input": lambda: keras.Sequential(
        [keras.Input((3,)), LAYERS.ReLU(name="r")]
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_exact_form_is_refused_by_name(tmp_path, message):
    with pytest.raises(UnsupportedModel, match=message):
        export.export_model(randomized(REFUSED[message]()), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_model_that_is_python_code_is_refused(tmp_path):
    class Own(keras.Model):
        def call(self, x):
            return x

    model = Own()
    model.build((None, 3))
    with pytest.raises(UnsupportedModel, match="computes in Python code of its own"):
        export.export_model(model, tmp_path / "model.onnx")
