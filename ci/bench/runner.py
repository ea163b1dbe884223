"""What the runner costs: papermill alone and the runner, notebook by notebook, side by side.

``python ci/bench/runner.py [--repeat N]`` runs a small notebook N times each way, alternating, in
one process that lives throughout, and prints the median wall seconds per notebook, their ratio, and
what a run costs that finds nothing to do. The kernel does the same work both ways: papermill too
gets an attempt made for it, outside of the measured time, so that the difference is the runner's
own (checks, digests, locks, logs, publication).
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import papermill
from rich.console import Console
from rich.table import Table

from fastml_kit import runner
from fastml_kit.planning import plan
from fastml_kit.runs import RunFolder
from fastml_kit.tests.toyflow import toy, write_notebooks

KINDS = ("papermill", "runner", "nothing to do")


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def with_papermill(folder: Path, n: int) -> float:
    """Time papermill alone, on an attempt that was made for it."""
    flow = toy()
    spec, resolved = flow.stage("one"), flow.resolve({"n": n})
    run = RunFolder.of(folder / "papermill", resolved.own())
    draft = plan(flow, spec, resolved, run).draft()
    attempt = run.begin(spec.name)
    draft.save(attempt)
    os.environ["FASTML_ATTEMPT"] = str(attempt)
    output = attempt / "notebook.ipynb"
    parameters = draft.parameters
    try:
        return timed(
            lambda: papermill.execute_notebook(
                flow.path(spec), output, parameters, progress_bar=False
            )
        )
    finally:
        del os.environ["FASTML_ATTEMPT"]


def with_runner(folder: Path, n: int) -> float:
    """Time the runner, which leaves the stage published."""

    def work() -> None:
        report = runner.run("toy", {"n": n}, runs_dir=folder / "runs", until="one", flow=toy())
        if report.status != "ok":
            raise SystemExit(f"the runner failed: {report}")

    return timed(work)


def measure(folder: Path, repeat: int, seconds: float) -> dict[str, list[float]]:
    """Return the wall seconds of `repeat` measurements of each kind."""
    notebooks = folder / "notebooks"
    write_notebooks(notebooks, one=f"import time; time.sleep({seconds})")
    os.environ["TOY_NOTEBOOKS"] = str(notebooks)
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for n in range(1, repeat + 2):
        ways = [("papermill", with_papermill), ("runner", with_runner)]
        found = {kind: way(folder, n) for kind, way in (ways if n % 2 else reversed(ways))}
        found["nothing to do"] = with_runner(folder, n)
        if n > 1:  # the first turn loads papermill
            for kind in KINDS:
                times[kind].append(found[kind])
    return times


def show(times: dict[str, list[float]]) -> None:
    """Print medians, spreads and the ratio."""
    table = Table(title="Wall seconds per notebook, kernel included", title_justify="left")
    for column in ("", "median", "min", "max"):
        table.add_column(column, justify="right" if column else "left")
    for kind, values in times.items():
        row = (statistics.median(values), min(values), max(values))
        table.add_row(kind, *(f"{value:.3f}" for value in row))
    console = Console()
    console.print(table)
    ratio = statistics.median(times["runner"]) / statistics.median(times["papermill"])
    console.print(f"runner / papermill: {ratio:.2f} (at most 1.10 is wanted)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=9, help="measurements of each kind")
    parser.add_argument("--seconds", type=float, default=0.2, help="work in the notebook")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastml-bench-") as name:
        show(measure(Path(name), options.repeat, options.seconds))


if __name__ == "__main__":
    main()
