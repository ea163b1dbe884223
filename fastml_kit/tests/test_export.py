"""Export: QKeras, qonnx's executor and the reference engine share no code and must agree."""

import numpy as np
import pytest

from fastml_kit import models, verify
from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import execute, export, program, ranges, reference
from fastml_kit.models import train
from fastml_kit.models.keras2 import keras
from fastml_kit.models.layers import input_quantizer
from fastml_kit.tests.kerasmodels import layer
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


def test_a_dense_layer_without_bias_is_frozen_and_exported(tmp_path):
    layers = [keras.layers.Flatten(), layer("QDense", units=3, use_bias=False)]
    request = models.ModelRequest((8, 8, 1), 3, INPUT)
    model = keras.Sequential([keras.Input(shape=(8, 8, 1)), input_quantizer(request), *layers])
    train.freeze(model)
    x = images(50, 0)
    graph = program.read(export.export_qonnx(model, tmp_path / "model.onnx"))
    assert [node.op for node in graph.nodes] == ["Quant", "Flatten", "MatMul"]
    assert np.array_equal(reference.run(graph, export.channel_first(x)), train.predict(model, x))


def test_a_model_without_an_input_shape_is_refused(tmp_path):
    model = keras.Sequential([keras.layers.Flatten(), layer("QDense", units=3)])
    with pytest.raises(UnsupportedModel, match="no input shape yet"):
        export.export_qonnx(model, tmp_path / "model.onnx")


def test_the_float_twin_is_refused_and_not_rounded(tmp_path):
    request = models.ModelRequest((8, 8, 1), 10, INPUT).float_twin()
    with pytest.raises(UnsupportedModel, match="layer 'dense1' is a Dense"):
        export.export_qonnx(models.build("mlp", request), tmp_path / "model.onnx")
