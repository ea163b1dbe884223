"""Tasks: what they promise about their data must hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastml_kit import tasks
from fastml_kit.errors import BadRequest
from fastml_kit.tasks import fetch, magic, metrics
from fastml_kit.tasks.base import PARTS, Dataset, TaskData, split_by_group


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
    for ask in (tasks.load, tasks.choose, tasks.datasets):
        with pytest.raises(BadRequest, match=r"no task 'didgits'\. Did you mean 'digits'\?"):
            ask("didgits")
    with pytest.raises(BadRequest, match=r"task magic 'uci-mgic'\. Did you mean 'uci-magic'\?"):
        tasks.choose("magic", "uci-mgic")


# Data sets: which one is taken, and what is said of one that is not here


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTML_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTML_DATA", raising=False)
    return tmp_path / "cache" / "data"


@pytest.mark.parametrize("task", tasks.names())
def test_every_task_runs_without_a_download(nothing_here, task):
    names = [found.name for found in tasks.datasets(task)]
    assert len(set(names)) == len(names)
    assert tasks.choose(task) in names and not nothing_here.exists()
    assert [found.name.endswith("-synthetic") for found in tasks.datasets(task)] == [
        found.synthetic for found in tasks.datasets(task)
    ]
    assert [found.synthetic for found in tasks.datasets(task)] == sorted(
        found.synthetic for found in tasks.datasets(task)
    ), "stand-ins come last"


@pytest.mark.parametrize("task", tasks.names())
def test_what_is_loaded_says_which_data_set_it_is(nothing_here, task):
    data = tasks.load(task)
    chosen = next(found for found in tasks.datasets(task) if found.name == data.dataset)
    assert data.name == task and data.dataset == tasks.choose(task)
    assert data.synthetic == chosen.synthetic and data.metric in metrics.METRICS
    assert set(data.part) == set(PARTS)


def test_a_data_set_that_is_named_but_not_here_is_never_replaced(nothing_here):
    way = "`fastml data fetch magic --dataset uci-magic` downloads it; or put magic.gamma"
    for ask in (tasks.choose, tasks.load):
        with pytest.raises(BadRequest, match=f"uci-magic of task magic is not here: {way}"):
            ask("magic", "uci-magic")
    with pytest.raises(BadRequest, match="uci-magic-70 of task magic is not here: put science/"):
        tasks.load("magic", "uci-magic-70")
    assert tasks.load("magic", "magic-synthetic").synthetic


def test_the_best_that_is_here_is_chosen_by_its_name_alone(nothing_here, tmp_path, monkeypatch):
    assert tasks.choose("magic") == "magic-synthetic"
    monkeypatch.setenv("FASTML_DATA", str(tmp_path / "pack"))
    for file, name in ((magic.PART, "uci-magic-70"), (magic.WHOLE, "uci-magic")):
        path = tmp_path / "pack" / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked into")
        assert tasks.choose("magic") == name
    assert tasks.choose("magic", "magic-synthetic") == "magic-synthetic"


def test_a_task_without_stand_in_says_what_it_lacks(nothing_here, monkeypatch):
    lacking = Dataset("lacking", "x", magic.load_part, files=(fetch.File("some/file.npz"),))
    monkeypatch.setattr(magic, "DATASETS", (lacking,))
    with pytest.raises(BadRequest, match=r"lacking of task magic is not here: put some/file\.npz"):
        tasks.choose("magic")


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


def test_unequal_groups_are_refused(digits):
    for name in ("group", "section"):
        with pytest.raises(BadRequest, match=f"1797 samples, but 1796 {name}s"):
            TaskData(**{**vars(digits), name: np.zeros(1796, dtype=np.int64)})


@given(seed=st.integers(0, 10**6))
def test_a_group_on_two_sides_is_refused(digits, seed):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 4000, len(digits.x))
    torn = sorted(g for g in set(group.tolist()) if len(set(digits.part[group == g])) > 1)
    with pytest.raises(BadRequest, match=f"{len(torn)} groups are .* the first is {torn[0]};"):
        TaskData(**{**vars(digits), "group": group})
