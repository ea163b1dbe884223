"""Tasks: what they promise about their data must hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastml_kit import tasks
from fastml_kit.errors import BadRequest
from fastml_kit.tasks.base import PARTS, TaskData, split_by_group


@pytest.fixture(scope="module")
def digits() -> TaskData:
    return tasks.load("digits")


def test_digits_are_the_whole_set(digits):
    assert digits.x.shape == (1797, 8, 8, 1)
    assert {part: int((digits.part == part).sum()) for part in PARTS} == {
        "train": 1169,
        "validation": 269,
        "test": 359,
    }
    assert len(digits.classes) == 10


def test_each_class_is_in_each_part_alike(digits):
    for part in PARTS:
        counts = np.bincount(digits.select(part)[1], minlength=10)
        assert counts.min() > 0.9 * counts.max() - 2


def test_loading_twice_gives_the_same(digits):
    again = tasks.load("digits")
    assert np.array_equal(again.x, digits.x) and np.array_equal(again.part, digits.part)


def test_an_unknown_task_is_named_with_the_nearest():
    with pytest.raises(BadRequest, match=r"no task 'didgits'\. Did you mean 'digits'\?"):
        tasks.load("didgits")


@given(
    groups=st.lists(st.integers(0, 20), min_size=30, max_size=80),
    seed=st.integers(0, 5),
)
def test_no_group_is_on_two_sides(groups, seed):
    groups = np.array(groups)
    y = groups % 3
    part = split_by_group(y, groups, fractions=(0.2, 0.3), seed=seed)
    assert all(len(set(part[groups == group])) == 1 for group in np.unique(groups))
    assert set(part) <= set(PARTS)


def test_data_off_its_own_grid_is_refused(digits):
    with pytest.raises(BadRequest, match="no codes of ufixed<5,1>"):
        TaskData(**{**vars(digits), "x": digits.x + 0.01})


def test_unequal_lengths_are_refused(digits):
    with pytest.raises(BadRequest, match="equally many"):
        TaskData(**{**vars(digits), "y": digits.y[:-1]})
