"""Random QKeras models are exported exactly or refused by name; there is no third outcome."""

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastml_kit.graph import fast, reference
from fastml_kit.models import train
from fastml_kit.models.keras2 import keras
from fastml_kit.tests import agreement, random_models

SEEDS = range(50)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Draw and judge a model for each seed, once for all tests: seed -> (drawn, verdict)."""
    folder = tmp_path_factory.mktemp("random")
    found = {}
    for seed in SEEDS:
        keras.backend.clear_session()
        drawn = random_models.draw(Random(seed))
        found[seed] = drawn, agreement.judge(drawn, folder)
    return found


def test_every_model_is_exact_or_refused_by_name(outcomes):
    failed = {seed: v.detail for seed, (_, v) in outcomes.items() if not v.sound}
    assert not failed, "rebuild one with: ci/bench/random_models.py --only SEED"


def test_models_without_an_exact_form_are_refused_and_most_others_are_not(outcomes):
    for seed, (drawn, verdict) in outcomes.items():
        assert verdict.outcome == "refused" or not drawn.refused, seed
    whole = [verdict.outcome for drawn, verdict in outcomes.values() if not drawn.refused]
    assert len(whole) < len(SEEDS), "nothing was drawn that must be refused"
    assert np.mean([outcome == "exact" for outcome in whole]) > 0.6


def test_exact_models_say_many_things(outcomes):
    distinct = [v.distinct for _, v in outcomes.values() if v.outcome == "exact"]
    assert np.median(distinct) >= 8, "networks that say nothing prove nothing"


def test_the_models_hold_many_kinds_of_layers_and_quantizers(outcomes):
    kinds = set().union(*(d.kinds for d, v in outcomes.values() if v.outcome == "exact"))
    assert len(kinds) > 40
    assert {"QDense", "QConv2D", "Add", "Concatenate", "ternary"} <= kinds


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.randoms(use_true_random=False))
def test_hypothesis_finds_no_third_outcome(tmp_path_factory, random):
    keras.backend.clear_session()
    drawn = random_models.draw(random)
    verdict = agreement.judge(drawn, tmp_path_factory.mktemp("drawn"))
    assert verdict.sound, f"{verdict.detail}\n{agreement.described(drawn.model)}"


def first(outcomes, outcome):
    return next(drawn for drawn, verdict in outcomes.values() if verdict.outcome == outcome)


@pytest.mark.parametrize(
    ("module", "engine"), [(reference, "keras"), (fast, "fast")], ids=["reference", "fast"]
)
def test_one_code_that_differs_in_one_sample_fails(outcomes, tmp_path, monkeypatch, module, engine):
    right = module.run

    def wrong(graph, x):
        values = right(graph, x)
        values.flat[-1] += 2.0**-20
        return values

    monkeypatch.setattr(module, "run", wrong)
    verdict = agreement.judge(first(outcomes, "exact"), tmp_path)
    assert verdict.outcome == "failed"
    assert engine in verdict.detail


def test_an_export_of_what_has_no_exact_form_fails(outcomes, tmp_path):
    drawn = first(outcomes, "exact")
    claimed = random_models.Drawn(drawn.model, drawn.x, drawn.logits, drawn.kinds, ("bernoulli",))
    assert agreement.judge(claimed, tmp_path).detail == "exported as exact, and holds: bernoulli"


def test_samples_hold_ties_extremes_saturation_and_both_zeros():
    from qkeras import quantized_bits, quantized_relu

    rng = np.random.default_rng(0)
    for quantizer, low, high, step in [
        (quantized_bits(4, 1, alpha=1), -2.0, 1.75, 0.25),
        (quantized_bits(4, 1, 0, False, alpha=1), 0.0, 1.875, 0.125),
        (quantized_relu(3, 2), 0.0, 3.5, 0.5),
    ]:
        x = random_models.samples(quantizer, (20,), rng)
        assert (x[0] == low).all()
        assert (x[1] == high).all()
        assert x.min() < low
        assert x.max() > high
        assert (np.abs(x / step % 1) == 0.5).any()
        assert not np.signbit(x[2]).any()
        assert np.signbit(x[3]).all()


def test_the_same_seed_draws_the_same_model():
    one, two = (random_models.draw(Random(3)) for _ in range(2))
    assert np.array_equal(one.x, two.x)
    assert np.array_equal(one.logits(one.x), two.logits(two.x))
    assert one.kinds == two.kinds


def judged(layers, x, folder):
    """Judge a chain of layers, whose weights are as large as they get."""
    model = keras.Sequential([keras.Input(shape=x.shape[1:]), *layers])
    for layer in model.layers:
        signs = [np.sign(w + 0.5 - np.arange(w.shape[-1]) % 2) for w in layer.get_weights()]
        layer.set_weights([2.0**20 * sign for sign in signs])
    train.freeze(model)
    drawn = random_models.Drawn(model, x.astype(np.float32), model, Counter(), ())
    return agreement.judge(drawn, folder)


@pytest.mark.parametrize(
    ("step_bits", "activation", "outcome"),
    [
        (0, "quantized_bits(8,0,alpha=1)", "refused"),
        (0, "quantized_bits(8,12,alpha=1)", "exact"),
        (0, "quantized_relu(8,12,negative_slope=0.25)", "exact"),
        (11, "quantized_relu(8,0,negative_slope=0.25)", "refused"),
        (11, "binary(alpha=0.125)", "refused"),
        (11, "quantized_relu(8,0)", "refused"),
    ],
)
def test_a_large_sum_that_saturates_a_fine_grid_is_refused_where_keras_rounds(
    tmp_path, step_bits, activation, outcome
):
    """QKeras's x + (q(x) - x) needs the bits of both; on their own both fit."""
    from qkeras import QActivation, QDense, quantized_bits

    step = 2.0**step_bits
    x = step * np.random.default_rng(0).integers(-128, 128, (16, 64))
    x[:4] = 127 * step
    x[4:8] = -128 * step
    layers = [
        QActivation(quantized_bits(8, 7 + step_bits, alpha=1)),
        QDense(2, kernel_quantizer=quantized_bits(8, 7, alpha=1), use_bias=False),
        QActivation(activation),
    ]
    assert judged(layers, x, tmp_path).outcome == outcome


def test_a_layer_used_twice_may_have_a_namesake(tmp_path):
    from qkeras import QActivation, QDense, quantized_bits

    quantizer = quantized_bits(4, 1, 1, alpha=1)
    shared = QDense(3, kernel_quantizer=quantizer, use_bias=False, name="d")
    last = QDense(3, kernel_quantizer=quantizer, use_bias=False, name="d_2")
    x = tensor = keras.Input(shape=(3,))
    for layer in (shared, shared, last):
        tensor = layer(QActivation(quantizer)(tensor))
    model = keras.Model(x, tensor)
    train.freeze(model)
    values = random_models.samples(quantizer, (3,), np.random.default_rng(0))
    drawn = random_models.Drawn(model, values, model, Counter(), ())
    assert agreement.judge(drawn, tmp_path).outcome == "exact"
