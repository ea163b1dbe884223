"""Batch normalization, in its three forms, and what ``exact=False`` writes."""

import json

import numpy as np
import onnx
import pytest

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph import execute, export
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
    samples,
)

EPSILON = 1e-12  # float32 drops it beside any variance


def normalization(**options):
    return qkeras.QBatchNormalization(**{"epsilon": EPSILON, **options})


CHAINS = {
    "dense": lambda: ((6,), layer("QDense", 5), normalization(name="n")),
    "conv": lambda: ((5, 5, 2), layer("QConv2D", 4, 3), normalization(name="n")),
    "no bias": lambda: ((5, 2), layer("QConv1D", 4, 3, use_bias=False), normalization(name="n")),
    "depthwise": lambda: (
        (5, 5, 2),
        layer("QDepthwiseConv2D", 3, depth_multiplier=2),
        normalization(name="n"),
    ),
    "separable": lambda: ((5, 5, 2), layer("QSeparableConv2D", 4, 3), normalization(name="n")),
    "no scale": lambda: ((6,), layer("QDense", 5), normalization(name="n", scale=False)),
    "no center": lambda: ((6,), layer("QDense", 5), normalization(name="n", center=False)),
}
KEPT = {
    "alone": lambda: ((5, 5, 2), normalization(name="n")),
    "behind Flatten": lambda: (
        (3, 3, 2),
        keras.layers.Flatten(),
        normalization(name="n"),
        activation(bits(6, 2)),
        layer("QDense", 3),
    ),
    "behind an activation": lambda: (
        (6,),
        layer("QDense", 5, activation=qkeras.quantized_relu(4, 1)),
        normalization(name="n"),
    ),
    "of three bits": lambda: (
        (6,),
        layer("QDense", 5),
        normalization(name="n", gamma_quantizer=bits(3, 1, keep_negative=False)),
    ),
}


@pytest.mark.parametrize("name", [*CHAINS, *KEPT])
def test_powers_of_two_are_folded_or_kept_and_agree(tmp_path, name):
    shape, *layers = {**CHAINS, **KEPT}[name]()
    model = randomized(chain(shape, *layers))
    graph = agree(model, tmp_path / "model.onnx")
    written = [node for node in graph.nodes if node.name.startswith("n_")]
    assert bool(written) == (name in KEPT)


def test_a_layer_that_is_read_twice_is_not_folded(tmp_path):
    def build(a):
        b = layer("QDense", 5)(a)
        return keras.layers.Add()([b, normalization(name="n")(b)])

    graph = agree(randomized(functional((6,), build)), tmp_path / "model.onnx")
    assert [node.name for node in graph.nodes if node.name.startswith("n_")] == ["n_mul", "n_add"]


@pytest.mark.parametrize("mode", ["ema_stats_folding", "batch_stats_folding"])
@pytest.mark.parametrize("kind", ["QConv2DBatchnorm", "QDepthwiseConv2DBatchnorm"])
@pytest.mark.parametrize("automatic", [False, True])
def test_layers_that_fold_themselves_agree(tmp_path, mode, kind, automatic):
    """Their statistics are any floats: what is folded is quantized afterwards."""
    part = "depthwise_quantizer" if "Depthwise" in kind else "kernel_quantizer"
    quantizer = qkeras.quantized_bits(4, 1, 1, alpha="auto_po2" if automatic else 1)
    options = {part: quantizer, "bias_quantizer": bits(8, 2), "folding_mode": mode}
    sizes = (3,) if "Depthwise" in kind else (4, 3)
    model = chain(
        (5, 5, 3),
        layer(kind, *sizes, padding="same", use_bias=automatic, **options),
        activation(bits(5, 2)),
    )
    agree(randomized(model), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        (lambda: keras.layers.BatchNormalization(name="n"), "with epsilon=0.001; use QConv2DBatch"),
        (lambda: normalization(name="n", epsilon=1e-3), "QBatchNormalization with epsilon=1e-12"),
        (lambda: normalization(name="n", axis=1), "n normalizes along axis"),
    ],
)
def test_what_rounds_is_refused_by_name(tmp_path, norm, message):
    model = randomized(chain((4, 4, 2), layer("QConv2D", 2, 1), norm()))
    with pytest.raises(UnsupportedModel, match=message):
        export.export_model(model, tmp_path / "model.onnx")


def test_a_folded_bias_without_quantizer_is_refused(tmp_path):
    model = chain((4, 4, 2), layer("QConv2DBatchnorm", 2, 1, bias_quantizer=None, name="c"))
    with pytest.raises(UnsupportedModel, match="c: the bias is not quantized"):
        export.export_model(randomized(model), tmp_path / "model.onnx")


INEXACT = {
    "n multiplies by gamma": lambda: [
        layer("QConv2D", 2, 2),
        keras.layers.BatchNormalization(name="n"),
    ],
    "c's kernel uses quantized_bits with alpha='auto'": lambda: [
        layer(
            "QConv2D",
            2,
            2,
            kernel_quantizer=qkeras.quantized_bits(4, 0, 1, alpha="auto"),
            name="c",
        )
    ],
    "c: the bias is not quantized": lambda: [layer("QConv2D", 2, 2, bias_quantizer=None, name="c")],
    "a has alpha=0.7": lambda: [
        layer("QConv2D", 2, 2),
        activation(bits(4, 1, alpha=0.7), name="a"),
    ],
    "c reads the average of 9 elements": lambda: [
        keras.layers.AveragePooling2D(3),
        layer("QConv2D", 2, 1, name="c"),
    ],
    "MatMul 'd' can take more than 24 bits": lambda: [
        keras.layers.Flatten(),
        layer("QDense", 2, kernel_quantizer=bits(19, 0), name="d"),
    ],
}


@pytest.mark.parametrize("reason", INEXACT)
def test_on_request_it_is_written_and_the_file_says_so(tmp_path, reason):
    """Within float's precision it is still the model."""
    model = randomized(chain((6, 6, 2), *INEXACT[reason]()))
    path = tmp_path / "model.onnx"
    with pytest.raises(UnsupportedModel, match=reason):
        export.export_model(model, path)
    exported = export.export_model(model, path, exact=False)
    assert exported.inexact and exported.inexact[0].startswith(reason)
    props = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert json.loads(props["fastml.inexact"]) == list(exported.inexact)
    x = samples(model)
    want = export.channel_first(model.predict(x, verbose=0))
    got = execute.run(path, export.channel_first(x))
    assert np.abs(want).max() > 0.5
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
