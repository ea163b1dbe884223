"""Builders and recipe: the same seed gives the same network, and its weights stand on the grid."""

import numpy as np
import pytest

from fastml_kit import models, tasks
from fastml_kit.errors import BadRequest, RunError
from fastml_kit.graph.export import quantizer_spec
from fastml_kit.models import keras2, train
from fastml_kit.tests.networks import images, keras_model


@pytest.fixture(scope="module")
def digits():
    return tasks.load("digits")


def request(data, **options):
    return models.ModelRequest(data.x.shape[1:], len(data.classes), data.input_spec, **options)


def fit(data, **options):
    return train.train("mlp", request(data), data, epochs=2, seed=options.pop("seed", 1), **options)


def test_training_is_repeatable_to_the_byte(digits, tmp_path):
    saved = [keras2.save(fit(digits)[0], tmp_path / f"{i}.h5").read_bytes() for i in range(2)]
    assert saved[0] == saved[1]
    assert keras2.save(fit(digits, seed=2)[0], tmp_path / "2.h5").read_bytes() != saved[0]


def test_trained_weights_stand_on_their_grid_and_survive_the_file(digits, tmp_path):
    model, history = fit(digits)
    assert len(history["loss"]) == len(history["val_accuracy"]) == 2
    loaded = keras2.load(keras2.save(model, tmp_path / "model.h5"))
    assert np.array_equal(train.predict(loaded, digits.x), train.predict(model, digits.x))
    for layer in loaded.layers:
        quantizers = getattr(layer, "get_quantizers", list)()
        for weight, quantizer in zip(layer.get_weights(), quantizers, strict=False):
            assert quantizer_spec(quantizer, layer.name).on_grid(weight).all()


def test_training_sees_neither_test_nor_validation_labels(digits):
    """Shuffling those labels changes nothing that is learned."""
    y = digits.y.copy()
    hidden = digits.part != "train"
    y[hidden] = np.random.default_rng(0).permutation(y[hidden])
    shuffled = tasks.TaskData(**{**vars(digits), "y": y})
    assert np.array_equal(
        train.predict(fit(digits)[0], digits.x), train.predict(fit(shuffled)[0], digits.x)
    )


def test_progress_is_told_every_epoch(digits):
    seen = []
    fit(digits, on_epoch=lambda epoch, metrics: seen.append((epoch, metrics["val_accuracy"])))
    assert [epoch for epoch, _ in seen] == [0, 1]


def test_the_float_twin_has_the_same_shape(digits):
    wanted = request(digits)
    for name in models.names():
        sizes = [
            [w.shape for w in models.build(name, r).get_weights()]
            for r in (wanted, wanted.float_twin())
        ]
        assert sizes[0] == sizes[1]


def test_the_cnn_has_as_many_multiplications_as_its_docstring_says(digits):
    model = models.build("cnn", request(digits, width=24))
    count = 0
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            positions = np.prod(layer.output_shape[1:-1], dtype=int)
            count += int(positions * np.prod(layer.kernel.shape))
    assert count == 3032


def test_an_unknown_model_is_named_with_the_nearest(digits):
    with pytest.raises(BadRequest, match=r"no model 'mpl'\. Did you mean 'mlp'\?"):
        models.build("mpl", request(digits))


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(b"not a model")
    with pytest.raises(RunError, match="no readable Keras model"):
        keras2.load(path)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_model_is_read_back_from_either_kind_of_file(tmp_path, name):
    """Quantizers given as objects come back as quantizers, and predict the same."""
    model = keras_model("mlp", seed=3)
    model.save(tmp_path / name)
    again, x = keras2.load(tmp_path / name), images(50, seed=1).reshape(50, 64)
    assert np.array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
