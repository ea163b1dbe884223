"""Stages of a flow one after the other: reuse what is current, run the rest, keep what happened."""

import errno
import logging
import os
import signal
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from fastml_kit.errors import BadRequest, FastmlError, StageFailed
from fastml_kit.flow import FLOW, Flow, StageSpec, runs_root
from fastml_kit.manifest import LOG_FILE, NOTEBOOK_FILE, StageEntry, now, outputs_of
from fastml_kit.planning import (
    StagePlan,
    borrow,
    first_stale,
    folder_of,
    plan,
    why_not_current,
)
from fastml_kit.runner.events import Event, OnEvent, first_words
from fastml_kit.runner.log import Log
from fastml_kit.runs import RunFolder
from fastml_kit.schema import Parameters

if TYPE_CHECKING:
    from fastml_kit.runner.execute import Execution

logger = logging.getLogger(__name__)

#: How long a second runner waits for the first one's run folder.
LOCK_TIMEOUT_S = 1800.0
#: One kernel runs at a time, and may use the cores this process may use, no more.
THREAD_CAPS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

Status = Literal["ok", "failed", "skipped", "interrupted"]


@dataclass(frozen=True)
class Outcome:
    """What became of one stage in this call. `reused` names the run/stage that stood in for it."""

    stage: str
    status: Status
    reason: str | None = None
    cell: int | None = None
    seconds: float | None = None
    reused: str | None = None

    def __str__(self) -> str:
        """Return the line that ends the stage in a log."""
        seconds = f"{self.seconds or 0:.1f} s"
        if self.reused:
            return f"reused {self.reused} ({seconds} when it ran)"
        where = f" at cell {self.cell}" if self.cell else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.status} after {seconds}{where}{why}"


@dataclass(frozen=True)
class RunReport:
    """What became of a run: its folder, and an outcome for every stage that was asked for."""

    folder: Path
    stages: tuple[Outcome, ...]

    @property
    def run(self) -> str:
        """The run's id."""
        return self.folder.name

    @property
    def status(self) -> Status:
        """`ok` only if every stage is."""
        found = {outcome.status for outcome in self.stages}
        for status in ("interrupted", "failed", "skipped"):
            if status in found:
                return status
        return "ok"


def run(
    task: str | None,
    given: Mapping[str, Any] | None = None,
    *,
    profile: str = "smoke",
    preset: str = "",
    runs_dir: str | Path | None = None,
    until: str | None = None,
    force: Collection[str] = (),
    flow: Flow = FLOW,
    on_event: OnEvent = lambda event: None,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> RunReport:
    """Bring every stage of the flow up to date, or those that the stage `until` needs.

    Without a `task`, the flow is the one for a model that the user brings. `given` are parameters
    by name; they win over the profile's, and those over the `preset`'s, which is the task's own
    unless another is named. A stage that is current is reused, unless `force` names
    it. The first stage that fails ends the run. SIGTERM and Ctrl-C end it as `interrupted`.
    `runs_dir` is relative to the project's root.

    Raises:
        BadRequest: a parameter, a name or the runs folder is refused; nothing was started.
        RunError: another process kept the run folder for longer than `lock_timeout_s`.
    """
    given = dict(given or {})
    if task is None:
        flow = flow.other or flow
    elif flow.serving(given) is not flow:
        raise BadRequest(f"the task is {task!r}, but a model is given too; a run takes one of them")
    elif given.setdefault("task", task) != task:
        raise BadRequest(f"the task is {task!r}, but parameter task={given['task']!r}")
    if runs_dir is not None:
        given["runs_dir"] = str(runs_dir)
    preset = preset or (task if task in flow.presets else "")
    resolved = flow.resolve(given, profile=profile, preset=preset)
    flow = flow.along(resolved.own())
    if until is None:
        flow.check_use(given.keys())
    specs = flow.needed(flow.stage(until)) if until else list(flow.stages)
    folder = folder_of(runs_root(resolved.runs_dir), resolved)
    if resolved.files() and first_stale(flow, specs[:1], resolved, folder):
        resolved.look()
    driver = _Driver(flow, resolved, folder, frozenset(force), on_event)

    def on_wait(text: str) -> None:
        on_event(Event("wait", "", text))

    with folder.locked("fastml run", timeout_s=lock_timeout_s, on_wait=on_wait):
        folder.recover()
        with _sigterm_as_interrupt():
            return RunReport(folder.path, tuple(driver.outcomes(specs)))


@dataclass(frozen=True)
class _Driver:
    """One call of `run`: what it was asked for, and the folder that it holds the lock of."""

    flow: Flow
    resolved: Parameters
    folder: RunFolder
    force: frozenset[str]
    on_event: OnEvent

    def outcomes(self, specs: list[StageSpec]) -> Iterator[Outcome]:
        """Yield an outcome for each of `specs`; after one that is not ok, the rest are skipped."""
        broken: Outcome | None = None
        for spec in specs:
            if broken:
                yield Outcome(spec.name, "skipped", f"{broken.stage}: {broken.status}")
                continue
            outcome = self.outcome(spec)
            self.on_event(Event("end", spec.name, str(outcome)))
            if outcome.status != "ok":
                broken = outcome
            yield outcome

    def outcome(self, spec: StageSpec) -> Outcome:
        """Bring one stage up to date, and say how that went, whatever happened."""
        attempt = _Attempt(StageEntry(name=spec.name, status="running", started=now()))
        try:
            wanted = plan(self.flow, spec, self.resolved, self.folder)
            forced = spec.name in self.force
            why = "asked to run again" if forced else why_not_current(wanted, self.folder)
            if why is None:
                self.folder.settle(spec.name)
                entry = self.folder.stage(spec.name)
            else:
                entry = None if forced else borrow(wanted, self.folder)
            if entry:
                origin = entry.reused_from or f"{self.folder.id}/{spec.name}"
                return Outcome(spec.name, "ok", seconds=entry.seconds, reused=origin)
            self.on_event(Event("start", spec.name, f"runs {spec.notebook} ({why})"))
            return self._make(spec, wanted, attempt)
        except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001
            # The boundary of a stage: whatever went wrong inside is this stage's outcome.
            return self._failed(attempt, error)

    def _make(self, spec: StageSpec, wanted: StagePlan, attempt: "_Attempt") -> Outcome:
        """Run a stage's notebook and publish what it made."""
        # papermill takes a second to import; a run that reuses everything does without it.
        from fastml_kit.runner.execute import Execution

        attempt.entry = wanted.draft()
        attempt.folder = self.folder.begin(spec.name)
        attempt.entry.save(attempt.folder)
        attempt.execution = Execution(self.flow.path(spec), attempt.folder / NOTEBOOK_FILE)

        def on_cell(cell: int, cells: int, source: str) -> None:
            text = f"cell {cell}/{cells}: {first_words(source)}"
            log.note(text)
            self.on_event(Event("cell", spec.name, text, cell, cells))

        with Log(attempt.folder / LOG_FILE) as log:
            attempt.execution.run(
                wanted.parameters,
                env=self._kernel_env(attempt.folder),
                cell_timeout_s=spec.cell_timeout_s,
                log=log,
                on_cell=on_cell,
            )
        finished = StageEntry.load(attempt.folder)
        if finished is None or finished.status != "ok":
            raise StageFailed("its last cell ran, but it never called stage.finish()")
        if plan(self.flow, spec, self.resolved, self.folder).digest != wanted.digest:
            logger.warning("%s: its sources changed while it ran; it will run again", spec.name)
            finished = finished.but(digest="")
        finished = finished.but(seconds=attempt.seconds, outputs=outputs_of(attempt.folder))
        finished.save(attempt.folder)
        self.folder.publish(attempt.folder)
        return Outcome(spec.name, "ok", seconds=finished.seconds)

    def _failed(self, attempt: "_Attempt", error: BaseException) -> Outcome:
        """Keep what is known of a failed attempt; say so even where it cannot be written."""
        interrupted = isinstance(error, KeyboardInterrupt)
        status: Status = "interrupted" if interrupted else "failed"
        if not isinstance(error, (KeyboardInterrupt, FastmlError, OSError)):
            logger.error("stage %s", attempt.entry.name, exc_info=error)
        entry = attempt.entry.but(
            status=status,
            reason="interrupted" if interrupted else _reason(error),
            cell=getattr(error, "cell", None),
            seconds=attempt.seconds,
        )
        try:
            folder = attempt.folder or self.folder.begin(entry.name)
            notebook = attempt.execution.text() if attempt.execution else None
            self.folder.fail(folder, entry, notebook)
        except OSError as problem:
            logger.error("stage %s: its failure could not be written: %s", entry.name, problem)
        return Outcome(entry.name, status, entry.reason, entry.cell, entry.seconds)

    def _kernel_env(self, attempt: Path) -> dict[str, str]:
        """Return the environment of a kernel: ours, thread caps where none are set, the attempt."""
        cores = str(len(os.sched_getaffinity(0)))
        caps = dict.fromkeys(THREAD_CAPS, cores) | {"PYTHONHASHSEED": "0"}
        return {
            **caps,
            **os.environ,
            "FASTML_ATTEMPT": str(attempt),
            "FASTML_RUNS_DIR": str(self.folder.path.parent),
        }


@dataclass
class _Attempt:
    """What there is, so far, of a stage being made."""

    entry: StageEntry
    folder: Path | None = None
    execution: "Execution | None" = None
    begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.begun, 2)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does: in order, with its kernel."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    default = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    for signum in default:
        signal.signal(signum, interrupt)
    try:
        yield
    finally:
        for signum in default:
            signal.signal(signum, signal.SIG_DFL)


def _reason(error: BaseException) -> str:
    """Return one line that says why a stage failed."""
    match error:
        case OSError(errno=errno.ENOSPC):
            return "no space left on the disk"
        case FastmlError():
            return " ".join(str(getattr(error, "reason", error)).split())
        case _:
            return " ".join(f"{type(error).__name__}: {error}".split())
