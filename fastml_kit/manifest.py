"""What `stage.json` and `run.json` say: the facts of one stage, and of a run.

Paths in them are relative, hashes are SHA-256 in hex, times ISO 8601 in UTC. A stage's folder
speaks for itself; `run.json` is a summary that can be rebuilt from the stages at any time.
"""

import json
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastml_kit.errors import RunError
from fastml_kit.files import sha256, sha256_tree, write_whole
from fastml_kit.records import Record, Skip

SCHEMA_VERSION = 1
RUN_FILE, STAGE_FILE, RECORDS_FILE, NOTEBOOK_FILE, LOG_FILE = (
    "run.json",
    "stage.json",
    "records.json",
    "notebook.ipynb",
    "log.txt",
)
#: Files in a stage's folder that are not outputs of it.
NOT_OUTPUTS = frozenset({STAGE_FILE, LOG_FILE})
Status = Literal["running", "ok", "failed", "skipped", "interrupted"]


class StageEntry(BaseModel):
    """What `stage.json` says of one stage. Paths are relative: ``train/model.h5``, ``model.h5``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    status: Status
    reason: str | None = None  # why it is not ok
    cell: int | None = None  # the code cell it failed at, counted from 1
    seconds: float | None = None
    started: str | None = None  # ISO 8601, UTC
    commit: str | None = None  # of the kit that made it; see `commit`
    digest: str = ""  # what it was made from; empty: not to be reused
    parameters: dict[str, Any] = Field(default_factory=dict)
    tools: dict[str, str] = Field(default_factory=dict)
    inputs: dict[str, str] = Field(default_factory=dict)  # stage/file, or parameter -> sha256
    outputs: dict[str, str] = Field(default_factory=dict)  # file -> sha256
    reused_from: str | None = None  # "run/stage" whose files these are

    def but(self, **changes: Any) -> "StageEntry":
        """Return a copy with `changes`."""
        return self.model_copy(update=changes)

    def save(self, folder: Path) -> None:
        """Write this entry to `folder`/stage.json."""
        write_whole(folder / STAGE_FILE, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "StageEntry | None":
        """Read `folder`/stage.json; `None` if it is not there or not whole."""
        try:
            return cls.model_validate_json((folder / STAGE_FILE).read_bytes())
        except (OSError, ValidationError):
            return None


#: What a stage says: its entry, its records, and what it skipped.
Stated = tuple[StageEntry, list[Record], list[Skip]]


def now() -> str:
    """Return the time as it is written into run folders: ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def damage(folder: Path, entry: StageEntry) -> str | None:
    """Say which output of the stage in `folder` is missing or changed; `None` if none is."""
    for name, known in entry.outputs.items():
        path = folder / name
        if not path.is_file():
            return f"{entry.name}/{name} is missing"
        if sha256(path) != known:
            return f"{entry.name}/{name} was changed after it was made"
    return None


def outputs_of(attempt: Path) -> dict[str, str]:
    """Return the SHA-256 of every output in an attempt's folder."""
    return sha256_tree(attempt, leave_out=NOT_OUTPUTS)


def standing(entry: StageEntry, latest: Mapping[str, StageEntry]) -> StageEntry:
    """Return `entry` if what it was made from still stands, otherwise a `skipped` one.

    The files of a stage whose inputs failed or were made anew since are there, but they answer an
    older question. `latest` are the entries of all stages by name.
    """
    reason = None
    for key, known in entry.inputs.items() if entry.status == "ok" else ():
        stage, slash, name = key.partition("/")
        if not slash:
            continue  # a file that the user gave
        earlier = standing(latest[stage], latest) if stage in latest else None
        if earlier is None or earlier.status != "ok":
            reason = f"{stage}: {earlier.status if earlier else 'missing'}"
        elif earlier.outputs.get(name) != known:
            reason = f"{key} was made anew since; run it again"
    return entry.but(status="skipped", reason=reason) if reason else entry


def title(parameters: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a run is about: task and model, or the kind and the name of a file."""
    if "task" in parameters:
        return parameters["task"], parameters["model"]
    for name, kind in (("graph", "onnx"), ("keras", "keras")):
        if path := parameters.get(name):
            return kind, re.sub(r"[^\w.]+", "_", Path(path).stem, flags=re.ASCII)
    return "onnx", "example"


def summary(run: str, parameters: Mapping[str, Any], stages: Iterable[Stated]) -> dict[str, Any]:
    """Return what `run.json` says of a run: its parameters, its stages, and what they stated."""
    stages = list(stages)
    tools = {name: version for entry, _, _ in stages for name, version in entry.tools.items()}
    commits = {entry.commit for entry, _, _ in stages}
    task, model = title(parameters)
    return {
        "schema_version": SCHEMA_VERSION,
        "run": run,
        "task": task,
        "model": model,
        "parameters": dict(parameters),
        # Stages that were made at different times may differ; then each says its own.
        "commit": commits.pop() if len(commits) == 1 else None,
        "tools": dict(sorted(tools.items())),
        "platform": f"{platform.platform()}, Python {platform.python_version()}",
        "stages": [entry.model_dump() for entry, _, _ in stages],
        "records": [asdict(record) for _, found, _ in stages for record in found],
        "skipped": [asdict(skip) for _, _, skips in stages for skip in skips],
    }


def load_summary(folder: Path) -> dict[str, Any]:
    """Read `folder`/run.json.

    Raises:
        RunError: there is none, it is not whole, or its schema is not this version's.
    """
    path = folder / RUN_FILE
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); is {folder} a run folder?") from error
    if summary.get("schema_version") != SCHEMA_VERSION:
        raise RunError(
            f"{path} has schema version {summary.get('schema_version')}, this kit reads "
            f"{SCHEMA_VERSION}; run the flow again"
        )
    return summary


def commit() -> str | None:
    """Return the checkout's commit, "-dirty" when files differ from it; `None` outside git."""
    here = Path(__file__).parent
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() or None
