"""Run folders: what a run leaves behind, and how a stage's files come to stand there.

::

    runs/digits-mlp-898feee7/       task-model-digest of all parameters of the flow; or
                                    onnx-name-digest, keras-name-digest for a file that was given
      run.json                      a summary of all that follows; written last
      train/                        one folder a stage: artefacts, and
        stage.json                  status, digest, hashes of inputs and outputs
        records.json                its numbers, and nothing that changes from run to run
        notebook.ipynb  log.txt     the executed notebook (when a runner ran it)
      failed/export/                stage.json, notebook and log of the last attempt that failed
      .attempts/                    stages being made

A stage is made in an attempt folder and published by a rename; a failed attempt never touches the
last good one. Each stage folder speaks for itself; `run.json` is rebuilt from them, so a process
that dies at any moment leaves nothing that contradicts itself. A run folder is locked while it is
changed; the lock dies with its process.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fastml_kit import records
from fastml_kit.errors import RunError
from fastml_kit.files import write_whole
from fastml_kit.manifest import (
    LOG_FILE,
    NOTEBOOK_FILE,
    RECORDS_FILE,
    RUN_FILE,
    StageEntry,
    Stated,
    now,
    standing,
    summary,
    title,
)

#: How long an attempt that another host began may lie untouched: a week.
FOREIGN_ATTEMPT_S = 7 * 24 * 3600.0


@dataclass(frozen=True)
class RunFolder:
    """One run's folder. `parameters` are all of the flow's, ``runs_dir`` left out."""

    path: Path
    parameters: Mapping[str, Any]

    @classmethod
    def of(
        cls, root: Path, parameters: Mapping[str, Any], files: Mapping[str, str] | None = None
    ) -> "RunFolder":
        """Return the folder under `root` that belongs to these parameters (``runs_dir`` aside).

        Of a parameter that names a file, the SHA-256 in `files` counts, and not where it lies.
        """
        kept = {name: value for name, value in parameters.items() if name != "runs_dir"}
        text = json.dumps({**kept, **(files or {})}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return cls(root / "-".join((*title(kept), digest)), kept)

    @property
    def id(self) -> str:
        """The run's name: that of its folder."""
        return self.path.name

    # -- what is there

    def stage_path(self, stage: str) -> Path:
        """Where the published files of `stage` lie."""
        return self.path / stage

    def stage(self, name: str) -> StageEntry | None:
        """Return the entry of the published stage `name`, or `None`."""
        return StageEntry.load(self.stage_path(name))

    # -- one writer at a time

    @cached_property
    def _lock(self) -> FileLock:
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / ".lock")

    @contextmanager
    def locked(
        self, purpose: str, *, timeout_s: float, on_wait: Callable[[str], None] | None = None
    ) -> Iterator[None]:
        """Hold this folder's lock. While another process has it, wait, telling `on_wait` for whom.

        Raises:
            RunError: it was still held after `timeout_s`.
        """
        holder = self.path / ".holder"
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            try:
                who = holder.read_text(encoding="utf-8")
            except OSError:
                who = "another process"
            if on_wait:
                on_wait(f"{self.id} is in use by {who}; waiting up to {timeout_s:g} s")
            try:
                self._lock.acquire(timeout=timeout_s)
            except Timeout:
                raise RunError(
                    f"{self.id} is still in use by {who} after {timeout_s:g} s. Wait for it, stop "
                    "it, or use another runs folder"
                ) from None
        try:
            if self._lock.lock_counter == 1:
                write_whole(holder, f"process {os.getpid()} ({purpose}, since {now()})")
            yield
        finally:
            if self._lock.lock_counter == 1:
                holder.unlink(missing_ok=True)
            self._lock.release()

    # -- making a stage

    @property
    def _attempts(self) -> Path:
        return self.path / ".attempts"

    def begin(self, stage: str) -> Path:
        """Make the folder of a new attempt at `stage`, named after the process that owns it."""
        owner = f"{os.getpid()}@{socket.gethostname()}"
        attempt = self._attempts / f"{stage}-{owner}-{secrets.token_hex(4)}"
        attempt.mkdir(parents=True)
        return attempt

    def publish(self, attempt: Path) -> StageEntry:
        """Put the finished `attempt` in its stage's place and bring run.json up to date.

        The caller holds the lock.

        Raises:
            RunError: the attempt did not reach its end.
        """
        entry = StageEntry.load(attempt)
        if entry is None or entry.status != "ok":
            raise RunError(f"{attempt.name} did not reach its end; there is nothing to publish")
        target, retired = self.stage_path(entry.name), self._attempts / f"{entry.name}.retired"
        shutil.rmtree(retired, ignore_errors=True)
        if target.exists():
            target.rename(retired)  # `recover` puts it back if this process dies right here
        attempt.rename(target)
        shutil.rmtree(retired, ignore_errors=True)
        shutil.rmtree(self.path / "failed" / entry.name, ignore_errors=True)
        if entry.digest:
            index = self.path.parent / ".stages" / entry.digest
            index.parent.mkdir(exist_ok=True)
            write_whole(index, f"{self.id}/{entry.name}", durable=False)
        self.write_summary()
        return entry

    def fail(self, attempt: Path, entry: StageEntry, notebook: str | None = None) -> None:
        """Keep log and `notebook` (its text) of a failed attempt under failed/; let the rest go.

        The artefacts go first: on a full disk that makes the room to write down what happened.
        The caller holds the lock.
        """
        for path in attempt.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in (NOTEBOOK_FILE, LOG_FILE):
                path.unlink()
        if notebook is not None:
            write_whole(attempt / NOTEBOOK_FILE, notebook)
        entry.save(attempt)
        target = self.path / "failed" / entry.name
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        attempt.rename(target)
        self.write_summary()

    def copy(self, source: Path, entry: StageEntry) -> Path:
        """Return an attempt that holds a copy of the stage `entry` of another run, at `source`.

        Raises:
            OSError: it was replaced while it was read, or there is no room; no copy is left.
        """
        attempt = self.begin(entry.name)
        origin = entry.reused_from or f"{source.parent.name}/{entry.name}"
        try:
            shutil.copytree(source, attempt, dirs_exist_ok=True)
            entry.but(reused_from=origin).save(attempt)
        except OSError:
            shutil.rmtree(attempt)
            raise
        return attempt

    def settle(self, stage: str) -> None:
        """Let go of a failure that the published `stage` outlived. The caller holds the lock."""
        failed = self.path / "failed" / stage
        if failed.exists():
            shutil.rmtree(failed)
            self.write_summary()

    def recover(self) -> None:
        """Clear up after processes that died: attempts, half a publication, an old run.json.

        The caller holds the lock.
        """
        for path in sorted(self._attempts.glob("*")):
            stage, _, suffix = path.name.rpartition(".")
            if suffix == "retired" and not self.stage_path(stage).exists():
                path.rename(self.stage_path(stage))
            elif suffix == "retired" or _abandoned(path):
                shutil.rmtree(path, ignore_errors=True)
        self.write_summary()

    # -- run.json

    def entries(self) -> list[StageEntry]:
        """Return an entry for every stage that was tried here, oldest first.

        A failure stands for its stage until a success replaces it.
        """
        paths = [*self.path.iterdir(), *(self.path / "failed").glob("*")]
        latest = {entry.name: entry for entry in map(StageEntry.load, paths) if entry}
        stages = [standing(entry, latest) for entry in latest.values()]
        return sorted(stages, key=lambda entry: (entry.started or "", entry.name))

    def write_summary(self) -> None:
        """Rebuild run.json from the stage folders. The caller holds the lock."""
        stages: list[Stated] = []
        for entry in self.entries():
            if entry.status != "ok":
                stages.append((entry, [], []))
                continue
            try:
                found, skips = records.load(self.stage_path(entry.name) / RECORDS_FILE)
                stages.append((entry, found, skips))
            except RunError as error:
                stages.append((entry.but(status="failed", reason=str(error)), [], []))
        text = json.dumps(summary(self.id, self.parameters, stages), indent=1)
        write_whole(self.path / RUN_FILE, text + "\n")


def find_stage(root: Path, digest: str) -> tuple[Path, StageEntry] | None:
    """Return folder and entry of a stage with this `digest` in any run under `root`, or `None`."""
    try:
        folder = root / (root / ".stages" / digest).read_text(encoding="utf-8")
    except OSError:
        return None
    entry = StageEntry.load(folder)
    return (folder, entry) if entry and entry.digest == digest else None


def _abandoned(attempt: Path) -> bool:
    """Tell whether the process that an attempt is named after is gone.

    Of a process on another host (or in a container that was) nothing can be known; what it has
    not touched for `FOREIGN_ATTEMPT_S` is taken for abandoned.
    """
    owner = re.fullmatch(r".*-(\d+)@(.*)-\w+", attempt.name)
    if owner is None or owner[2] != socket.gethostname():
        newest = max(path.stat().st_mtime for path in (attempt, *attempt.rglob("*")))
        return time.time() - newest > FOREIGN_ATTEMPT_S
    try:
        os.kill(int(owner[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # it runs, as somebody else
    return False
