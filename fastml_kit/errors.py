"""Every error the kit raises on purpose: what is wrong, which choices there are, and the fix.

An error carries one sentence that a reader can act on. When it translates a library's error,
it is raised ``from`` that error, so that the cause stays visible to whoever wants it.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class FastmlError(Exception):
    """Base of all errors that the kit raises on purpose."""


class BadRequest(FastmlError):
    """The request itself is wrong: an unknown name, a wrong type, a value out of range."""


class ToolNotFound(FastmlError):
    """A program or package that this step needs is not on this machine."""


class UnsupportedModel(FastmlError):
    """A layer, node or quantizer that has no exact form where it is asked for."""


class MismatchError(FastmlError):
    """Two engines that must agree gave different integer codes."""


class BuildFailed(FastmlError):
    """A tool ran and failed; the message ends with the tail of its log."""


class BoardError(FastmlError):
    """A board does not answer, answers wrongly, or is not the one that was asked for."""


class RunError(FastmlError):
    """A run folder is missing something, is damaged, or cannot be written."""


class StageFailed(FastmlError):
    """A notebook did not reach its end; the message says which cell and why."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the choice closest to `name`, or an empty string."""
    spelt = {choice.lower(): choice for choice in choices}
    found = get_close_matches(name.lower(), list(spelt), n=1, cutoff=0.6)
    return f" Did you mean {spelt[found[0]]!r}?" if found else ""


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> BadRequest:
    """Return the error for a `name` that is not one of `choices`, nearest match included."""
    choices = sorted(choices)
    return BadRequest(f"no {kind} {name!r}.{nearest(name, choices)} Choices: {', '.join(choices)}.")
