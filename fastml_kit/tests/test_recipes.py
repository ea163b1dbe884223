"""Recipes: what they promise about seeds, schedules, augmentation, stopping and QAT from float."""

import dataclasses

import numpy as np
import pytest

from fastml_kit import models
from fastml_kit.errors import BadRequest
from fastml_kit.models import augment, recipes, train
from fastml_kit.models.recipes import Augmentation, Recipe
from fastml_kit.tests import families

QUICK = Recipe(batch=16)


def trained(name, recipe, epochs=3, **options):
    case = families.CASES[name]
    data = families.data(case)
    model, history = train.train(
        name, case.request, data, epochs=epochs, seed=1, recipe=recipe, **options
    )
    return train.predict(model, data.x), history


def images(count=3, side=8):
    """Return images in which every pixel differs from its neighbours smoothly."""
    row, column = np.mgrid[:side, :side] / side
    first = np.stack([row, column], axis=-1).astype(np.float32)
    return np.stack([first * (1 - 0.005 * number) for number in range(count)])


def test_a_recipe_for_every_named_family():
    assert set(recipes.RECIPES) <= set(models.names())
    assert recipes.of("mlp") == Recipe()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch=0 is out of range"),
        ({"float_share": 1.0}, "float_share=1.0 is out of range"),
        ({"schedule": "cosin"}, "no schedule 'cosin'; there are constant, cosine"),
        ({"loss": "hinge"}, "no loss 'hinge'"),
    ],
)
def test_an_impossible_recipe_is_refused(options, message):
    with pytest.raises(BadRequest, match=message):
        Recipe(**options)


def test_a_loss_that_does_not_fit_the_objective_is_refused():
    with pytest.raises(BadRequest, match="to learn classes, and the recipe's loss is mse"):
        trained("mlp", Recipe(loss="mse"))


def test_augmented_training_is_repeatable_and_the_seed_matters():
    recipe = dataclasses.replace(QUICK, augmentation=Augmentation(shift=(0.2, 0.2), noise=0.1))
    once, again = (trained("mlp", recipe)[0] for _ in range(2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, trained("mlp", QUICK)[0])


@pytest.mark.parametrize("schedule", recipes.SCHEDULES)
def test_every_schedule_learns(schedule):
    recipe = dataclasses.replace(QUICK, schedule=schedule, warmup_epochs=1)
    _, history = trained("mlp", recipe, epochs=6)
    assert history["loss"][-1] < history["loss"][0]


def test_the_cosine_ends_at_zero_and_warms_up():
    recipe = Recipe(learning_rate=0.1, warmup_epochs=2)
    rate = train._rate(recipe, steps=10, epochs=8)
    values = [float(rate(step)) for step in range(81)]
    assert values[0] == pytest.approx(0.005)
    assert max(values) == values[20] == pytest.approx(0.1)
    assert values[-1] == pytest.approx(0, abs=1e-6)
    fallen = train._rate(dataclasses.replace(recipe, schedule="exponential"), 10, 8)
    assert float(fallen(15)) == pytest.approx(0.1 * 0.99)


def test_early_stopping_stops_and_keeps_the_best():
    """With a rate that is far too high the validation loss rises; the best epoch's is kept."""
    case = families.CASES["mlp"]
    data = families.data(case)
    recipe = Recipe(learning_rate=0.5, batch=16, schedule="constant", patience=2)
    model, history = train.train(
        "mlp", case.request.float_twin(), data, epochs=40, seed=1, recipe=recipe
    )
    best = int(np.argmin(history["val_loss"]))
    assert len(history["loss"]) == best + 3 < 40
    x, y = data.select("validation")
    logits = train.predict(model, x)
    assert train.accuracy(logits, y) == pytest.approx(history["val_accuracy"][best])


def test_quantized_training_begins_from_the_float_twin():
    """The history holds both parts, and the quantized one begins where float has ended."""
    recipe = dataclasses.replace(QUICK, float_share=0.75, fine_rate=1e-4)
    epochs = []
    _, history = trained(
        "magic_mlp", recipe, epochs=20, on_epoch=lambda epoch, _: epochs.append(epoch)
    )
    assert epochs == list(range(20))
    assert len(history["loss"]) == 20
    scratch = trained("magic_mlp", QUICK, epochs=1)[1]["val_loss"][0]
    assert history["val_loss"][15] < scratch


def test_two_epochs_are_the_least_that_begin_in_float():
    recipe = dataclasses.replace(QUICK, float_share=0.01)
    assert [recipe.float_epochs(n) for n in (2, 3, 100)] == [1, 1, 1]
    assert dataclasses.replace(QUICK, float_share=0.99).float_epochs(10) == 9
    with pytest.raises(BadRequest, match="needs two epochs at least"):
        recipe.float_epochs(1)


def test_a_mirror_is_a_mirror():
    x = images(64)
    got = augment.moved(x, Augmentation(flip=True), np.random.default_rng(0))
    whole = [np.allclose(g, o, atol=1e-6) for g, o in zip(got, x, strict=True)]
    turned = [np.allclose(g, o[:, ::-1], atol=1e-6) for g, o in zip(got, x, strict=True)]
    assert all(np.logical_xor(whole, turned))
    assert 16 < sum(turned) < 48


def test_a_shift_moves_the_height_only_when_told_so():
    """The first channel changes downwards alone, the second across alone."""
    x = images(32)
    down = augment.moved(x, Augmentation(shift=(0.25, 0)), np.random.default_rng(0))
    assert np.allclose(down[..., 1], x[..., 1], atol=1e-6)
    assert not np.allclose(down[..., 0], x[..., 0], atol=0.05)
    assert np.abs(down - x).max() <= 0.25 + 1e-6  # a quarter of the image, whose slope is 1
    stretched = augment.moved(x, Augmentation(stretch=0.3), np.random.default_rng(0))
    assert np.allclose(stretched[..., 1], x[..., 1], atol=1e-6)
    assert not np.allclose(stretched[..., 0], x[..., 0], atol=0.02)


def test_a_turn_keeps_the_middle_and_the_angle_is_bounded():
    x = images(32, side=9)
    got = augment.moved(x, Augmentation(rotation_degrees=10), np.random.default_rng(0))
    assert np.allclose(got[:, 4, 4], x[:, 4, 4], atol=1e-5)
    # On a plane of slope 1 a pixel two to the right rises by up to two times sin(10 degrees).
    rise = (got[:, 4, 6, 0] - x[:, 4, 6, 0]) / x[:, 4, 6, 0] * 4
    assert 0.1 < np.abs(rise).max() <= 2 * np.sin(np.radians(10)) + 1e-3


def test_noise_is_measured_by_each_column_and_gain_is_the_first_ones():
    rng = np.random.default_rng(0)
    x = rng.normal(0, [[[1], [10]]], (500, 6, 2, 1)).astype(np.float32)
    spread = x.std(axis=(0, 1), keepdims=True)
    added = augment.noisy(x, Augmentation(noise=0.5), spread, rng) - x
    assert added.std(axis=(0, 1)).ravel() == pytest.approx([0.5, 5], rel=0.1)
    added = augment.noisy(x, Augmentation(gain=0.5), spread, rng) - x
    assert np.all(added[:, :, 1] == 0)
    assert np.ptp(added[:, :, 0], axis=1).max() < 1e-5  # one number a sample
    assert added[:, 0, 0].std() == pytest.approx(0.5, rel=0.15)


def test_mixup_mixes_samples_and_targets_alike():
    x = np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1)
    one_hot = np.eye(8, dtype=np.float32)
    how = Augmentation(mixup=1.0)
    batches = augment.Batches(x, one_hot, size=8, seed=1, how=how, shape=(1,))
    mixed, target = batches[0]
    assert np.allclose(mixed[:, 0], target @ np.arange(8), atol=1e-5)
    assert np.allclose(target.sum(axis=1), 1)
    assert (target > 0).sum() > 8


def test_epochs_and_batches_differ_and_cover_every_sample():
    x = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    options = {"size": 4, "seed": 1, "how": Augmentation(), "shape": (1,)}
    batches = augment.Batches(x, x.reshape(10, 1), **options)
    epochs = []
    for _ in range(2):
        epochs.append(np.concatenate([batches[i][0].ravel() for i in range(len(batches))]))
        batches.on_epoch_end()
    assert [len(batches[i][0]) for i in range(3)] == [4, 4, 2]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert not np.array_equal(*epochs)


def test_an_autoencoder_learns_what_it_is_shown():
    """Its target is the augmented sample, not the one that it was made from."""
    x = images(8)
    how = Augmentation(noise=0.5)
    batches = augment.Batches(x, None, size=8, seed=1, how=how, shape=x.shape[1:])
    shown, target = batches[0]
    assert np.array_equal(shown.reshape(8, -1), target)
    assert not np.isin(target, x.reshape(8, -1)).all()
