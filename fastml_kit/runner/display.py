"""Showing a run: a live display on a terminal, plain log lines anywhere else."""

import threading
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from fastml_kit.runner.events import Event

#: A plain log says at least this often what is going on, in seconds.
HEARTBEAT_S = 20.0


class Display(Protocol):
    """A context to run in, and what to call with each event."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def __call__(self, event: Event) -> None:
        """Show `event`."""


def on(console: Console) -> "Display":
    """Return the display that suits `console`."""
    # Not `console.is_terminal`: Jupyter kernels set FORCE_COLOR, and Rich then believes in one.
    return Live(console) if console.file.isatty() else Plain(console)


class Plain:
    """One line for each stage's start and end, and a heartbeat that names the running cell."""

    def __init__(self, console: Console, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.console, self.heartbeat_s = console, heartbeat_s
        self._running: Event | None = None
        self._since = 0.0
        self._done = threading.Event()
        self._pulse = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._pulse.join()

    def __call__(self, event: Event) -> None:
        """Show `event`, or remember it for the next heartbeat."""
        if event.kind == "start":
            self._since = time.monotonic()
        self._running = event if event.kind == "cell" else None
        if event.kind != "cell":
            self._line(event.stage, event.text)

    def _line(self, stage: str, text: str) -> None:
        clock = time.strftime("%H:%M:%S")
        where = f"{stage}: " if stage else ""
        self.console.print(f"{clock} {where}{text}", markup=False, highlight=False, soft_wrap=True)

    def _beat(self) -> None:
        while not self._done.wait(self.heartbeat_s):
            event = self._running
            if event:
                self._line(event.stage, f"{time.monotonic() - self._since:.0f} s, {event.text}")


class Live:
    """A bar for the running stage, cell by cell; stages that ended stay above it as lines."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[doing]}", markup=False),
            console=console,
            transient=True,
        )
        self._bar: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Show `event`."""
        if event.kind == "start":
            self._bar = self._progress.add_task(event.stage, total=None, doing=event.text)
        elif event.kind == "cell" and self._bar is not None:
            doing = event.text.partition(": ")[2]
            self._progress.update(
                self._bar, completed=event.cell - 1, total=event.cells, doing=doing
            )
        else:
            if self._bar is not None and event.kind == "end":
                self._progress.remove_task(self._bar)
                self._bar = None
            where = f"{event.stage}: " if event.stage else ""
            self._progress.console.print(f"{where}{event.text}", markup=False, highlight=False)
