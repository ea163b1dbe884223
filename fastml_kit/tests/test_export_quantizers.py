"""Every quantizer that is exported, of activations and of weights, and each refusal by name."""

import numpy as np
import pytest

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import export
from fastml_kit.models.keras2 import keras
from fastml_kit.tests.kerasmodels import activation, agree, bits, chain, layer, qkeras, randomized

ACTIVATIONS = [
    lambda: qkeras.quantized_bits(4, 1),
    lambda: bits(4, 0, symmetric=1),
    lambda: bits(3, 2, keep_negative=False),
    lambda: bits(1, 1, keep_negative=False),
    lambda: bits(1, 0),
    lambda: bits(4, 3),
    lambda: bits(4, 1, alpha=0.5),
    lambda: bits(4, 1, use_stochastic_rounding=True),
    lambda: bits(4, 1, use_ste=False),
    lambda: qkeras.quantized_relu(4, 2),
    lambda: qkeras.quantized_relu(1, 1),
    lambda: qkeras.quantized_relu(4, 1, negative_slope=0.25),
    lambda: qkeras.quantized_relu(4, 2, negative_slope=1.0),
    lambda: qkeras.quantized_relu(4, 2, negative_slope=2.0),
    lambda: qkeras.quantized_relu(6, 1, negative_slope=0.03125),
    lambda: qkeras.quantized_relu(4, 2, relu_upper_bound=3),
    lambda: qkeras.quantized_relu(4, 2, relu_upper_bound=3, is_quantized_clip=False),
    lambda: qkeras.quantized_relu(
        6, 2, relu_upper_bound=2.5, is_quantized_clip=False, negative_slope=0.25
    ),
    lambda: qkeras.quantized_relu(4, 2, use_sigmoid=1),
    lambda: qkeras.quantized_relu(1, 1, use_sigmoid=1),
    lambda: qkeras.quantized_tanh(4),
    lambda: qkeras.quantized_tanh(3, symmetric=True),
    lambda: qkeras.quantized_sigmoid(4),
    lambda: qkeras.quantized_sigmoid(3, symmetric=True),
    lambda: qkeras.binary(),
    lambda: qkeras.binary(alpha=0.5),
    lambda: qkeras.binary(use_01=True, alpha=1),
    lambda: qkeras.stochastic_binary(alpha=2.0),
    lambda: qkeras.ternary(),
    lambda: qkeras.ternary(alpha=2.0, threshold=1.5),
    lambda: qkeras.stochastic_ternary(alpha=1.0, threshold=0.5),
]


def name_of(make):
    return str(make()).replace(" ", "")


@pytest.mark.parametrize("make", ACTIVATIONS, ids=name_of)
def test_activations_agree(tmp_path, make):
    model = chain((5, 3), layer("QConv1D", 12, 2), activation(make()))
    agree(randomized(model), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "make", [lambda: qkeras.quantized_tanh(4), lambda: qkeras.quantized_sigmoid(5)]
)
def test_the_smooth_sigmoid_agrees(tmp_path, make):
    qkeras.quantizers.set_internal_sigmoid("smooth")
    try:
        model = chain((5,), layer("QDense", 20), activation(make()))
        agree(randomized(model), tmp_path / "model.onnx")
    finally:
        qkeras.quantizers.set_internal_sigmoid("hard")


@pytest.mark.parametrize(
    "make", ACTIVATIONS[:1] + ACTIVATIONS[9:12] + ACTIVATIONS[20:], ids=name_of
)
def test_activations_agree_at_ties_and_bounds(tmp_path, make):
    """Inputs lie on a grid of an eighth: a layer of one to one makes each of them an input."""
    model = chain((32,), activation(make()))
    agree(model, tmp_path / "model.onnx", distinct=2)


AUTO = {"alpha": "auto_po2"}
WEIGHTS = [
    lambda: bits(4, 1, symmetric=1),
    lambda: bits(4, alpha=0.5),
    lambda: bits(3, keep_negative=False),
    lambda: bits(1),
    lambda: qkeras.quantized_bits(4, 0, 1, **AUTO),
    lambda: qkeras.quantized_bits(2, 0, 1, **AUTO),
    lambda: qkeras.binary(alpha=1),
    lambda: qkeras.binary(**AUTO),
    lambda: qkeras.binary(use_01=True, alpha=1),
    lambda: qkeras.stochastic_binary(**AUTO),
    lambda: qkeras.ternary(alpha=0.5, threshold=0.2),
    lambda: qkeras.ternary(**AUTO),
    lambda: qkeras.stochastic_ternary(**AUTO),
    lambda: qkeras.quantized_po2(3, max_value=1),
    lambda: qkeras.quantized_relu_po2(2, max_value=1),
    lambda: qkeras.quantized_tanh(4),
]


@pytest.mark.parametrize("make", WEIGHTS, ids=name_of)
def test_weights_agree(tmp_path, make):
    """Dense, by channel in a convolution, and by multiplier in a depthwise one."""
    model = chain(
        (3, 4, 2),
        layer("QConv2D", 4, 2, kernel_quantizer=make()),
        activation(bits(4, 2)),
        layer("QDepthwiseConv2D", 2, depth_multiplier=2, depthwise_quantizer=make()),
        activation(bits(4, 2)),
        keras.layers.Flatten(),
        layer("QDense", 3, kernel_quantizer=make(), use_bias=False),
    )
    agree(randomized(model), tmp_path / "model.onnx")


def test_scales_by_channel_are_written_where_they_differ(tmp_path):
    kernel = np.array([[0.9, 0.1], [-0.5, 0.03]], np.float32)
    model = chain((2,), layer("QDense", 2, kernel_quantizer=qkeras.quantized_bits(4, 0, 1, **AUTO)))
    model.layers[-1].set_weights([kernel, np.zeros(2)])
    path = tmp_path / "model.onnx"
    agree(model, path)
    import onnx

    scales = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    scale = scales[f"{model.layers[-1].name}_kernel_quant_scale"]
    assert scale.shape == (1, 2) and scale[0, 0] > scale[0, 1]


def test_weights_of_minus_one_and_zero_are_no_bipolar_ones(tmp_path):
    """One signed bit would mean -1 and +1 in QONNX."""
    model = chain((2,), layer("QDense", 2, kernel_quantizer=qkeras.quantized_po2(2, max_value=1)))
    model.add(layer("QDense", 1, bias_quantizer=qkeras.quantized_tanh(2)))
    first, second = model.layers[-2:]
    first.set_weights([np.array([[-1.0, -1.0], [-1.0, -1.0]]), np.array([-1.0, 0.0])])
    second.set_weights([np.array([[0.5], [-0.25]]), np.array([-1.0])])
    agree(model, tmp_path / "model.onnx")


def refused_activation(quantizer):
    return chain((3,), layer("QDense", 4), activation(quantizer, name="a"))


def refused_kernel(**options):
    return chain((3,), layer("QDense", 4, name="d", **options))


REFUSED = {
    r"a uses quantized_bits with alpha='auto_po2', so that its scale": lambda: refused_activation(
        qkeras.quantized_bits(4, 1, **AUTO)
    ),
    r"a has alpha=0.7, which is no power of two": lambda: refused_activation(bits(4, 1, alpha=0.7)),
    r"a has 0 bits": lambda: refused_activation(bits(0, 0, keep_negative=False)),
    r"a has qnoise_factor=0.5": lambda: refused_activation(bits(4, 1, qnoise_factor=0.5)),
    r"a: relu_upper_bound=1.3 is no multiple of its step 0.25; use 1.25": lambda: (
        refused_activation(
            qkeras.quantized_relu(4, 2, relu_upper_bound=1.3, is_quantized_clip=False)
        )
    ),
    r"a: negative_slope=0.125 needs at least 8 levels": lambda: refused_activation(
        qkeras.quantized_relu(3, 1, negative_slope=0.125)
    ),
    r"a uses quantized_relu with use_sigmoid and a slope": lambda: refused_activation(
        qkeras.quantized_relu(4, 1, use_sigmoid=1, negative_slope=0.25)
    ),
    r"a uses the real tanh": lambda: refused_activation(
        qkeras.quantized_tanh(4, use_real_tanh=True)
    ),
    r"a has one bit, for -1 and 0 only": lambda: refused_activation(qkeras.quantized_tanh(1)),
    r"a uses the real sigmoid": lambda: refused_activation(
        qkeras.quantized_sigmoid(4, use_real_sigmoid=True)
    ),
    r"a uses quantized_po2, whose values lie on no uniform": lambda: refused_activation(
        qkeras.quantized_po2(4)
    ),
    r"a uses quantized_ulaw, whose values": lambda: refused_activation(qkeras.quantized_ulaw(4)),
    r"a uses bernoulli, whose values": lambda: refused_activation(qkeras.bernoulli()),
    r"a uses ternary with alpha='auto'": lambda: refused_activation(qkeras.ternary(alpha="auto")),
    r"d's kernel uses quantized_bits with alpha='auto', whose scale is no power": lambda: (
        refused_kernel(kernel_quantizer=qkeras.quantized_bits(4, 0, 1, alpha="auto"))
    ),
    r"d's kernel uses quantized_bits with alpha=0.7": lambda: refused_kernel(
        kernel_quantizer=bits(alpha=0.7)
    ),
    r"d's kernel uses bernoulli": lambda: refused_kernel(kernel_quantizer=qkeras.bernoulli()),
    r"d's kernel has qnoise_factor=0.5": lambda: refused_kernel(
        kernel_quantizer=bits(qnoise_factor=0.5)
    ),
    r"d: the kernel is not quantized; give kernel_quantizer": lambda: refused_kernel(
        kernel_quantizer=None
    ),
    r"d: the bias is not quantized; give bias_quantizer": lambda: refused_kernel(
        bias_quantizer=None
    ),
    r"d's kernel spans 25 bits of fixed point": lambda: refused_kernel(
        kernel_quantizer=qkeras.quantized_ulaw(6)
    ),
}


def test_a_sum_far_below_a_fine_grid_is_refused(tmp_path):
    """QKeras's x + (q(x) - x) then rounds, though the graph's bounds come before the Quant."""
    slope = qkeras.quantized_relu(8, 0, negative_slope=0.25)
    wide = qkeras.quantized_bits(8, 11, alpha=1)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            activation(bits(4, 10)),
            layer("QDense", 1, kernel_quantizer=wide, use_bias=False),
            activation(slope, name="a"),
        ]
    )
    model.layers[-2].set_weights([np.full((64, 1), 2032.0)])
    with pytest.raises(UnsupportedModel, match="Quant 'a' takes a difference of more than 24"):
        export.export_model(model, tmp_path / "model.onnx")


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_exact_form_is_refused_by_name(tmp_path, message):
    with pytest.raises(UnsupportedModel, match=message):
        export.export_model(randomized(REFUSED[message]()), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_weights_need_not_be_frozen(tmp_path):
    """w + (q(w) - w) is q(w) in float32, wherever w lies, unless it is beyond 2**24 steps."""
    rng = np.random.default_rng(0)
    weights = np.concatenate(
        [rng.normal(0, scale, 20_000) for scale in (1e-6, 0.01, 1, 1000)]
    ).astype(np.float32)
    for quantizer in (bits(4), bits(6, 2), bits(4, alpha=2.0), bits(1), qkeras.binary(alpha=1)):
        codes = np.asarray(quantizer(weights), np.float64) * 2**6
        assert np.array_equal(codes, np.round(codes)), str(quantizer)


def test_a_weight_far_out_of_range_is_what_keras_makes_of_it(tmp_path):
    """Here w + (q(w) - w) is 1, though the largest code stands for 0.875."""
    model = chain((1,), layer("QDense", 2, name="d"))
    model.layers[-1].set_weights([np.array([[11000001.0, 0.3]]), np.zeros(2)])
    agree(model, tmp_path / "model.onnx")
