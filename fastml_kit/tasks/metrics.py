"""What a task is judged by: top-1 accuracy, areas under the ROC curve, the earth mover's distance.

``score`` computes a task's own metric from a network's outputs. The areas are scikit-learn's. What
a network that reconstructs gets wrong, frame by frame, is averaged over the frames of a clip (the
numbers in `TaskData.group`) before it is a score; the areas of the sections are averaged.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.errors import BadRequest, unknown_name
from fastml_kit.tasks import wafer
from fastml_kit.tasks.base import Part, TaskData

Floats = NDArray[np.float64]
#: The share of false alarms up to which DCASE's partial area counts (Koizumi et al. 2020,
#: arXiv:2006.05822).
MAX_FPR = 0.1


@dataclass(frozen=True)
class Metric:
    """A figure of merit; `score` takes the data, a mask of samples, and the outputs for them."""

    name: str
    unit: str
    higher_is_better: bool
    score: Callable[[TaskData, NDArray[np.bool_], Floats], float]


def score(data: TaskData, part: Part, outputs: ArrayLike) -> float:
    """Return the task's metric on the samples of `part`, given the `outputs` (n, ...) for them.

    Raises:
        BadRequest: the metric is unknown, there is not one output a sample, or the outputs do not
            fit it.
    """
    if data.metric not in METRICS:
        raise unknown_name("metric", data.metric, METRICS)
    mask = data.part == part
    values = np.asarray(outputs, dtype=np.float64)
    if not mask.any() or values.ndim < 1 or len(values) != mask.sum():
        raise BadRequest(
            f"{data.name}: {len(np.atleast_1d(values))} outputs for the {mask.sum()} samples of "
            f"the {part} part; one a sample is needed"
        )
    if not np.isfinite(values).all():
        raise BadRequest(f"{data.name}: some outputs are NaN or infinite")
    return METRICS[data.metric].score(data, mask, values.reshape(len(values), -1))


def reached(data: TaskData, value: float) -> bool:
    """Tell whether `value` of the task's metric meets its quality target."""
    if data.metric not in METRICS:
        raise unknown_name("metric", data.metric, METRICS)
    if METRICS[data.metric].higher_is_better:
        return value >= data.quality_target
    return value <= data.quality_target


def anomaly_scores(
    data: TaskData, mask: NDArray[np.bool_], outputs: Floats
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Return score, label and section of each clip among the samples in `mask`.

    A frame's score is the mean squared error of its reconstruction, a clip's the mean of its
    frames; where the data has no groups, a sample is a clip of its own.

    Raises:
        BadRequest: outputs are not as large as inputs, or a clip has two labels or sections.
    """
    x = data.x[mask].reshape(int(mask.sum()), -1).astype(np.float64)
    if outputs.shape != x.shape:
        raise BadRequest(f"{data.name}: outputs {outputs.shape} do not reconstruct {x.shape}")
    frames = np.mean((x - outputs) ** 2, axis=1)
    group = np.arange(len(x)) if data.group is None else data.group[mask]
    _, first, clip = np.unique(group, return_index=True, return_inverse=True)
    scores = np.bincount(clip, frames) / np.bincount(clip)
    y = data.y[mask]
    section = np.zeros_like(y) if data.section is None else data.section[mask]
    for what, numbers in (("label", y), ("section", section)):
        if not np.array_equal(numbers, numbers[first][clip]):
            raise BadRequest(f"{data.name}: a clip has more than one {what}")
    return scores, y[first], section[first]


def _accuracy(data: TaskData, mask: NDArray[np.bool_], outputs: Floats) -> float:
    if outputs.shape[1] != len(data.classes):
        raise BadRequest(f"{data.name}: {outputs.shape[1]} outputs for {len(data.classes)} classes")
    return float(np.mean(outputs.argmax(axis=1) == data.y[mask]))


def _area(max_fpr: float | None) -> Callable[[TaskData, NDArray[np.bool_], Floats], float]:
    """Return the area under the ROC curve, up to `max_fpr` and then as McClish standardises it."""

    def area(data: TaskData, mask: NDArray[np.bool_], outputs: Floats) -> float:
        from sklearn.metrics import roc_auc_score

        if data.objective == "reconstruct":
            scores, y, section = anomaly_scores(data, mask, outputs)
        elif len(data.classes) == 2 and outputs.shape[1] == 2:
            scores, y = outputs[:, 1] - outputs[:, 0], data.y[mask]
            section = np.zeros_like(y) if data.section is None else data.section[mask]
        else:
            raise BadRequest(
                f"{data.name}: an area under the ROC curve needs two classes and two outputs, or "
                f"a reconstruction; here are {len(data.classes)} and {outputs.shape[1]}"
            )
        areas = []
        for number in np.unique(section):
            chosen = section == number
            if len(np.unique(y[chosen])) < 2:
                raise BadRequest(f"{data.name}: section {number} has samples of one label only")
            areas.append(roc_auc_score(y[chosen], scores[chosen], max_fpr=max_fpr))
        return float(np.mean(areas))

    return area


def _emd(data: TaskData, mask: NDArray[np.bool_], outputs: Floats) -> float:
    return float(np.mean(wafer.emd(wafer.from_image(data.x[mask]), wafer.from_image(outputs))))


METRICS = {
    "accuracy": Metric("top-1 accuracy", "", True, _accuracy),
    "roc_auc": Metric("area under the ROC curve", "", True, _area(None)),
    "pauc": Metric(f"partial area under the ROC curve (to {MAX_FPR})", "", True, _area(MAX_FPR)),
    "emd": Metric("earth mover's distance", "sensor cells", False, _emd),
}
