"""What a task hands over: samples with a fixed-point format, labels, and a split that is kept."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import BadRequest
from fastml_kit.fixedpoint import FixedSpec

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class TaskData:
    """The data of one task.

    `x` is float32 of shape (n, height, width, channels), and every value is a code of
    `input_spec`: what the network sees is exactly what a wire can carry. `y` holds the n class
    numbers, `part` the n names of the split that each sample belongs to.
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

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.part):
            raise BadRequest(
                f"{self.name}: {len(self.x)} samples, {len(self.y)} labels, "
                f"{len(self.part)} split marks; they must be equally many"
            )
        if not self.input_spec.on_grid(self.x).all():
            raise BadRequest(f"{self.name}: some inputs are no codes of {self.input_spec}")

    def select(self, part: Part) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return inputs and labels of one part of the split."""
        mask = self.part == part
        return self.x[mask], self.y[mask]


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
