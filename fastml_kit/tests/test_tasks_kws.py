"""Keyword spotting's stand-in is what it says it is, and its network has an exact form."""

import hashlib
import warnings

import numpy as np
import onnx
import pytest
from qonnx.core.modelwrapper import ModelWrapper

from fastml_kit import models, tasks
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph import cost, execute, export, fast, program, ranges, reference
from fastml_kit.models import keras2, train
from fastml_kit.tasks import kws_synthetic as kws
from fastml_kit.tasks.base import PARTS
from fastml_kit.tests.kerasmodels import randomized


@pytest.fixture(scope="module")
def data():
    return tasks.load("kws", "kws-synthetic")


def rows(x):
    return x.reshape(len(x), -1)


def test_it_has_the_benchmarks_shape(data):
    assert data.x.shape[1:] == (49, 10, 1) and data.x.dtype == np.float32
    assert len(data.classes) == 12 and data.classes[-2:] == ("silence", "unknown")
    assert {part: len(data.select(part)[1]) for part in PARTS} == {
        "train": 6000,
        "validation": 1008,
        "test": 2016,
    }
    for part in PARTS:  # a speaker says every class once, so that no speaker is cut in two
        assert np.ptp(np.bincount(data.select(part)[1], minlength=12)) == 0


def test_it_does_not_pass_for_the_real_data(data):
    assert data.synthetic
    assert data.source.startswith("synthetic stand-in: not Speech Commands")


def test_it_is_the_same_for_every_caller(data):
    assert np.array_equal(tasks.load("kws", "kws-synthetic").x, data.x)
    codes = data.input_spec.to_codes(data.x).astype(np.int8)
    # Whoever changes the data changes every accuracy that was measured on it.
    assert hashlib.sha256(codes.tobytes()).hexdigest()[:16] == "1b42f254342a903e"


def test_codes_are_symmetric_and_use_their_range(data):
    codes = data.input_spec.to_codes(data.x)
    assert -127 <= codes.min() < -100 and 100 < codes.max() <= 127
    assert np.mean(np.abs(codes) == 127) < 0.001  # little is cut off
    assert np.all(codes.reshape(-1, 49, 10).std(axis=(0, 1)) > 4)  # no coefficient is a constant


def test_no_sample_occurs_twice(data):
    assert len(np.unique(rows(data.x), axis=0)) == len(data.x)


def test_no_weighted_sum_tells_the_words_apart_but_a_small_network_does(data):
    from sklearn.linear_model import RidgeClassifier
    from sklearn.neural_network import MLPClassifier

    (x, y), (x_test, y_test) = data.select("train"), data.select("test")

    def score(classifier, features):
        return classifier.fit(features(x), y).score(features(x_test), y_test)

    def spread(x):  # of the frames, whatever their order
        return rows(np.concatenate([x.mean(axis=1), x.std(axis=1)], axis=1))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*haven't converged|.*hasn't converged")
        network = score(MLPClassifier((64, 64), max_iter=10, random_state=0), rows)
    assert network > 0.78
    assert 0.3 < score(RidgeClassifier(1.0), rows) < network - 0.1
    assert 0.3 < score(RidgeClassifier(1.0), spread) < network - 0.1


def test_a_noiseless_sound_has_its_formants_where_the_table_says(monkeypatch):
    for name in ("TEMPO", "UNEVENNESS", "TRACT", "LOUDNESS", "NOISE", "SPECKLE"):
        monkeypatch.setattr(kws, name, 0.0)
    monkeypatch.setattr(kws, "QUIET", -20.0)
    said = np.full((len(kws.SOUNDS), kws.LONGEST), -1)
    said[:, 0] = np.arange(len(kws.SOUNDS))
    power = kws.spectra(said, np.zeros(len(said), dtype=int), np.random.default_rng(0))
    loudest = np.exp(power[np.arange(len(said)), power.max(axis=2).argmax(axis=1)])
    band = np.linspace(0, 1, kws.BANDS)[:, np.newaxis]
    for spectrum, (_, level, *formants) in zip(loudest, kws.SOUNDS.values(), strict=True):
        wanted = np.exp(-0.5 * ((band - formants) / kws.FORMANT_WIDTH) ** 2).sum(axis=1)
        scale = spectrum.sum() / wanted.sum()
        assert 0.8 * level < scale <= 1.001 * level  # a short sound does not reach its height
        np.testing.assert_allclose(spectrum, scale * wanted, atol=1e-6)
    heard = (power.max(axis=2) > -10).sum(axis=1)
    lengths = np.array([sound[0] for sound in kws.SOUNDS.values()])
    assert np.all(heard >= lengths) and heard[lengths == 4].max() < heard[lengths == 9].min()


def test_silence_is_noise_alone():
    """What is no sound leaves no trace: with two other words, silence stays as it is."""
    silent, spoken = np.full((2, kws.LONGEST), -1), np.full((2, kws.LONGEST), -1)
    spoken[0, :2] = (0, 4)
    speaker = np.zeros(2, dtype=int)
    one, other = (kws.spectra(s, speaker, np.random.default_rng(3)) for s in (silent, spoken))
    assert np.array_equal(one[1], other[1])
    assert not np.array_equal(one[0], other[0])


def test_the_cepstrum_is_the_orthonormal_cosine_transform():
    from scipy.fft import dct

    power = np.random.default_rng(0).normal(size=(3, kws.FRAMES, kws.BANDS))
    wanted = dct(power - kws.MIDDLE, type=2, norm="ortho", axis=-1)[..., : kws.COEFFICIENTS]
    np.testing.assert_allclose(kws.cepstra(power), wanted, atol=1e-12)


def request(data, width=16, weight_bits=3, act_bits=3, spec=None):
    shape, spec = data.x.shape[1:], spec or data.input_spec
    return models.ModelRequest(shape, len(data.classes), spec, width, weight_bits, act_bits)


def network(data, **options):
    """Return the network with random weights, on their grid as after a training."""
    model = randomized(models.build("mlp_bn", request(data, **options)))
    train.freeze(model)
    return model


def kernels(path):
    """Return codes and Quant node of every kernel in the file."""
    model = ModelWrapper(str(path))
    for node in model.graph.node:
        if node.op_type == "Quant" and "_kernel" in node.input[0]:
            weights, scale = (model.get_initializer(name) for name in node.input[:2])
            yield weights / scale, scale, float(model.get_initializer(node.input[3])), node


def test_it_is_the_benchmarks_network(data, tmp_path):
    path = export.export_model(network(data, width=256), tmp_path / "model.onnx").path
    shapes = [codes.shape for codes, *_ in kernels(path)]
    assert shapes == [(490, 256), (256, 256), (256, 256), (256, 12)]
    assert cost.count(path).total.macs == 259_584  # as the submission has
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("MatMul") == kinds.count("Add") == 4
    assert not {"BatchNormalization", "Mul"} & set(kinds)  # the normalization is folded


@pytest.mark.parametrize("options", [{}, {"act_bits": 5, "weight_bits": 2}, {"weight_bits": 8}])
def test_every_engine_agrees_and_weights_are_symmetric(data, tmp_path, options):
    model = network(data, **options)
    written = export.export_model(model, tmp_path / "model.onnx")
    assert not written.inexact and not written.host
    x = data.select("validation")[0][::2]
    wanted, x = train.predict(model, x), train.shaped(model, x)
    graph = program.read(written.path)
    assert len(np.unique(wanted, axis=0)) > 300, "it says nothing"
    assert ranges.worst(graph)[0] <= ranges.FLOAT32_SAFE
    assert np.array_equal(execute.run(written.path, x), wanted)
    assert np.array_equal(reference.run(graph, x), wanted)
    assert np.array_equal(fast.run(graph, x), wanted)
    bits = options.get("weight_bits", 3)
    largest = 2 ** (bits - 1) - 1
    for codes, scale, width, node in kernels(written.path):
        assert width == bits
        assert np.array_equal(codes, np.round(codes)) and np.abs(codes).max() == largest
        assert np.all(np.frexp(scale)[0] == 0.5)  # powers of two, one a channel
        assert next(a.i for a in node.attribute if a.name == "narrow") == 1


def test_an_unsigned_input_does_as_well(data, tmp_path):
    model = network(data, spec=FixedSpec(5, 1, signed=False))
    path = export.export_model(model, tmp_path / "model.onnx").path
    x = train.shaped(model, np.abs(data.select("validation")[0]))
    assert np.array_equal(execute.run(path, x), model.predict(x, verbose=0))


def test_dead_and_loud_channels_stay_exact(data, tmp_path):
    """A channel that never moved has no variance; one far too loud has a great one."""
    model = network(data)
    layers = {layer.name: layer for layer in model.layers}
    kernel = layers["dense2"].get_weights()[0]
    kernel[:, 0], kernel[:, 1] = 0, 0.75
    layers["dense2"].set_weights([kernel])
    for value, channel in ((0.0, 0), (300.0, 1)):
        variance = layers["norm2"].moving_variance
        variance.assign(np.where(np.arange(16) == channel, value, variance))
    written = export.export_model(model, tmp_path / "model.onnx")
    x = train.shaped(model, data.select("validation")[0])
    wanted = model.predict(x, verbose=0)
    assert np.array_equal(reference.run(program.read(written.path), x), wanted)
    assert np.array_equal(execute.run(written.path, x), wanted)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_training_starts_with_weights(data, bits):
    """Under Keras's own start, three bits would round all of 490 inputs' weights to nothing."""
    keras2.seed_everything(0)
    model = models.build("mlp_bn", request(data, weight_bits=bits))
    layer = model.get_layer("dense1")
    started = np.asarray(layer.get_quantizers()[0](layer.kernel)) != 0
    assert started.mean() > 0.3


@pytest.mark.slow
def test_three_bits_reach_the_target_and_survive_file_and_export(data, tmp_path):
    """Where the statistics of the normalization are those of a training, not drawn."""
    model, _ = train.train("mlp_bn", request(data, width=256), data, epochs=10, seed=1)
    x, y = data.select("test")
    logits = train.predict(model, x)
    assert train.accuracy(logits, y) >= data.quality_target
    loaded = keras2.load(keras2.save(model, tmp_path / "model.h5"))
    assert np.array_equal(train.predict(loaded, x), logits)
    graph = program.read(export.export_model(loaded, tmp_path / "model.onnx").path)
    assert np.array_equal(reference.run(graph, train.shaped(model, x)), logits)
