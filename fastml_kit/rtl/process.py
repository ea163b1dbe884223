"""Running a tool: in its own folder, with its own log, and with an error that shows the log."""

import logging
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastml_kit.errors import BuildFailed

logger = logging.getLogger(__name__)


def run_logged(
    command: Sequence[str | Path | float],
    *,
    folder: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> float:
    """Run `command` in `folder`, write all that it says to `log`, and return the seconds it took.

    `environment` is added to this process's own.

    Raises:
        BuildFailed: it ended with another status than 0; the message has the log's last lines.
    """
    words = [str(word) for word in command]
    logger.info("running %s in %s", words[0], folder)
    start = time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            words,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise BuildFailed(
            f"{Path(words[0]).name} ended with status {done.returncode}; {log} ends:\n{tail(log)}"
        )
    return time.perf_counter() - start


def tail(log: Path, lines: int = 15) -> str:
    """Return the last `lines` lines of `log`, or a note that there are none."""
    text = log.read_text(encoding="utf-8", errors="replace").rstrip()
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"
