"""What a stage would be made from, and whether that is already there.

A stage's digest covers its own parameters, the hashes of its inputs, the sources that it uses and
the versions of its tools. Same digest and intact outputs mean that nothing needs to be made.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from fastml_kit import given, sources, tools
from fastml_kit.errors import BadRequest, RunError
from fastml_kit.flow import Flow, StageSpec
from fastml_kit.manifest import StageEntry, commit, damage, now
from fastml_kit.runs import RunFolder, find_stage
from fastml_kit.schema import Parameters


@dataclass(frozen=True)
class StagePlan:
    """Everything that the result of one stage depends on."""

    stage: str
    parameters: dict[str, Any]
    inputs: dict[str, str]  # stage/file, or parameter that names a file -> sha256
    tools: dict[str, str]  # name -> version
    sources: str  # sha256
    places: frozenset[str] = frozenset()  # parameters that only say where a file lies

    @property
    def digest(self) -> str:
        """SHA-256 over all of it."""
        counting = self._counting(self.parameters)
        everything = [self.stage, counting, self.inputs, self.tools, self.sources]
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()

    def _counting(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return those parameters whose values count: of a file, its content does."""
        return {name: value for name, value in parameters.items() if name not in self.places}

    def draft(self) -> StageEntry:
        """Return the entry of a stage that is being made to this plan, from now on."""
        return StageEntry(
            name=self.stage,
            status="running",
            started=now(),
            commit=commit(),
            digest=self.digest,
            parameters=self.parameters,
            tools=self.tools,
            inputs=self.inputs,
        )

    def changes_since(self, entry: StageEntry) -> str:
        """Say in a few words why `entry` is not what this plan would make."""
        for kind, before, after in (
            ("parameter", self._counting(entry.parameters), self._counting(self.parameters)),
            ("input", entry.inputs, self.inputs),
            ("tool", entry.tools, self.tools),
        ):
            names = sorted(before.keys() | after.keys())
            changed = [name for name in names if before.get(name) != after.get(name)]
            if changed:
                return f"{kind} {', '.join(changed)} changed"
        return "its source changed"


def hashes(resolved: Parameters) -> dict[str, str]:
    """Return the SHA-256 of every file that a parameter names, by parameter.

    Raises:
        BadRequest: one of them cannot be read.
    """
    try:
        return given.digests(resolved.files())
    except OSError as error:
        raise BadRequest(f"{error.filename} cannot be read ({error.strerror})") from error


def folder_of(root: Path, resolved: Parameters) -> RunFolder:
    """Return the folder under `root` of the run with all these parameters."""
    return RunFolder.of(root, resolved.own(), hashes(resolved))


def plan(flow: Flow, spec: StageSpec, resolved: Parameters, run: RunFolder) -> StagePlan:
    """Say what the stage `spec` would be made from in `run`.

    Raises:
        RunError: a stage that it is made from is not there yet.
    """
    # What is made from other stages has the files that the user gave through them.
    inputs = {} if spec.inputs else hashes(resolved)
    for earlier, patterns in spec.inputs.items():
        entry = run.stage(earlier)
        if entry is None:
            raise RunError(f"stage {spec.name} needs {earlier}, which {run.id} does not have yet")
        for name, known in entry.outputs.items():
            if any(fnmatch(name, pattern) for pattern in patterns):
                inputs[f"{earlier}/{name}"] = known
    return StagePlan(
        stage=spec.name,
        parameters=flow.own(spec, resolved),
        inputs=inputs,
        tools=tools.versions(spec.tools),
        sources=sources.digest(flow.path(spec)),
        places=frozenset(resolved.files()),
    )


def why_not_current(wanted: StagePlan, run: RunFolder) -> str | None:
    """Say why the published stage cannot stand for `wanted`; `None` if it can."""
    entry = run.stage(wanted.stage)
    if entry is None or entry.status != "ok":
        return "not made yet"
    if entry.digest != wanted.digest:
        return wanted.changes_since(entry)
    return damage(run.stage_path(wanted.stage), entry)


def first_stale(
    flow: Flow, specs: Iterable[StageSpec], resolved: Parameters, run: RunFolder
) -> tuple[StageSpec, str] | None:
    """Return the first of `specs` that has to be made, and why; `None` if all are current."""
    for spec in specs:
        reason = why_not_current(plan(flow, spec, resolved, run), run)
        if reason:
            return spec, reason
    return None


def borrow(wanted: StagePlan, run: RunFolder) -> StageEntry | None:
    """Publish in `run` a stage of another run that has the digest of `wanted`, if there is one.

    The copy is checked, not the original: what lies there may be changed while it is read.
    """
    found = find_stage(run.path.parent, wanted.digest)
    if found is None or found[0] == run.stage_path(wanted.stage):
        return None
    try:
        attempt = run.copy(*found)
    except OSError:
        return None
    if damage(attempt, found[1]):
        shutil.rmtree(attempt)
        return None
    return run.publish(attempt)
