"""What happens in a run, as it happens: one event a line, for whoever shows or keeps it."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Event:
    """One thing that happened. `text` is a line ready to be shown, without a full stop."""

    kind: Literal["wait", "start", "cell", "end"]
    stage: str
    text: str
    cell: int = 0  # code cells, counted from 1
    cells: int = 0


OnEvent = Callable[[Event], None]


def first_words(source: str, width: int = 60) -> str:
    """Return the beginning of a cell, to know it by."""
    lines = [line for line in source.splitlines() if line.strip() and not line.startswith("%")]
    return textwrap.shorten(lines[0], width, placeholder=" ...") if lines else ""
