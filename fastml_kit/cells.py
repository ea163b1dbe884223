"""Which cells this kernel has executed: what they assign, and whether they are the saved ones."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastml_kit import sources
from fastml_kit.errors import RunError

#: When this process loaded the package. Sources that are newer may not be what it runs.
LOADED = time.time()


@dataclass(frozen=True)
class Cells:
    """The kernel's cells, seen through its ``globals()``. Outside of IPython there are none."""

    namespace: Mapping[str, Any]

    @property
    def count(self) -> int:
        """How many cells were executed, the running one included."""
        return len(self.namespace.get("In", ()))

    def assignments(self) -> Iterator[tuple[str, set[str]]]:
        """Yield each cell that holds nothing but ``NAME = literal``, and the names it assigns."""
        for cell in self.namespace.get("In", ()):
            try:
                names = set(sources.literals(cell))
            except RunError:
                continue
            if names:
                yield cell, names

    def differ_from(self, notebook: Path, *, since: int) -> str | None:
        """Say how what ran differs from the saved `notebook`; `None` if it does not.

        The cells from number `since` on must be saved ones, and all saved cells up to the running
        one must have been executed. The parameters cell may differ: its values are known.
        """
        if "get_ipython" not in self.namespace:
            return None
        if any(path.stat().st_mtime > LOADED for path in sources.files(notebook)):
            return "source files changed after this kernel loaded them"
        history = self.namespace["get_ipython"]().history_manager.input_hist_raw
        ran = [cell.strip() for cell in history]
        cells = sources.code_cells(notebook)
        saved = [cell["source"].strip() for cell in cells if "parameters" not in cell["tags"]]
        if not set(ran[since - 1 :]) <= set(saved):
            return "a cell ran that is not in the saved notebook"
        if not set(saved[: saved.index(ran[-1])]) - {""} <= set(ran):
            return "a cell of the saved notebook did not run"
        return None
