"""Feeding damaged files to the import, in worker processes that may hang or die for it.

Every file must give a result or a typed error within its time limit. Files are named by what
makes them again, ``seed name:number``.
"""

import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastml_kit.errors import FastmlError
from fastml_kit.graph import check, foreign, program, reference, verdict
from fastml_kit.graph.checks.shapes import known
from fastml_kit.tests import mutations

#: Elements in all tensors up to which a model is also run, not only examined.
CHEAP = 300_000
MEMORY = 6 * 2**30


@dataclass(frozen=True)
class Outcome:
    """What came of one file: `kind` is what the table counts, `detail` says more."""

    file: str
    kind: str
    detail: str
    seconds: float

    @property
    def is_offence(self) -> bool:
        """Whether this must not happen."""
        return self.kind in ("crash", "hang", "exception", "differs")


def judge(path: Path) -> tuple[str, str]:
    """Examine the file at `path` and run it where that is cheap; return kind and detail."""
    try:
        found = verdict.examine(path)
        model = check.load(path)
        if sum(int(np.prod(shape)) for shape in known(model).values()) > CHEAP:
            return f"{found.level}, too large to run", ""
        shape = (1, *found.input_shape[1:])
        values = np.random.default_rng(0).integers(-48, 49, shape) / 16
        if found.level == "float":
            foreign.run(model, values)
            return "float", ""
        result = reference.run(program.of_model(model), values)
    except FastmlError as error:
        return type(error).__name__, str(error)
    try:
        other = foreign.run(model, values)
    except FastmlError as error:
        return f"{found.level}, runs in the kit alone", str(error)
    if found.level == "exact" and not np.array_equal(result, other.reshape(result.shape)):
        return "differs", f"{result.ravel()[:4]} instead of {other.ravel()[:4]}"
    return found.level, ""


def work(seeds: Mapping[str, bytes], pipe: Any) -> None:
    """Judge files as their names come in, until there are no more. Runs in a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    with tempfile.TemporaryDirectory(prefix="fastml-fuzz-") as folder:
        path = Path(folder) / "model.onnx"
        while (name := pipe.recv()) is not None:
            try:
                path.write_bytes(make(seeds, name))
                pipe.send(judge(path))
            except BaseException as error:  # noqa: BLE001 - whatever else comes is the finding
                last = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(last.filename).name}:{last.lineno}"
                pipe.send(("exception", f"{type(error).__name__} at {where}: {str(error)[:150]}"))


def make(seeds: Mapping[str, bytes], name: str) -> bytes:
    """Return the damaged file called `name`."""
    seed, _, number = name.rpartition(":")
    return mutations.mutate(seeds[seed], int(number))


def names(seeds: Mapping[str, bytes], files: int, seed: int) -> Iterator[str]:
    """Yield the names of `files` damaged files, from all seeds in turn."""
    order = sorted(seeds)
    for number in range(files):
        yield f"{order[number % len(order)]}:{seed * 10_000_000 + number}"


class Worker:
    """One process that judges files; a new one takes its place when it dies."""

    def __init__(self, seeds: Mapping[str, bytes]) -> None:
        self.seeds = seeds
        self.start()

    def start(self) -> None:
        """Start the process. It is forked, so that libraries are loaded once."""
        context = multiprocessing.get_context("fork")
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=work, args=(self.seeds, end), daemon=True)
        self.process.start()
        end.close()
        self.file: str | None = None

    def take(self, name: str) -> None:
        """Begin with the file called `name`."""
        self.file, self.since = name, time.monotonic()
        self.pipe.send(name)

    def poll(self, limit: float) -> Outcome | None:
        """Return what came of the file in hand, or None while it is being worked on."""
        assert self.file is not None
        seconds = time.monotonic() - self.since
        outcome = None
        if self.pipe.poll():
            try:
                kind, detail = self.pipe.recv()
                outcome = Outcome(self.file, kind, detail, seconds)
            except EOFError:
                self.process.join()
                outcome = Outcome(self.file, "crash", f"exit {self.process.exitcode}", seconds)
                self.start()
        elif seconds > limit:
            self.stop()
            outcome = Outcome(self.file, "hang", f"over {limit:g} s", seconds)
            self.start()
        if outcome:
            self.file = None
        return outcome

    def stop(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def fuzz(
    seeds: Mapping[str, bytes], files: Iterable[str], *, workers: int = 1, limit: float = 20.0
) -> Iterator[Outcome]:
    """Yield what comes of each of `files`, in the order in which they are done.

    `limit` is the time in seconds that one file may take.
    """
    import onnxruntime
    import qonnx.core.modelwrapper
    import qonnx.core.onnx_exec
    import qonnx.custom_op.general  # noqa: F401 - before the fork

    onnxruntime.set_default_logger_severity(4)
    left = iter(files)
    pool = [Worker(seeds) for _ in range(workers)]
    try:
        idle, busy = list(pool), []
        while True:
            while idle and (name := next(left, None)) is not None:
                idle[-1].take(name)
                busy.append(idle.pop())
            if not busy:
                return
            multiprocessing.connection.wait([worker.pipe for worker in busy], timeout=0.2)
            for worker in list(busy):
                if outcome := worker.poll(limit):
                    busy.remove(worker)
                    idle.append(worker)
                    yield outcome
    finally:
        for worker in pool:
            worker.stop()
