"""Tasks: data, split, metric and quality target, one file a task. A task knows no model.

``tasks.load("digits")`` returns a `TaskData`. A task can be learnt on one or several data sets,
real ones and, where those may be absent, a synthetic stand-in that is named so: ``choose`` says
which one is taken, ``load("kws", "kws-synthetic")`` takes a particular one. Nothing is downloaded
here; ``fastml data fetch`` does that.

A new task is a module with `DATASETS`, the best one first, and a line in `TASKS`; the module is
imported on request.
"""

from importlib import import_module

from fastml_kit.errors import BadRequest, unknown_name
from fastml_kit.tasks.base import Dataset, TaskData
from fastml_kit.tasks.fetch import PACK, folder

TASKS = {
    "ad": "fastml_kit.tasks.ad",
    "digits": "fastml_kit.tasks.digits",
    "econt": "fastml_kit.tasks.econt",
    "ic": "fastml_kit.tasks.ic",
    "jets": "fastml_kit.tasks.jets",
    "kws": "fastml_kit.tasks.kws",
    "magic": "fastml_kit.tasks.magic",
}


def names() -> list[str]:
    """Return the names of all tasks."""
    return sorted(TASKS)


def datasets(task: str) -> tuple[Dataset, ...]:
    """Return the data sets of `task`, the best one first, stand-ins last.

    Raises:
        BadRequest: there is no such task.
    """
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    found: tuple[Dataset, ...] = import_module(TASKS[task]).DATASETS
    return found


def choose(task: str, dataset: str = "") -> str:
    """Return the name of the data set of `task` that `load` would take, without loading it.

    Without `dataset` it is the best one that is here. Only names of files are looked at.

    Raises:
        BadRequest: there is no such task or data set, or it is not here; the message says how to
            get it.
    """
    choices = datasets(task)
    if not dataset:
        here = [candidate.name for candidate in choices if candidate.here()]
        if here:
            return here[0]
        chosen = choices[0]
    else:
        found = [candidate for candidate in choices if candidate.name == dataset]
        if not found:
            raise unknown_name(f"data set of task {task}", dataset, [c.name for c in choices])
        chosen = found[0]
        if chosen.here():
            return chosen.name
    raise BadRequest(_absent(task, chosen))


def load(task: str, dataset: str = "") -> TaskData:
    """Load a data set of `task`, split and normalised as the task's module describes.

    Without `dataset` it is the best one that is here: see `choose`.

    Raises:
        BadRequest: there is no such task or data set, or it is not here.
        RunError: a file of it is damaged.
    """
    name = choose(task, dataset)
    return next(choice for choice in datasets(task) if choice.name == name).load()


def _absent(task: str, dataset: Dataset) -> str:
    files = ", ".join(file.name for file in dataset.files)
    way = f"`fastml data fetch {task} --dataset {dataset.name}` downloads it; or " * (
        dataset.fetchable()
    )
    place = f"{folder()} or ${PACK}"
    return f"data set {dataset.name} of task {task} is not here: {way}put {files} into {place}"


__all__ = ["TASKS", "Dataset", "TaskData", "choose", "datasets", "load", "names"]
