"""The fault matrix: whatever goes wrong, the run folder stays readable, honest and resumable."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import psutil
import pytest

from fastml_kit.tests.toyflow import write_notebooks

DEADLINE_S = 60.0
#: A cell that says which processes it is and started, and then works for longer than any test.
SLEEP = """
import os, pathlib, subprocess, time
child = subprocess.Popen(["sleep", "300"])
pathlib.Path(os.environ["TOY_PIDS"]).write_text(f"{os.getpid()} {child.pid} ")
time.sleep(300)
"""


class Place:
    """A runs folder and a folder of toy notebooks, and how to run the one over the other."""

    def __init__(self, folder: Path, runs: Path | None = None) -> None:
        self.notebooks, self.runs = folder / "notebooks", runs or folder / "runs"
        self.pids = folder / "pids"
        self.env = {
            **os.environ,
            "TOY_NOTEBOOKS": str(self.notebooks),
            "TOY_PIDS": str(self.pids),
        }
        write_notebooks(self.notebooks)

    def command(self, *arguments: str) -> list[str]:
        program = [sys.executable, "-m", "fastml_kit.tests.toyflow", "run", "toy"]
        return [*program, "--runs-dir", str(self.runs), *arguments]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.command(*arguments),
            env=self.env,
            stdout=pipe,
            stderr=pipe,
            text=True,
            # A shell that runs the tests in its background ignores Ctrl-C, and so would the runner.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*arguments),
            env=self.env | env,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    def summary(self) -> dict:
        (path,) = self.runs.glob("*/run.json")
        return json.loads(path.read_text())

    def stage(self, name: str) -> dict:
        return next(stage for stage in self.summary()["stages"] if stage["name"] == name)

    def working_pids(self) -> list[int]:
        """Wait for the cell `SLEEP`, and return the processes that it is and started."""
        wait_for(lambda: self.pids.exists() and self.pids.read_text().endswith(" "))
        return [int(pid) for pid in self.pids.read_text().split()]

    def check_honest(self) -> None:
        """Every file can be read, and no cell says that it ran if it did not."""
        for path in self.runs.rglob("*.json"):
            json.loads(path.read_text())
        for path in self.runs.rglob("*.ipynb"):
            notebook = nbformat.read(path, as_version=4)
            nbformat.validate(notebook)
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    ran = cell.execution_count is not None
                    assert ran or cell.metadata.papermill.status != "completed", path

    def check_resumes(self) -> None:
        """With the fault gone, the next run reuses the first stage and makes the second."""
        write_notebooks(self.notebooks)
        result = self.run("--until", "two")
        assert result.returncode == 0, result.stderr
        assert "one: reused" in result.stderr
        assert [stage["status"] for stage in self.summary()["stages"]] == ["ok"] * 2
        assert not list(self.runs.glob("*/failed/*"))
        assert not list(self.runs.glob("*/.attempts/*"))
        self.check_honest()


def wait_for(condition: Callable[[], object], seconds: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Tell whether a process ended, whether or not someone has asked for its exit code yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a runs folder in which the first stage was made."""
    place = Place(tmp_path_factory.mktemp("first"))
    assert place.run("--until", "one").returncode == 0
    return place.runs


@pytest.fixture
def place(tmp_path: Path, first_stage: Path) -> Place:
    shutil.copytree(first_stage, tmp_path / "runs")
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the kernel died"),
        ("import os; os._exit(0)", "the kernel died"),
        ("import sys; sys.exit(0)", "the kernel left here"),
        ("exit()", "the kernel left here"),
        ("import time; time.sleep(60)", "still running after 3 s"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("task = 'toy'; stage.entry = None", "AttributeError"),
    ],
)
def test_a_cell_that_does_not_reach_its_end_fails_its_stage(
    place: Place, fault: str, reason: str
) -> None:
    write_notebooks(place.notebooks, two=fault)
    result = place.run(TOY_CELL_TIMEOUT_S="3")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    stage = place.stage("two")
    assert stage["status"] == "failed"
    assert reason in stage["reason"]
    assert "three" not in [stage["name"] for stage in place.summary()["stages"]]
    place.check_honest()

    (path,) = place.runs.glob("*/failed/two/notebook.ipynb")
    code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    failed = [i for i, c in enumerate(code, 1) if c.metadata.papermill.status == "failed"]
    assert failed == [stage["cell"]]
    assert any(output.output_type == "error" for output in code[stage["cell"] - 1].outputs)
    assert all(c.execution_count is None for c in code[stage["cell"] :])
    assert reason.split()[0] in (path.parent / "log.txt").read_text()
    place.check_resumes()


def test_a_notebook_that_never_finishes_its_stage_fails(place: Place) -> None:
    write_notebooks(place.notebooks, two="stage.finish = lambda: None")
    assert place.run().returncode == 1
    assert "never called stage.finish()" in place.stage("two")["reason"]
    place.check_resumes()


def test_a_cell_that_prints_without_end_fills_neither_notebook_nor_log(place: Place) -> None:
    write_notebooks(place.notebooks, two="for _ in range(3000):\n    print('x' * 1000)")
    assert place.run("--until", "two").returncode == 0
    for name in ("notebook.ipynb", "log.txt"):
        (path,) = place.runs.glob(f"*/two/{name}")
        assert path.stat().st_size < 1_100_000
        assert "[cut after 1000000 characters]" in path.read_text()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("not JSON", "no notebook that can be read"),
        ('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "finish()"),
        (
            '{"cells": [], "metadata": {"kernelspec": {"name": "ir", "display_name": "R", '
            '"language": "R"}}, "nbformat": 4, "nbformat_minor": 5}',
            "a notebook in R",
        ),
    ],
)
def test_a_file_that_is_no_usable_notebook_fails_its_stage(
    place: Place, content: str, reason: str
) -> None:
    (place.notebooks / "02_two.ipynb").write_text(content)
    result = place.run()
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert reason in place.stage("two")["reason"]
    place.check_honest()
    place.check_resumes()


def test_a_killed_runner_takes_its_kernel_and_children_along_and_is_resumed(place: Place) -> None:
    write_notebooks(place.notebooks, two=SLEEP)
    runner = place.start()
    working = place.working_pids()
    runner.kill()
    runner.communicate()
    wait_for(lambda: all(map(gone, working)), seconds=5)
    place.check_honest()
    place.check_resumes()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_runner_told_to_stop_is_interrupted_in_order(place: Place, signum: int) -> None:
    write_notebooks(place.notebooks, two=SLEEP)
    runner = place.start()
    working = place.working_pids()
    runner.send_signal(signum)
    _, errors = runner.communicate(timeout=DEADLINE_S)
    assert runner.returncode == 130
    assert "Traceback" not in errors
    wait_for(lambda: all(map(gone, working)), seconds=1)
    assert place.stage("two")["status"] == "interrupted"
    place.check_honest()
    place.check_resumes()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"needs mount: {error}")
    if done.returncode:
        pytest.skip(f"needs root to mount a small disk: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


FILL = """
import contextlib
file = open(stage.attempt / "big", "wb", buffering=0)
with contextlib.suppress(OSError):
    while True:
        file.write(bytes(65536))
"""


@pytest.mark.parametrize(
    "fault",
    [
        'stage.file("big").write_bytes(bytes(16 << 20))',  # the cell fails
        FILL,  # the cell passes; what is written after it fails
        FILL + "\nimport os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    ],
)
def test_a_full_disk_fails_the_stage_and_leaves_whole_files(
    tmp_path: Path, first_stage: Path, fault: str
) -> None:
    with small_disk(tmp_path / "disk", megabytes=2) as disk:
        shutil.copytree(first_stage, disk / "runs")
        place = Place(tmp_path, runs=disk / "runs")
        write_notebooks(place.notebooks, two=fault)
        result = place.run()
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        assert place.stage("one")["status"] == "ok"
        assert place.stage("two")["status"] == "failed"
        place.check_honest()
        place.check_resumes()


def test_a_disk_that_stays_full_still_ends_in_order(tmp_path: Path, first_stage: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=2) as disk:
        shutil.copytree(first_stage, disk / "runs")
        place = Place(tmp_path, runs=disk / "runs")
        fault = FILL.replace('stage.attempt / "big"', f'"{disk}/big"')
        write_notebooks(place.notebooks, two=fault)
        result = place.run()
        assert result.returncode == 1
        assert "No space left" in result.stderr or "no space left" in result.stderr
        assert "Traceback" not in result.stderr
        place.check_honest()
        (disk / "big").unlink()
        place.check_resumes()


def test_two_runners_at_once_do_the_work_once(place: Place) -> None:
    write_notebooks(place.notebooks, two="import time; time.sleep(3)")
    first = place.start("--until", "two", "--quiet")
    wait_for(lambda: list(place.runs.glob("*/.attempts/two*")))
    second = place.start("--until", "two", "--quiet")
    _, first_log = first.communicate(timeout=DEADLINE_S)
    _, second_log = second.communicate(timeout=DEADLINE_S)
    assert (first.returncode, second.returncode) == (0, 0), first_log + second_log
    assert f"in use by process {first.pid} (fastml run" in second_log
    assert second_log.count("reused") == 2
    place.check_honest()


def test_a_damaged_output_is_made_again(place: Place) -> None:
    assert place.run("--until", "two").returncode == 0
    (path,) = place.runs.glob("*/one/numbers.txt")
    path.write_text("0 1 3")
    result = place.run("--until", "two")
    assert result.returncode == 0
    assert "one: runs 01_one (one/numbers.txt was changed after it was made)" in result.stderr
    assert "two: reused" in result.stderr
    assert path.read_text().split() == ["0", "1", "2"]


def test_a_failed_attempt_leaves_the_last_good_stage_alone(place: Place) -> None:
    (path,) = place.runs.glob("*/one/numbers.txt")
    write_notebooks(place.notebooks, one="1 / 0")
    assert place.run().returncode == 1
    assert place.stage("one")["status"] == "failed"
    assert path.read_text().split() == ["0", "1", "2"]
    write_notebooks(place.notebooks)
    result = place.run("--until", "one")
    assert result.returncode == 0
    assert "one: reused" in result.stderr
    assert place.stage("one")["status"] == "ok"


def test_only_what_depends_on_a_change_runs_again(place: Place) -> None:
    assert place.run().returncode == 0
    result = place.run("-p", "factor", "3")
    assert result.returncode == 0
    first, changed = sorted(place.runs.glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    assert f"one: reused {first.parent.name}/one" in result.stderr
    assert "two: runs 02_two" in result.stderr
    assert (changed.parent / "two/out/total.txt").read_text() == "9"

    write_notebooks(place.notebooks, two="unused = 1")
    result = place.run()
    assert "one: reused" in result.stderr
    assert "two: runs 02_two (its source changed)" in result.stderr
    assert "three: reused" in result.stderr  # two's results are the same as before
