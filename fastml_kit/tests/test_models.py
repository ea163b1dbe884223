"""Builders and recipe: the same seed gives the same network, and its weights stand on the grid."""

import dataclasses

import numpy as np
import pytest

from fastml_kit import models, tasks, verify
from fastml_kit.errors import BadRequest, RunError
from fastml_kit.graph import export, fast, program, ranges, reference
from fastml_kit.graph.export import quantizer_spec
from fastml_kit.models import folding, keras2, recipes, train
from fastml_kit.tests import families
from fastml_kit.tests.networks import images, keras_model

CNNS = ("cnn", "cnn_strided")


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


def test_every_family_has_a_case():
    assert sorted(families.CASES) == models.names()


@pytest.mark.parametrize("name", families.CASES)
def test_every_family_is_exported_exactly(name, tmp_path):
    """Keras, the reference engine and the fast engine give the same codes, after a training."""
    case = families.CASES[name]
    data = families.data(case)
    host = models.host_part(name, case.request)
    recipe = dataclasses.replace(recipes.of(name), batch=4)  # more steps to learn in
    options = {"epochs": 10, "seed": 1, "recipe": recipe, "host": host}
    model, _ = train.train(name, case.request, data, **options)
    path = export.export_qonnx(model, tmp_path / "model.onnx")
    graph = program.read(path)
    wanted, inputs = train.predict(model, data.x), train.shaped(model, data.x)
    assert len(np.unique(wanted, axis=0)) > 10, "a network that says nothing proves nothing"
    spec, inputs = ranges.output_spec(graph), export.channel_first(inputs)
    for engine in (reference, fast):
        got = engine.run(graph, inputs)
        verify.assert_bit_exact(got, wanted, spec=spec, labels=(engine.__name__, "qat"))


@pytest.mark.parametrize("name", families.CASES)
def test_the_float_twin_is_the_same_network(name):
    """As many weights of the same shapes, normalizations aside."""
    request = families.CASES[name].request
    kernels = [
        [w.shape for w in models.build(name, r).get_weights() if w.ndim > 1]
        for r in (request, request.float_twin())
    ]
    assert kernels[0] == kernels[1]
    twin = models.build(name, request.float_twin())
    assert not any(type(layer).__name__ in ("QDense", "QConv2D") for layer in twin.layers)


def multiplications(model):
    count = 0
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            positions = np.prod(layer.output_shape[1:-1], dtype=int)
            count += int(positions * np.prod(layer.kernel.shape))
    return count


def test_the_cnns_have_as_many_multiplications_as_their_docstrings_say(digits):
    found = [multiplications(models.build(name, request(digits))) for name in CNNS]
    assert found == [3032, 1574]


PIXELS = families.PIXELS


@pytest.mark.parametrize(
    ("name", "shape", "classes", "width", "wanted"),
    [
        # Counted from the published weights: 36,960 of convolutions and 20,480 of the dense layer.
        ("rn07", (32, 32, 3), 10, 32, (57_440, 6_410_240)),
        ("cnv", (32, 32, 3), 10, 64, (1_542_848, 59_461_376)),
        ("kws_mlp", (49, 10, 1), 12, 256, (259_584, 259_584)),
        ("ad08", (1, 64, 1), 64, 72, (20_736, 20_736)),
        ("jets_mlp", (1, 16, 1), 5, 64, (4_256, 4_256)),
    ],
)
def test_published_networks_have_the_published_size(name, shape, classes, width, wanted):
    """Weights and multiplications; Borras et al., arXiv:2206.11791, and arXiv:1804.06913."""
    model = models.build(name, models.ModelRequest(shape, classes, PIXELS, width, 4, 4))
    weights = sum(int(np.prod(w.shape)) for w in model.get_weights() if w.ndim > 1)
    assert (weights, multiplications(model)) == wanted


def test_folding_a_normalization_changes_no_answer():
    """On grids so fine that what differs is the folding, with factors that no grid cuts off."""
    case, rng = families.CASES["rn07"], np.random.default_rng(3)
    wide = dataclasses.replace(case.request, weight_bits=24, act_bits=24)
    data = families.data(case)
    twin = models.build("rn07", case.request.float_twin())
    for layer in twin.layers:
        if layer.name.endswith(folding.NORM):
            size = layer.get_weights()[0].shape
            given = (
                (0.3, 0.6),
                (-0.1, 0.1),
                (-0.1, 0.1),
                (0.8, 1.2),
            )  # gamma, beta, mean, variance
            layer.set_weights([rng.uniform(*span, size) for span in given])
        elif layer.get_weights():
            layer.set_weights([np.clip(weight, -0.9, 0.9) for weight in layer.get_weights()])
    model = models.build("rn07", wide)
    folding.fold(twin, model)
    wanted = train.predict(twin, data.x)
    assert np.ptp(wanted) > 0.05
    # Biases keep 12 bits, whose steps are the largest.
    np.testing.assert_allclose(train.predict(model, data.x), wanted, atol=0.02 * np.ptp(wanted))


def test_a_twin_of_another_size_is_refused():
    request = families.CASES["rn07"].request
    twin = models.build("rn07", dataclasses.replace(request.float_twin(), width=16))
    with pytest.raises(BadRequest, match=r"conv1: weights .* do not fit"):
        folding.fold(twin, models.build("rn07", request))
    with pytest.raises(BadRequest, match="no layer 'conv1'"):
        folding.fold(models.build("mlp", request.float_twin()), models.build("rn07", request))


def test_a_part_on_the_host_is_trained_along_and_must_be_given():
    case = families.CASES["econt_encoder"]
    data = families.data(case)
    host = models.host_part("econt_encoder", case.request)
    before = train.predict(models.build("econt_encoder", case.request), data.x)
    recipe = dataclasses.replace(recipes.of("econt_encoder"), batch=8, learning_rate=0.01)
    model, history = train.train(
        "econt_encoder", case.request, data, epochs=24, seed=1, recipe=recipe, host=host
    )
    made = train.predict(model, data.x, host)
    assert made.shape == (len(data.x), 64)
    assert before.shape == (len(data.x), 8)
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    with pytest.raises(BadRequest, match="has a part on the host"):
        train.train("econt_encoder", case.request, data, epochs=2, seed=1)
    with pytest.raises(BadRequest, match="has no part on the host"):
        train.train("mlp", case.request, data, epochs=2, seed=1, host=host)


def test_cnv_refuses_images_that_are_too_small():
    with pytest.raises(BadRequest, match="at least 32 pixels a side, not 28"):
        models.build("cnv", models.ModelRequest((28, 28, 1), 10, PIXELS, 4, 1, 1))


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
