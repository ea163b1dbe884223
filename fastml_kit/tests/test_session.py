"""A notebook's second cell and what follows it, in JupyterLab, bare papermill and the runner."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from fastml_kit import cells as executed
from fastml_kit import manifest, records, runner, session
from fastml_kit.errors import (
    BadRequest,
    MismatchError,
    RunError,
    StageFailed,
    ToolNotFound,
    UnsupportedModel,
)
from fastml_kit.tests.toyflow import CELLS, HEAD, forked, toy, write_notebooks


class Kernel:
    """An IPython shell that runs cells one by one, as JupyterLab does."""

    def __init__(self) -> None:
        memory = Config({"HistoryManager": {"hist_file": ":memory:"}})
        self.shell = InteractiveShell(config=memory)
        self.names = self.shell.user_ns

    def run(self, *cells: str) -> Any:
        for cell in cells:
            result = self.shell.run_cell(cell, store_history=True)
            result.raise_error()
        return self.names.get("stage")

    def run_all(self, notebook: str, parameters: str | None = None) -> session.Stage:
        default, cells = CELLS[notebook]
        return self.run(HEAD, parameters or default, *cells)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty runs folder, which all notebooks use, beside fresh toy notebooks."""
    write_notebooks(tmp_path / "notebooks")
    # The tests' own edits are older than what this process loaded, as a reader's are.
    monkeypatch.setattr(executed, "LOADED", float("inf"))
    monkeypatch.setenv("TOY_NOTEBOOKS", str(tmp_path / "notebooks"))
    monkeypatch.setenv("FASTML_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.delenv("FASTML_ATTEMPT", raising=False)
    return tmp_path / "runs"


def entry(runs: Path, stage: str) -> manifest.StageEntry:
    (folder,) = runs.glob(f"*/{stage}")
    found = manifest.StageEntry.load(folder)
    assert found is not None
    return found


def test_a_stage_run_by_hand_is_reused_by_the_runner(runs: Path) -> None:
    Kernel().run_all("01_one")
    assert entry(runs, "one").outputs.keys() == {"numbers.txt", "records.json"}
    report = runner.run("toy", until="one", flow=toy())
    assert report.stages[0].reused == f"{report.run}/one"


def test_run_all_can_be_done_twice_in_one_kernel(runs: Path) -> None:
    kernel = Kernel()
    kernel.run_all("01_one")
    kernel.run_all("01_one", CELLS["01_one"][0].replace("n = 3", "n = 4"))
    assert len(list(runs.glob("*/one/records.json"))) == 2
    assert all(stage.digest for stage in map(manifest.StageEntry.load, runs.glob("*/one")) if stage)


def test_cells_can_be_run_again_after_the_stage_was_finished(runs: Path) -> None:
    kernel = Kernel()
    stage = kernel.run_all("01_one")
    kernel.run(*CELLS["01_one"][1][2:])
    kernel.run("stage.finish()")
    assert entry(runs, "one").digest
    assert stage.file("numbers.txt").read_text() == "0\n1\n2"
    records = json.loads(next(runs.glob("*/one/records.json")).read_text())["records"]
    assert [record["value"] for record in records] == [3]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["stage.file('extra').touch()"], "a cell ran that is not in the saved notebook"),
        ([], "a cell of the saved notebook did not run"),
    ],
)
def test_what_differs_from_the_saved_notebook_stands_but_is_not_reused(
    runs: Path, capsys: pytest.CaptureFixture[str], cells: list[str], said: str
) -> None:
    parameters, body = CELLS["01_one"]
    Kernel().run(HEAD, parameters, *(body[:2] if cells else body[:1]), *cells, body[-1])
    assert said in capsys.readouterr().out
    assert entry(runs, "one").status == "ok"
    assert entry(runs, "one").digest == ""


def test_a_source_that_changed_under_a_running_kernel_is_not_vouched_for(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executed, "LOADED", 0.0)
    Kernel().run_all("01_one")
    assert entry(runs, "one").digest == ""


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("# Parameters\nfactr = 3", "no parameter 'factr'"),
        ("# Parameters\nnn = 3\n", "no parameter 'nn'. Did you mean 'n'?"),
        ("n = 3\nmodle = 'toy'", "no parameter 'modle'. Did you mean 'model'?"),
        ("n = 101", "n=101; it must be a whole number from 1 to 100"),
        ("n = '3'", "n='3'; it must be a whole number"),
        ("del n; nn = 3", "does not define 'n'"),
        ("del task; tsak = 'toy'", "does not define 'task'. Did you mean 'tsak'?"),
    ],
)
def test_a_parameter_that_is_wrong_is_refused_by_the_notebook_itself(
    runs: Path, cell: str, message: str
) -> None:
    with pytest.raises(BadRequest) as refusal:
        Kernel().run(HEAD, CELLS["01_one"][0], cell, CELLS["01_one"][1][0])
    assert message in str(refusal.value)
    assert not runs.exists()


def test_a_record_is_made_once_by_each_cell(runs: Path) -> None:
    kernel = Kernel()
    record = 'stage.record("cost.toy.lut", 1, unit="LUT", source="yosys")'
    stage = kernel.run(HEAD, CELLS["01_one"][0], CELLS["01_one"][1][0], record, record)
    with pytest.raises(BadRequest, match="recorded before"):
        kernel.run(f"{record}\n{record}")
    stage.interactive = False  # the runner executes every cell once
    with pytest.raises(BadRequest, match="recorded before"):
        kernel.run(record)


def test_numpy_scalars_are_recorded_as_numbers(runs: Path) -> None:
    import numpy as np

    stage = Kernel().run(HEAD, CELLS["01_one"][0], CELLS["01_one"][1][0])
    record = stage.record("cost.toy.lut", np.int64(3), unit="LUT", source="yosys", target="xc7")
    assert type(record.value) is int
    assert (record.stage, record.model, record.target) == ("one", "toy", "xc7")


def test_a_rung_that_cannot_be_climbed_is_skipped_with_its_reason(runs: Path) -> None:
    stage = Kernel().run(HEAD, CELLS["01_one"][0], CELLS["01_one"][1][0])
    for error in (UnsupportedModel("no Foo here"), ToolNotFound("no g++")):
        with stage.climbing("verify.csim", "verify.rtl"):
            raise error
    with pytest.raises(MismatchError), stage.climbing("verify.da4ml"):
        raise MismatchError("codes differ")
    stage.file("numbers.txt").touch()
    stage.finish()
    _, skips = records.load(next(runs.glob("*/one/records.json")))
    assert [(skip.name, skip.reason) for skip in skips] == [
        ("verify.csim", "no g++"),
        ("verify.rtl", "no g++"),
    ]


def test_a_remark_is_on_every_record_of_the_stage_and_of_those_made_from_it(
    runs: Path, tmp_path: Path
) -> None:
    write_notebooks(
        tmp_path / "notebooks",
        one="stage.remark('not exact: dense')",
        three="stage.record('cost.toy.lut', 1, unit='LUT', source='yosys')",
    )
    run = runner.run("toy", flow=toy())
    assert run.status == "ok", run.stages
    found = json.loads((run.folder / "run.json").read_text())["records"]
    # The second stage does not read the records of the first one.
    assert {(r["stage"], r["remark"]) for r in found} == {
        ("one", "not exact: dense"),
        ("two", None),
        ("three", "not exact: dense"),
    }


def test_an_input_is_found_whichever_stage_made_it(runs: Path) -> None:
    kernel = Kernel()
    stage = kernel.run(HEAD, CELLS["03_three"][0], CELLS["03_three"][1][0])
    assert stage.found("out/total.txt").read_text() == "6"
    with pytest.raises(BadRequest, match=r"records\.json comes from one, two; it must come from"):
        stage.found("records.json")
    with pytest.raises(BadRequest, match=r"nothing\.txt comes from no stage"):
        stage.found("nothing.txt")


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "", ".", "stage.json", "records.json"])
def test_a_file_stays_inside_its_stage(runs: Path, name: str) -> None:
    stage = Kernel().run(HEAD, CELLS["01_one"][0], CELLS["01_one"][1][0])
    with pytest.raises(BadRequest, match="stage one can have no file"):
        stage.file(name)


def test_a_folder_is_made_for_a_tool(runs: Path) -> None:
    stage = Kernel().run(HEAD, CELLS["01_one"][0], CELLS["01_one"][1][0])
    assert stage.folder("build/deep").is_dir()
    assert stage.file("build/deep/file").parent == stage.folder("build/deep")
    with pytest.raises(BadRequest, match="stage one can have no file"):
        stage.folder("..")


def test_a_figure_is_the_same_bytes_every_time(runs: Path) -> None:
    from matplotlib.figure import Figure

    stage = Kernel().run(HEAD, CELLS["01_one"][0], CELLS["01_one"][1][0])
    saved = []
    for name in ("a", "b.svg"):
        figure = Figure()
        figure.subplots().plot([1, 2], label="line")
        saved.append(stage.save_figure(figure, name).read_bytes())
    assert saved[0] == saved[1]
    assert b"<svg" in saved[0]


def test_missing_stages_are_built_first_and_inputs_are_checked(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = Kernel()
    stage = kernel.run_all("02_two")
    assert "two needs one, and one is due: not made yet" in capsys.readouterr().out
    with pytest.raises(BadRequest, match=r"one/records\.json is no input of stage two"):
        stage.input("one", "records.json")
    stage.input("one", "numbers.txt").write_text("1")
    with pytest.raises(RunError, match="is not what stage one made"):
        stage.input("one", "numbers.txt")
    kernel.run_all("02_two")
    assert "numbers.txt was changed after it was made" in capsys.readouterr().out
    assert (runs / stage.run.id / "one/numbers.txt").read_text() == "0\n1\n2"


@pytest.mark.parametrize(
    ("way", "inputs"),
    [("hls4ml", "one twin"), ("finn", "one two"), ("both", "one twin two")],
)
def test_what_lies_on_the_way_is_built_and_nothing_else(runs: Path, way: str, inputs: str) -> None:
    default, cells = CELLS["03_joined"]
    kernel = Kernel()
    kernel.run(HEAD, default.replace('flow = "hls4ml"', f'flow = "{way}"'), *cells)
    (folder,) = runs.glob("*-*")
    assert (folder / "joined/inputs.txt").read_text() == inputs
    made = {path.parent.name for path in folder.glob("*/stage.json")}
    assert made == {"joined", *inputs.split()}
    report = runner.run("toy", {"flow": way}, flow=forked())
    assert report.folder == folder
    assert [stage.stage for stage in report.stages] == [*inputs.split(), "joined"]
    assert all(stage.reused for stage in report.stages)


def test_the_other_way_takes_what_both_share_from_the_first_run(runs: Path) -> None:
    first = runner.run("toy", {"flow": "finn"}, flow=forked())
    both = runner.run("toy", {"flow": "both"}, flow=forked())
    assert (first.status, both.status) == ("ok", "ok"), both.stages
    reused = {stage.stage: stage.reused for stage in both.stages}
    assert reused == {
        "one": f"{first.run}/one", "twin": None, "two": f"{first.run}/two", "joined": None
    }  # fmt: skip


def test_a_stage_off_the_way_runs_when_it_is_named(runs: Path) -> None:
    report = runner.run("toy", until="two", flow=forked())
    assert [stage.stage for stage in report.stages] == ["one", "two"]
    assert report.status == "ok"


def test_a_stage_that_cannot_be_built_says_which_and_why(runs: Path, tmp_path: Path) -> None:
    write_notebooks(tmp_path / "notebooks", one="1 / 0")
    with pytest.raises(StageFailed, match=r"two needs one, which was not built: .*ZeroDivision"):
        Kernel().run_all("02_two")


def test_bare_papermill_gives_the_same_records_as_the_runner(runs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "papermill", str(tmp_path / "notebooks/03_three.ipynb")]
    command += [str(tmp_path / "out.ipynb"), "-p", "factor", "3"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    other = runner.run("toy", {"factor": 3}, runs_dir=tmp_path / "other", flow=toy())
    assert other.status == "ok"
    assert not any(stage.reused for stage in other.stages)
    for stage in ("one", "two", "three"):
        ours, theirs = (root / other.run / stage for root in (other.folder.parent, runs))
        assert (ours / "records.json").read_bytes() == (theirs / "records.json").read_bytes()
        assert entry(runs, stage).digest == entry(other.folder.parent, stage).digest


def test_an_attempt_for_another_stage_is_refused(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest.StageEntry(name="two", status="running").save(tmp_path)
    monkeypatch.setenv("FASTML_ATTEMPT", str(tmp_path))
    with pytest.raises(RunError, match="no attempt at stage one; unset it"):
        Kernel().run(HEAD, CELLS["01_one"][0], CELLS["01_one"][1][0])


def test_a_parameter_assigned_again_under_the_runner_is_refused(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"task": "toy", "model": "toy", "n": 5}
    manifest.StageEntry(name="one", status="running", parameters=wanted).save(tmp_path)
    monkeypatch.setenv("FASTML_ATTEMPT", str(tmp_path))
    with pytest.raises(BadRequest, match="n=3 here, but the runner asked for 5"):
        Kernel().run(HEAD, CELLS["01_one"][0], CELLS["01_one"][1][0])
