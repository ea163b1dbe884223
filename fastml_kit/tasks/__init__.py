"""Tasks: data, split, metric and quality target, one file a task. A task knows no model.

``tasks.load("digits")`` returns a `TaskData`. A new task is a module with a ``load()`` function
and a line in `TASKS`; the module is imported on request.
"""

from importlib import import_module

from fastml_kit.errors import unknown_name
from fastml_kit.tasks.base import TaskData

TASKS = {
    "digits": "fastml_kit.tasks.digits",
    "kws": "fastml_kit.tasks.kws",
}


def names() -> list[str]:
    """Return the names of all tasks."""
    return sorted(TASKS)


def load(name: str) -> TaskData:
    """Load the task `name`, split and normalised as its module describes.

    Raises:
        BadRequest: there is no such task.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    data: TaskData = import_module(TASKS[name]).load()
    return data


__all__ = ["TASKS", "TaskData", "load", "names"]
