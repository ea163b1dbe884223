"""Export: QKeras, qonnx's executor and the reference engine share no code and must agree."""

import numpy as np
import pytest

from fastml_kit import models, verify
from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import execute, export, program, ranges, reference
from fastml_kit.models import train
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import input_quantizer
from fastml_kit.tests.networks import INPUT, images, keras_model


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("mlp", {"width": 24, "weight_bits": 4, "act_bits": 4}),
        ("mlp", {"width": 7, "weight_bits": 2, "act_bits": 8}),
        ("mlp", {"width": 2, "weight_bits": 8, "act_bits": 2}),
        ("cnn", {"width": 24, "weight_bits": 4, "act_bits": 4}),
        ("cnn", {"width": 12, "weight_bits": 3, "act_bits": 5}),
        ("cnn", {"width": 6, "weight_bits": 6, "act_bits": 2}),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_keras_qonnx_and_reference_agree(tmp_path, family, sizes, seed):
    model = keras_model(family, seed, **sizes)
    x = images(200, seed)
    path = export.export_qonnx(model, tmp_path / "model.onnx")
    graph = program.read(path)
    spec = ranges.output_spec(graph)
    trained, inputs = train.predict(model, x), export.channel_first(train.shaped(model, x))
    assert len(np.unique(trained, axis=0)) > 3, "a network that says nothing proves nothing"
    ours, theirs = reference.run(graph, inputs), execute.run(path, inputs)
    verify.assert_bit_exact(ours, trained, spec=spec, labels=("reference", "qat"))
    verify.assert_bit_exact(theirs, trained, spec=spec, labels=("qonnx", "qat"))


def test_images_meet_the_right_rows_of_the_dense_layer(tmp_path):
    """Keras flattens channel last, ONNX channel first: a mix-up changes the answer."""
    model = keras_model("cnn", 3, width=12)
    graph = program.read(export.export_qonnx(model, tmp_path / "model.onnx"))
    kernel = model.get_layer("logits").get_weights()[0]
    exported = graph.constants["logits_kernel_quant_out"]
    assert not np.array_equal(exported.codes * 2.0**-exported.frac, kernel)
    assert np.array_equal(np.sort(exported.codes * 2.0**-exported.frac, axis=0), np.sort(kernel, 0))


def test_the_same_model_gives_the_same_bytes(tmp_path):
    model = keras_model("mlp", 5)
    first = export.export_qonnx(model, tmp_path / "a.onnx").read_bytes()
    assert export.export_qonnx(model, tmp_path / "b.onnx").read_bytes() == first


def quantized(layer, **options):
    import qkeras

    quantizers = {
        "kernel_quantizer": qkeras.quantized_bits(4, 0, 1, alpha=1),
        "bias_quantizer": qkeras.quantized_bits(8, 1, alpha=1),
    }
    return getattr(qkeras, layer)(**{**quantizers, **options})


def test_what_has_no_exact_form_is_refused_by_name(tmp_path):
    import qkeras

    flatten = keras.layers.Flatten
    alpha = qkeras.quantized_bits(4, 0, 1, alpha="auto")
    cases = {
        r"layer 'softmax' is a Softmax; supported: ": [keras.layers.Softmax(name="softmax")],
        r"d's kernel uses quantized_bits with alpha='auto'; use alpha=1": [
            flatten(),
            quantized("QDense", units=3, kernel_quantizer=alpha, name="d"),
        ],
        r"d's kernel uses ternary; supported quantizers": [
            flatten(),
            quantized("QDense", units=3, kernel_quantizer="ternary(alpha=1)", name="d"),
        ],
        r"d: the bias is not quantized; give bias_quantizer": [
            flatten(),
            quantized("QDense", units=3, bias_quantizer=None, name="d"),
        ],
        r"d reads an image; put a Flatten layer before it": [
            quantized("QDense", units=3, name="d")
        ],
        r"d has an activation of its own": [
            flatten(),
            quantized("QDense", units=3, activation="relu", name="d"),
        ],
        r"c: padding 'valid'": [
            quantized("QConv2D", filters=2, kernel_size=3, padding="same", name="c"),
        ],
        r"p: padding 'valid' is supported": [
            keras.layers.MaxPooling2D(2, padding="same", name="p")
        ],
        r"a uses quantized_relu with \['relu_upper_bound'\]": [
            qkeras.QActivation(
                qkeras.quantized_relu(4, 2, is_quantized_clip=False, relu_upper_bound=3), name="a"
            )
        ],
        r"a has one bit, which QKeras makes binary": [
            qkeras.QActivation(qkeras.quantized_bits(1, 0, alpha=1), name="a")
        ],
        r"the model ends in Flatten": [flatten()],
        r"f: data_format 'channels_last' is supported": [
            flatten(data_format="channels_first", name="f"),
            quantized("QDense", units=3),
        ],
        r"a has qnoise_factor=0.5; set it to 1": [
            qkeras.QActivation(qkeras.quantized_relu(4, 2, qnoise_factor=0.5), name="a")
        ],
    }
    for message, layers in cases.items():
        model = keras.Sequential([keras.Input(shape=(8, 8, 1)), *layers])
        with pytest.raises(UnsupportedModel, match=message):
            export.export_qonnx(model, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_inputs_that_are_neither_vector_nor_image_are_refused(tmp_path):
    layers = [keras.layers.Flatten(), quantized("QDense", units=3)]
    sequence = keras.Sequential([keras.Input(shape=(6, 2)), *layers])
    with pytest.raises(UnsupportedModel, match=r"the input shape is \(6, 2\)"):
        export.export_qonnx(sequence, tmp_path / "model.onnx")
    with pytest.raises(UnsupportedModel, match="no input shape yet"):
        export.export_qonnx(keras.Sequential(layers), tmp_path / "model.onnx")


def test_a_dense_layer_without_bias_is_frozen_and_exported(tmp_path):
    layers = [keras.layers.Flatten(), quantized("QDense", units=3, use_bias=False)]
    request = models.ModelRequest((8, 8, 1), 3, INPUT)
    model = keras.Sequential([keras.Input(shape=(8, 8, 1)), input_quantizer(request), *layers])
    train.freeze(model)
    x = images(50, 0)
    graph = program.read(export.export_qonnx(model, tmp_path / "model.onnx"))
    assert [node.op for node in graph.nodes] == ["Quant", "Flatten", "MatMul"]
    assert np.array_equal(reference.run(graph, export.channel_first(x)), train.predict(model, x))


def test_branches_are_refused_and_not_flattened_into_a_chain(tmp_path):
    x = keras.Input(shape=(6,))
    first = quantized("QDense", units=6, name="first")(x)
    second = quantized("QDense", units=6, name="second")(first)
    models_ = {
        r"layer 'sum' does not read the layer before it": keras.Model(
            x, keras.layers.Add(name="sum")([first, second])
        ),
        r"layer 'aside' does not read the layer before it": keras.Model(
            x, [second, quantized("QDense", units=6, name="aside")(x)]
        ),
        "not the model's only output": keras.Model(x, [first, second]),
    }
    for message, model in models_.items():
        with pytest.raises(UnsupportedModel, match=message):
            export.export_qonnx(model, tmp_path / "model.onnx")


def test_the_float_twin_is_refused_and_not_rounded(tmp_path):
    request = models.ModelRequest((8, 8, 1), 10, INPUT).float_twin()
    with pytest.raises(UnsupportedModel, match="layer 'dense1' is a Dense"):
        export.export_qonnx(models.build("mlp", request), tmp_path / "model.onnx")
