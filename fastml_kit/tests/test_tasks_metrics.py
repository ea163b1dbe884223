"""Metrics: equal to scikit-learn's and to plain definitions, and particular about their inputs."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from sklearn.metrics import accuracy_score, roc_auc_score, roc_curve

from fastml_kit.errors import BadRequest
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.tasks import metrics, wafer
from fastml_kit.tasks.base import PARTS, TaskData

SPEC = FixedSpec(8, 4)


def make(**fields):
    """Return data of 300 samples, 100 in each part, with random labels and inputs."""
    rng = np.random.default_rng(3)
    given = {
        "name": "toy",
        "x": SPEC.to_values(rng.integers(-64, 64, (300, 1, 1, 4))).astype(np.float32),
        "y": rng.integers(0, 2, 300),
        "part": np.repeat(PARTS, 100),
        "classes": ("no", "yes"),
        "input_spec": SPEC,
        "metric": "accuracy",
        "quality_target": 0.5,
        "source": "made up",
        "licence": "none",
        "citation": "none",
    }
    return TaskData(**{**given, **fields})


def outputs(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def rank_area(y, scores):
    """Return the share of pairs (anomalous, normal) in the right order; ties count half."""
    pairs = list(itertools.product(scores[y == 1], scores[y == 0]))
    return np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs])


def mcclish(y, scores, max_fpr):
    """Return the area below the ROC curve up to `max_fpr`, by hand, scaled to 0.5 for chance."""
    false, true, _ = roc_curve(y, scores, drop_intermediate=False)
    inside = false <= max_fpr
    grid = np.append(false[inside], max_fpr)
    curve = np.append(true[inside], np.interp(max_fpr, false, true))
    area, chance = np.trapezoid(curve, grid), max_fpr**2 / 2
    return 0.5 * (1 + (area - chance) / (max_fpr - chance))


@pytest.mark.parametrize("part", PARTS)
def test_accuracy_is_scikit_learns(part):
    data = make(y=np.random.default_rng(0).integers(0, 3, 300), classes=("a", "b", "c"))
    given = outputs(1, 100, 3)
    want = accuracy_score(data.select(part)[1], given.argmax(axis=1))
    assert metrics.score(data, part, given) == want


@given(seed=st.integers(0, 10**6), levels=st.integers(2, 200))
def test_areas_are_scikit_learns_and_those_of_the_definition(seed, levels):
    data = make(metric="roc_auc")
    given = np.round(outputs(seed, 100, 2) * levels) / levels  # few levels make ties
    y, scores = data.select("test")[1], given[:, 1] - given[:, 0]
    got = metrics.score(data, "test", given)
    assert got == roc_auc_score(y, scores)
    assert got == pytest.approx(rank_area(y, scores), abs=1e-12)
    partial = metrics.score(make(metric="pauc"), "test", given)
    assert partial == roc_auc_score(y, scores, max_fpr=metrics.MAX_FPR)
    assert partial == pytest.approx(mcclish(y, scores, 0.1), abs=1e-12)


def anomalies(**fields):
    """Return data of clips of five frames, of three machines, the frames of a clip scattered."""
    rng = np.random.default_rng(5)
    clip = np.concatenate([rng.permutation(np.repeat(np.arange(20), 5)) + 20 * n for n in range(3)])
    fields = {"metric": "roc_auc", "group": clip, "y": clip % 2, "section": clip % 3, **fields}
    return make(objective="reconstruct", **fields)


@pytest.mark.parametrize(("metric", "max_fpr"), [("roc_auc", None), ("pauc", 0.1)])
def test_a_clip_is_scored_by_its_frames_and_a_machine_by_its_clips(metric, max_fpr):
    data = anomalies(metric=metric)
    given = outputs(7, 100, 4)
    x = data.select("test")[0].reshape(100, 4).astype(float)
    mask = data.part == "test"
    clips = {}
    for frame, clip in enumerate(data.group[mask]):
        clips.setdefault(int(clip), []).append(np.mean((x[frame] - given[frame]) ** 2))
    areas = []
    for machine in range(3):
        mine = [clip for clip in clips if clip % 3 == machine]
        scores = [np.mean(clips[clip]) for clip in mine]
        areas.append(roc_auc_score([clip % 2 for clip in mine], scores, max_fpr=max_fpr))
    assert metrics.score(data, "test", given) == pytest.approx(np.mean(areas), abs=1e-12)


def test_without_groups_a_sample_is_a_clip():
    data = anomalies(group=None, section=None)
    given = outputs(7, 100, 4)
    x, y = data.select("test")
    frames = np.mean((x.reshape(100, 4).astype(float) - given) ** 2, axis=1)
    assert metrics.score(data, "test", given) == pytest.approx(roc_auc_score(y, frames), abs=1e-12)


@pytest.mark.parametrize(
    ("data", "given", "message"),
    [
        (make(metric="acuracy"), outputs(1, 100, 2), "Did you mean 'accuracy'?"),
        (make(), outputs(1, 99, 2), "99 outputs for the 100 samples of the test part"),
        (make(), outputs(1, 100, 3), "3 outputs for 2 classes"),
        (make(), np.full((100, 2), np.nan), "NaN or infinite"),
        (make(metric="roc_auc"), outputs(1, 100, 1), "two classes and two outputs"),
        (make(metric="roc_auc", y=np.zeros(300, int)), outputs(1, 100, 2), "of one label only"),
        (anomalies(), outputs(1, 100, 3), r"outputs \(100, 3\) do not reconstruct \(100, 4\)"),
        (anomalies(y=np.arange(300) % 2), outputs(1, 100, 4), "a clip has more than one label"),
        (make(metric="emd"), outputs(1, 100, 4), "a sensor's image has 8x8 pixels"),
    ],
)
def test_what_does_not_fit_is_refused(data, given, message):
    with pytest.raises(BadRequest, match=message):
        metrics.score(data, "test", given)


def test_a_target_is_reached_from_the_right_side():
    assert metrics.reached(make(), 0.5) and not metrics.reached(make(), 0.4999)
    distance = make(metric="emd")
    assert metrics.reached(distance, 0.5) and not metrics.reached(distance, 0.5001)


# The sensor and its earth mover's distance

#: Where the published code has some trigger cells, in cm; half of 2.4168015 is a sensor cell.
PUBLISHED = {
    0: (0.0, 0.0),
    1: (0.0, -2.4168015),
    7: (2.09301, -8.458794),
    12: (6.27903, -3.6251984),
    16: (-8.37204, -10.271393),
    19: (-2.0930138, -6.6461945),
    31: (-2.0930138, 0.6042023),
    32: (4.7092705, -12.386101),
    35: (-1.5697594, -8.760895),
    47: (-7.848793, -12.386101),
}


def test_trigger_cells_lie_where_the_published_code_has_them():
    placed = wafer.positions()
    assert placed.shape == (wafer.CELLS, 2)
    for number, place in PUBLISHED.items():
        assert placed[number] * 2.4168015 / 2 == pytest.approx(place, abs=2e-5)
    ground = wafer.distances()
    assert np.array_equal(ground, ground.T) and not ground.diagonal().any()
    nearest = (ground + 99 * np.eye(wafer.CELLS)).min(axis=1)
    assert nearest.max() == pytest.approx(2)  # a trigger cell is two sensor cells wide


def test_the_image_shows_each_cell_once():
    cells = np.arange(1, 2 * wafer.CELLS + 1).reshape(2, wafer.CELLS)
    image = wafer.to_image(cells)
    assert image.shape == (2, 8, 8, 1)
    assert np.array_equal(wafer.from_image(image), cells)
    assert np.array_equal(wafer.from_image(image.reshape(2, 64)), cells)
    assert not image[:, 4:, 4:].any() and np.count_nonzero(image) == cells.size
    # The corners of the published arrangement.
    assert image[0, [0, 0, 3, 3, 4, 7], [0, 7, 0, 7, 0, 0], 0].tolist() == [29, 13, 17, 16, 48, 45]


def test_neighbours_in_the_image_are_neighbours_on_the_sensor():
    ground, shown = wafer.distances(), wafer.ARRANGEMENT
    for one, two in ((shown[:, :-1], shown[:, 1:]), (shown[:-1], shown[1:])):
        both = (one >= 0) & (two >= 0)
        assert ground[one[both], two[both]].max() < 3


def linear_program(before, after):
    """Return the least cost of moving one distribution into another, by another solver."""
    cells = wafer.CELLS
    leave = np.kron(np.eye(cells), np.ones(cells))
    arrive = np.kron(np.ones(cells), np.eye(cells))
    sums = np.concatenate([before / before.sum(), after / after.sum()])
    found = linprog(wafer.distances().ravel(), A_eq=np.vstack([leave, arrive]), b_eq=sums)
    return found.fun


def test_the_distance_is_the_optimum_of_the_transport_problem():
    rng = np.random.default_rng(0)
    before = rng.integers(0, 50, (4, wafer.CELLS)) * (rng.random((4, wafer.CELLS)) < 0.3)
    after = rng.random((4, wafer.CELLS))
    want = [linear_program(*pair) for pair in zip(before, after, strict=True)]
    assert wafer.emd(before, after) == pytest.approx(want, abs=1e-9)


@given(one=st.integers(0, 47), two=st.integers(0, 47), charge=st.integers(1, 10**6))
def test_one_cell_moves_by_the_distance_of_the_cells(one, two, charge):
    before, after = np.zeros((1, 48)), np.zeros((1, 48))
    before[0, one], after[0, two] = charge, 1
    assert wafer.emd(before, after)[0] == pytest.approx(wafer.distances()[one, two], abs=1e-9)


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_it_is_a_distance_and_does_not_see_the_scale(seed, scale):
    rng = np.random.default_rng(seed)
    first, second, third = rng.random((3, 1, 48)) * (rng.random((3, 1, 48)) < 0.5) + 1e-6
    there = wafer.emd(first, second)[0]
    assert there == pytest.approx(wafer.emd(second, first * scale)[0], abs=1e-9)
    assert wafer.emd(first, first * scale)[0] == pytest.approx(0, abs=1e-9)
    assert there <= wafer.emd(first, third)[0] + wafer.emd(third, second)[0] + 1e-9


def test_nothing_left_is_as_far_as_can_be_and_less_than_nothing_is_nothing():
    before, after = np.ones((3, 48)), np.zeros((3, 48))
    after[1] = -1
    after[2, :] = -5.0
    after[2, 3] = 1
    far = wafer.distances().max()
    only = wafer.distances()[3].mean()
    assert wafer.emd(before, after) == pytest.approx([far, far, only])


def test_charges_that_cannot_be_compared_are_refused():
    with pytest.raises(BadRequest, match="1 sensors have no charge to move"):
        wafer.emd(np.zeros((1, 48)), np.ones((1, 48)))
    with pytest.raises(BadRequest, match=r"both must be \(n, 48\)"):
        wafer.emd(np.ones((2, 48)), np.ones((1, 48)))


def test_the_solver_brings_no_framework():
    code = (
        "import os, sys; from fastml_kit.tasks import wafer; import numpy as np;"
        "wafer.emd(np.ones((1, 48)), np.ones((1, 48)));"
        "print(*({'tensorflow', 'torch', 'jax'} & sys.modules.keys()),"
        "*(name for name in os.environ if name.startswith('POT_')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()
