"""A stage's log.txt: what its kernel printed, cell by cell, and why it ended."""

import os
from pathlib import Path

from fastml_kit.manifest import now


class Log:
    """A stage's log.txt. A full disk costs its end, not the run: what matters fails by itself."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.lost: OSError | None = None

    def fileno(self) -> int:
        """Return the file descriptor, for processes that write here too."""
        return self._fd

    def write(self, text: str) -> None:
        """Append `text`, at once."""
        try:
            os.write(self._fd, text.encode())
        except OSError as error:
            self.lost = error

    def note(self, text: str) -> None:
        """Append a line of our own, with the time."""
        self.write(f"-- {now()} {text}\n")

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error:
            self.note(f"{type(error).__name__}: {error}")
        os.close(self._fd)
