"""What a task hands over: samples with a fixed-point format, labels, and a split that is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import BadRequest
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.tasks.fetch import File, download, find

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
Objective = Literal["classes", "reconstruct"]
#: Up to how many samples of a data set are compared whole.
COMPARE_ALL = 5000


@dataclass(frozen=True)
class TaskData:
    """The data of one task.

    `x` is float32 of shape (n, height, width, channels), and every value is a code of
    `input_spec`: what the network sees is exactly what a wire can carry. `y` holds the n class
    numbers, `part` the n names of the split that each sample belongs to. `dataset` names the data
    set, of those that the task has.

    `group` holds n numbers: of the speaker, the clip, the duplicates that a sample belongs to. No
    group is on two sides of the split. `section` holds n numbers, too: what the metric is computed
    on by itself, to be averaged afterwards, as MLPerf Tiny does for the machines of ``ad``.

    `objective` is what a network learns: the ``classes``, or to ``reconstruct`` `x` from `x`.
    `metric` is a key of `fastml_kit.tasks.metrics.METRICS`, and `quality_target` a value of it,
    whose origin `target_source` tells.
    """

    name: str
    x: NDArray[np.float32]
    y: NDArray[np.int64]
    part: NDArray[np.str_]
    classes: tuple[str, ...]
    input_spec: FixedSpec
    metric: str
    quality_target: float
    source: str
    licence: str
    citation: str
    synthetic: bool = False
    dataset: str = ""
    group: NDArray[np.int64] | None = None
    section: NDArray[np.int64] | None = None
    objective: Objective = "classes"
    target_source: str = "the kit's own"

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.part):
            raise BadRequest(
                f"{self.name}: {len(self.x)} samples, {len(self.y)} labels, "
                f"{len(self.part)} split marks; they must be equally many"
            )
        for what, numbers in (("groups", self.group), ("sections", self.section)):
            if numbers is not None and len(numbers) != len(self.x):
                raise BadRequest(
                    f"{self.name}: {len(self.x)} samples, but {len(numbers)} {what}; "
                    "they must be equally many"
                )
        if not _on_grid(self.x, self.input_spec):
            raise BadRequest(f"{self.name}: some inputs are no codes of {self.input_spec}")
        if self.group is not None and (torn := _torn(self.group, self.part)):
            raise BadRequest(
                f"{self.name}: {len(torn)} groups are on two sides of the split, the first is "
                f"{torn[0]}; a group belongs to one part"
            )

    @property
    def outputs(self) -> int:
        """How many outputs a network for this task has: one a class, or one an input."""
        return len(self.classes) if self.objective == "classes" else int(self.x[0].size)

    @property
    def compared(self) -> NDArray[np.bool_]:
        """The samples (n,) that engines are compared on: all of a small set, else the test part."""
        return (self.part == "test") | (len(self.x) <= COMPARE_ALL)

    def select(self, part: Part) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return inputs and labels of one part of the split."""
        mask = self.part == part
        return self.x[mask], self.y[mask]


@dataclass(frozen=True)
class Dataset:
    """One of the data sets that a task can be learnt on.

    `name` is how it is asked for, `title` how a table or a figure calls it. It is made of `files`,
    which lie in $FASTML_DATA or in the cache; one without files needs none, because it comes with
    a library or is made by the kit. `obtain(progress=...)` downloads files whose addresses have to
    be asked for.
    """

    name: str
    title: str
    load: Callable[[], TaskData]
    files: tuple[File, ...] = ()
    synthetic: bool = False
    obtain: Callable[..., None] | None = None

    def here(self) -> bool:
        """Whether it can be loaded without a download; looks at names of files only."""
        return all(find(file) is not None for file in self.files)

    def fetchable(self) -> bool:
        """Whether `download` can get it."""
        return self.obtain is not None or any(file.urls for file in self.files)

    def download(self, *, progress: bool = False) -> None:
        """Download what is not here yet; `progress` shows bars on standard error.

        Raises:
            BadRequest: it cannot be downloaded, only put in place by hand.
            RunError: it cannot be had, or what came is not it.
        """
        if self.obtain is not None and not self.here():
            self.obtain(progress=progress)
        for file in self.files:
            download(file, progress=progress)


def split_by_group(
    y: NDArray[np.int64], groups: NDArray[np.int64], *, fractions: tuple[float, float], seed: int
) -> NDArray[np.str_]:
    """Return a split mark for each sample, stratified by class, no group on two sides.

    `fractions` are the shares of validation and test. Samples with the same number in `groups`
    (duplicates, one speaker, one machine) always fall into the same part.
    """
    rng = np.random.default_rng(seed)
    part = np.full(len(y), "train", dtype="<U10")
    # A group belongs to the class of its first member, so that a class gets its share of groups.
    first = np.unique(groups, return_index=True)[1]
    for label in np.unique(y):
        members = rng.permutation(groups[first[y[first] == label]])
        validation, test = (round(len(members) * share) for share in fractions)
        part[np.isin(groups, members[:validation])] = "validation"
        part[np.isin(groups, members[validation : validation + test])] = "test"
    return part


def _torn(group: NDArray[np.int64], part: NDArray[np.str_]) -> list[int]:
    """Return the groups that more than one part has samples of."""
    pairs = np.unique(np.column_stack([group, np.searchsorted(sorted(PARTS), part)]), axis=0)
    found, times = np.unique(pairs[:, 0], return_counts=True)
    torn: list[int] = found[times > 1].tolist()
    return torn


def _on_grid(x: NDArray[np.float32], spec: FixedSpec) -> bool:
    """Whether all of `x` is on the grid; in pieces, for in float64 it may be gigabytes at once."""
    flat = x.reshape(-1)
    return all(
        spec.on_grid(flat[start : start + 2**18]).all() for start in range(0, flat.size, 2**18)
    )
