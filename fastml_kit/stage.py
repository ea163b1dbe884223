"""What a notebook holds of its run: its parameters, what it may read, and what it leaves behind."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from fastml_kit import records
from fastml_kit.backends.base import Cost
from fastml_kit.cells import Cells
from fastml_kit.errors import BadRequest, RunError, ToolNotFound, UnsupportedModel, nearest
from fastml_kit.files import sha256
from fastml_kit.flow import Flow, StageSpec
from fastml_kit.manifest import (
    LOG_FILE,
    NOTEBOOK_FILE,
    RECORDS_FILE,
    STAGE_FILE,
    StageEntry,
    outputs_of,
    title,
)
from fastml_kit.planning import plan
from fastml_kit.records import Record, Skip
from fastml_kit.runs import RunFolder
from fastml_kit.verify import Comparison

#: Names that the kit gives to files of its own.
OWN_FILES = frozenset({STAGE_FILE, RECORDS_FILE, NOTEBOOK_FILE, LOG_FILE})
#: How long `finish` waits for a runner that works in the same run folder.
PUBLISH_TIMEOUT_S = 60.0


@dataclass(kw_only=True)
class Stage:
    """One stage being made. Get one from `session.open`.

    `parameters` is the stage's own set, such as `ExportParameters`. Until it is published, all that
    is written lies in the folder `attempt`. When `interactive`, `finish` publishes it; otherwise a
    runner does, after the last cell.
    """

    flow: Flow
    spec: StageSpec
    parameters: Any
    run: RunFolder
    attempt: Path
    entry: StageEntry
    cells: Cells
    say: Callable[[str], None]
    interactive: bool
    _records: dict[tuple[str, ...], tuple[Record, int]] = field(default_factory=dict)
    _skips: dict[str, Skip] = field(default_factory=dict)
    _remarks: dict[str, None] = field(default_factory=dict)  # in the order they were made

    def __post_init__(self) -> None:
        self._begun, self._opened_at = time.monotonic(), self.cells.count

    def __repr__(self) -> str:
        return f"<stage {self.name} of {self.run.id}>"

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.spec.name

    # -- reading

    def input(self, stage: str, name: str) -> Path:
        """Return the file `name` of an earlier `stage`, unchanged since it was made.

        Raises:
            BadRequest: it is not among the declared inputs of this stage.
            RunError: it is missing, or was changed.
        """
        key = f"{stage}/{name}"
        if key not in self.entry.inputs:
            known = ", ".join(self.entry.inputs) or "none"
            raise BadRequest(
                f"{key} is no input of stage {self.name}.{nearest(key, self.entry.inputs)} "
                f"Inputs, as declared in flow.py and found: {known}."
            )
        path = self.run.path / key
        if not path.is_file() or sha256(path) != self.entry.inputs[key]:
            raise RunError(f"{self.run.id}/{key} is not what stage {stage} made; run it again")
        return path

    def found(self, name: str) -> Path:
        """Return the one input file called `name`, whichever stage it is from; see `input`.

        Raises:
            BadRequest: no stage, or more than one, hands over such a file.
        """
        owners = [key.split("/", 1)[0] for key in self.entry.inputs if key.endswith(f"/{name}")]
        if len(owners) != 1:
            raise BadRequest(
                f"{name} comes from {', '.join(owners) or 'no stage'}; it must come from one"
            )
        return self.input(owners[0], name)

    def inputs(self, stage: str, pattern: str) -> list[Path]:
        """Return the declared inputs from `stage` with names like `pattern`, such as ``rtl/*``."""
        keys = [key.split("/", 1) for key in self.entry.inputs]
        return [
            self.input(stage, name)
            for owner, name in keys
            if owner == stage and fnmatch(name, pattern)
        ]

    def records_of(self, stage: str) -> list[Record]:
        """Return what an earlier `stage` recorded."""
        return records.load(self.input(stage, RECORDS_FILE))[0]

    def skips_of(self, stage: str) -> list[Skip]:
        """Return what an earlier `stage` could not do here."""
        return records.load(self.input(stage, RECORDS_FILE))[1]

    # -- leaving behind

    def file(self, name: str) -> Path:
        """Return the path of the file `name` to write, its folder made: ``rtl/model.v``.

        Raises:
            BadRequest: `name` leaves the stage's folder, or is one that the kit writes itself.
        """
        path = self._inside(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def folder(self, name: str) -> Path:
        """Return the path of the folder `name`, made, for a tool that writes many files.

        Raises:
            BadRequest: `name` leaves the stage's folder.
        """
        path = self._inside(name)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _inside(self, name: str) -> Path:
        path = self.attempt / name
        if self.attempt.resolve() not in path.resolve().parents or name in OWN_FILES:
            raise BadRequest(f"stage {self.name} can have no file {name!r}; give another name")
        return path

    def record(
        self,
        name: str,
        value: Any,
        *,
        unit: str,
        source: str,
        flow: str | None = None,
        target: str | None = None,
        model: str | None = None,
    ) -> Record:
        """Record a number under `name`, with its unit and source, and return the record.

        `model` is named where it is another than the run's own.

        NumPy scalars are taken as the Python numbers they stand for. A cell that is executed again
        replaces what it recorded.

        Raises:
            BadRequest: the name, value or source is refused, or the same was recorded before.
        """
        value = value.item() if hasattr(value, "item") else value
        if model is None and self.entry.parameters:
            model = title(self.entry.parameters)[1]
        record = Record(name, value, unit, source, self.name, model, flow, target)
        _, cell = self._records.get(record.key, (None, None))
        if cell is not None and (cell == self.cells.count or not self.interactive):
            raise BadRequest(f"record {name} (flow {flow}, target {target}) was recorded before")
        self._records[record.key] = record, self.cells.count
        return record

    def record_rung(
        self,
        engine: str,
        result: Comparison,
        *,
        source: str,
        flow: str | None = None,
        target: str | None = None,
    ) -> None:
        """Record a rung of the ladder: on how many samples, and how many codes differed there."""
        for what, (value, unit) in result.told().items():
            name = f"verify.{engine}.{what}"
            self.record(name, value, unit=unit, source=source, flow=flow, target=target)

    def record_cost(self, cost: Cost, *, flow: str, target: str | None = None) -> None:
        """Record what `cost` tells as ``cost.<flow>.<resource>``; what it does not, is left out."""
        for resource, (value, unit) in cost.told().items():
            name = f"cost.{flow}.{resource}"
            self.record(name, value, unit=unit, source=cost.source, flow=flow, target=target)

    def skip(self, name: str, reason: str) -> None:
        """Say that a rung or a tool's step `name` could not run here, and why. Never a pass."""
        self._skips[name] = Skip(name, self.name, reason)
        self.say(f"skipped {name}: {reason}")

    @contextmanager
    def climbing(self, *rungs: str) -> Iterator[None]:
        """Skip `rungs`, with the reason, if the block finds that the model cannot climb them.

        The block ends there; what it would have made is missing.
        """
        try:
            yield
        except (UnsupportedModel, ToolNotFound) as refusal:
            for rung in rungs:
                self.skip(rung, str(refusal))

    def remark(self, text: str) -> None:
        """Say what a reader of each record must know, of this stage and all made from it."""
        self._remarks[text] = None
        self.say(f"remark: {text}")

    def save_figure(self, figure: Any, name: str) -> Path:
        """Save a Matplotlib `figure` as `name`.svg, the same bytes for the same figure."""
        from fastml_kit import plots  # late: Matplotlib is slow to load

        path = self.file(f"{name.removesuffix('.svg')}.svg")
        path.write_text(plots.svg(figure), encoding="utf-8")
        return path

    def finish(self) -> None:
        """End the stage: write its records and hashes, publish it, and say where to go next.

        Raises:
            RunError: a runner kept the run folder for longer than a minute.
        """
        for name in self.spec.inputs:
            if f"{name}/{RECORDS_FILE}" in self.entry.inputs:
                self._remarks.update(
                    dict.fromkeys(r.remark for r in self.records_of(name) if r.remark)
                )
        remark = "; ".join(self._remarks) or None
        kept = [replace(record, remark=remark) for record, _ in self._records.values()]
        records.save(self.attempt / RECORDS_FILE, kept, self._skips.values())
        entry = self.entry.but(
            status="ok",
            seconds=round(time.monotonic() - self._begun, 2),
            outputs=outputs_of(self.attempt),
        )
        if self.interactive:
            entry = self._publish(entry)
        else:
            entry.save(self.attempt)
        made = [name.partition("/") for name in sorted(entry.outputs.keys() - OWN_FILES)]
        names = dict.fromkeys(f"{first}{slash}" for first, slash, _ in made)  # folders once
        self.say(f"{self.run.id}/{self.name}: {len(kept)} records; {', '.join(names)}")
        if following := self.flow.after(self.spec):
            self.say(f"next: notebooks/{following.notebook}.ipynb")

    def _publish(self, entry: StageEntry) -> StageEntry:
        """Publish a copy, so that cells can be executed again and find their files in place."""
        difference = self.cells.differ_from(self.flow.path(self.spec), since=self._opened_at)
        resolved = self.flow.adopt(self.parameters)
        if plan(self.flow, self.spec, resolved, self.run).digest != entry.digest:
            difference = "what this stage is made from changed while it was made"
        if difference:
            self.say(f"{difference}: this result stands, but later runs will not reuse it")
            entry = entry.but(digest="")
        with self.run.locked("a notebook", timeout_s=PUBLISH_TIMEOUT_S, on_wait=self.say):
            self.run.recover()
            attempt = self.run.begin(self.name)
            shutil.copytree(self.attempt, attempt, dirs_exist_ok=True)
            entry.save(attempt)
            return self.run.publish(attempt)
