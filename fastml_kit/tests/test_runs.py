"""Run folders: what is published is whole, what fails does no harm, what died is cleared up."""

import json
import multiprocessing
import os
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastml_kit import manifest, records, runs
from fastml_kit.errors import RunError
from fastml_kit.manifest import StageEntry
from fastml_kit.records import Record, Skip
from fastml_kit.runs import RunFolder

PARAMETERS = {"task": "toy", "model": "toy", "n": 3}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.of(tmp_path / "runs", PARAMETERS)
    folder.path.mkdir(parents=True)
    return folder


def finished(run: RunFolder, name: str, content: str = "data", **entry: object) -> Path:
    """Return a finished attempt at a stage with one file and one record."""
    attempt = run.begin(name)
    (attempt / "out").mkdir()
    (attempt / "out/file").write_text(content)
    record = Record("cost.toy.lut", len(content), "LUT", "yosys", name)
    records.save(attempt / "records.json", [record], [Skip("verify.rtl", name, "no g++")])
    entry = {"digest": f"{name}-{content}", "started": manifest.now(), **entry}
    outputs = manifest.outputs_of(attempt)
    StageEntry(name=name, status="ok", outputs=outputs, **entry).save(attempt)
    return attempt


def summary(run: RunFolder) -> dict:
    return json.loads((run.path / "run.json").read_text())


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.floats(allow_nan=False)))
def test_a_run_is_known_by_its_parameters_in_any_order(values: dict) -> None:
    values = {**values, "task": "t", "model": "m"}
    backwards = dict(reversed(values.items()))
    one, two = (
        RunFolder.of(Path(), {**v, "runs_dir": r}) for v, r in ((values, 1), (backwards, 2))
    )
    assert one.id == two.id
    assert one.id.startswith("t-m-")
    assert RunFolder.of(Path(), {**values, "more": 1}).id != one.id


def test_a_run_of_a_file_is_known_by_its_content_and_named_after_it() -> None:
    here, there = {"graph": "/here/A net-1.onnx"}, {"graph": "/there/A net-1.onnx"}
    one, two, other = (
        RunFolder.of(Path(), parameters, {"graph": content})
        for parameters, content in ((here, "abc"), (there, "abc"), (here, "abd"))
    )
    assert one.id == two.id != other.id
    assert one.id.startswith("onnx-A_net_1-")
    assert RunFolder.of(Path(), {"keras": "/here/own.keras"}).id.startswith("keras-own-")
    assert manifest.summary(one.id, here, [])["model"] == "A_net_1"


def test_what_was_made_from_a_users_file_stands_without_a_stage_for_it(run: RunFolder) -> None:
    run.publish(finished(run, "one", inputs={"graph": "abc"}))
    assert [entry.status for entry in run.entries()] == ["ok"]


def test_a_published_stage_is_in_place_and_in_the_summary(run: RunFolder) -> None:
    entry = run.publish(finished(run, "one"))
    assert (run.path / "one/out/file").read_text() == "data"
    assert manifest.damage(run.path / "one", entry) is None
    assert [stage["name"] for stage in summary(run)["stages"]] == ["one"]
    assert [record["name"] for record in summary(run)["records"]] == ["cost.toy.lut"]
    assert summary(run)["skipped"] == [{"name": "verify.rtl", "stage": "one", "reason": "no g++"}]
    assert str(run.path) not in (run.path / "run.json").read_text()
    assert runs.find_stage(run.path.parent, entry.digest) == (run.path / "one", entry)


def test_what_did_not_reach_its_end_is_not_published(run: RunFolder) -> None:
    attempt = finished(run, "one")
    StageEntry(name="one", status="running").save(attempt)
    with pytest.raises(RunError, match="did not reach its end"):
        run.publish(attempt)


def test_a_failure_keeps_its_evidence_and_the_last_good_stage(run: RunFolder) -> None:
    run.publish(finished(run, "one"))
    attempt = finished(run, "one", "bad")
    (attempt / "log.txt").write_text("what happened")
    run.fail(attempt, StageEntry(name="one", status="failed", reason="why", cell=3), "{}")
    assert (run.path / "one/out/file").read_text() == "data"
    kept = sorted(path.name for path in (run.path / "failed/one").iterdir())
    assert kept == ["log.txt", "notebook.ipynb", "stage.json"]
    (stage,) = summary(run)["stages"]
    assert (stage["status"], stage["reason"], stage["cell"]) == ("failed", "why", 3)
    assert summary(run)["records"] == []

    run.publish(finished(run, "one"))
    assert summary(run)["stages"][0]["status"] == "ok"
    assert not (run.path / "failed/one").exists()


def test_a_stage_whose_inputs_were_made_anew_is_no_longer_claimed(run: RunFolder) -> None:
    entry = run.publish(finished(run, "one"))
    inputs = {"one/out/file": entry.outputs["out/file"]}
    run.publish(finished(run, "two", inputs=inputs))
    assert [stage["status"] for stage in summary(run)["stages"]] == ["ok", "ok"]
    run.publish(finished(run, "one", "other"))
    stages = {stage["name"]: stage for stage in summary(run)["stages"]}
    assert stages["two"]["status"] == "skipped"
    assert "one/out/file was made anew" in stages["two"]["reason"]
    assert [record["stage"] for record in summary(run)["records"]] == ["one"]


def test_what_was_made_from_a_stage_that_failed_since_is_no_longer_claimed(run: RunFolder) -> None:
    entry = run.publish(finished(run, "one"))
    inputs = {"one/out/file": entry.outputs["out/file"]}
    entry = run.publish(finished(run, "two", inputs=inputs))
    inputs = {"two/out/file": entry.outputs["out/file"]}
    run.publish(finished(run, "three", inputs=inputs))
    run.fail(run.begin("one"), StageEntry(name="one", status="failed", reason="why"))
    stages = {stage["name"]: stage for stage in summary(run)["stages"]}
    assert stages["two"]["reason"] == "one: failed"
    assert stages["three"]["reason"] == "two: skipped"
    assert summary(run)["records"] == []
    run.settle("one")
    assert {stage["status"] for stage in summary(run)["stages"]} == {"ok"}


@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_damage_is_named(run: RunFolder, harm: str) -> None:
    entry = run.publish(finished(run, "one"))
    path = run.path / "one/out/file"
    path.write_text("x") if harm == "changed" else path.unlink()
    assert harm in (manifest.damage(run.path / "one", entry) or "")


def test_unreadable_records_fail_their_stage_only(run: RunFolder) -> None:
    run.publish(finished(run, "one"))
    (run.path / "one/records.json").write_text("{")
    run.publish(finished(run, "two"))
    stages = {stage["name"]: stage["status"] for stage in summary(run)["stages"]}
    assert stages == {"one": "failed", "two": "ok"}


def test_a_publication_cut_in_half_is_undone(run: RunFolder) -> None:
    run.publish(finished(run, "one"))
    (run.path / "one").rename(run.path / ".attempts/one.retired")  # and here the process died
    run.recover()
    assert (run.path / "one/out/file").read_text() == "data"
    assert not list((run.path / ".attempts").iterdir())


def test_a_publication_that_never_reached_the_summary_is_added_to_it(run: RunFolder) -> None:
    finished(run, "one").rename(run.path / "one")  # and here the process died
    run.recover()
    assert [stage["name"] for stage in summary(run)["stages"]] == ["one"]


def test_attempts_of_the_dead_are_cleared_up_and_no_others(run: RunFolder) -> None:
    child = multiprocessing.get_context("fork").Process(target=run.begin, args=("dead",))
    child.start()
    child.join()
    mine, foreign = run.begin("mine"), run.path / ".attempts/other-1@elsewhere-ab12"
    foreign.mkdir()
    assert len(list((run.path / ".attempts").iterdir())) == 3
    run.recover()
    assert set((run.path / ".attempts").iterdir()) == {mine, foreign}
    assert f"{os.getpid()}@{socket.gethostname()}" in mine.name
    long_ago = time.time() - runs.FOREIGN_ATTEMPT_S - 60
    os.utime(foreign, (long_ago, long_ago))
    run.recover()
    assert set((run.path / ".attempts").iterdir()) == {mine}


def test_a_folder_in_use_is_refused_and_says_by_whom(run: RunFolder) -> None:
    said: list[str] = []
    other = RunFolder(run.path, PARAMETERS)
    with run.locked("a test", timeout_s=0):
        with run.locked("the same process, again", timeout_s=0):
            pass
        with (
            pytest.raises(RunError, match=rf"still in use by process {os.getpid()} \(a test"),
            other.locked("another", timeout_s=0.1, on_wait=said.append),
        ):
            pass
    assert len(said) == 1
    assert "waiting up to 0.1 s" in said[0]
    with other.locked("another", timeout_s=0):
        assert "another" in (run.path / ".holder").read_text()
    assert not (run.path / ".holder").exists()


def test_a_copy_of_another_runs_stage_says_where_it_is_from(run: RunFolder) -> None:
    run.publish(finished(run, "one"))
    other = RunFolder.of(run.path.parent, {**PARAMETERS, "n": 4})
    found = runs.find_stage(run.path.parent, "one-data")
    assert found is not None
    entry = other.publish(other.copy(*found))
    assert entry.reused_from == f"{run.id}/one"
    assert (other.path / "one/out/file").read_text() == "data"


@pytest.mark.parametrize("text", [None, "{", '{"schema_version": 99}'])
def test_a_summary_that_cannot_be_read_is_named(tmp_path: Path, text: str | None) -> None:
    if text:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json"):
        manifest.load_summary(tmp_path)


def test_a_summary_names_a_commit_only_where_all_stages_agree() -> None:
    """A summary is rebuilt later than its results, maybe by another version of the kit."""
    one = manifest.StageEntry(name="one", status="ok", commit="abc")
    values = {"task": "toy", "model": "tiny"}
    same = manifest.summary("run", values, [(one, [], []), (one.but(name="two"), [], [])])
    mixed = manifest.summary("run", values, [(one, [], []), (one.but(commit="def"), [], [])])
    assert (same["commit"], mixed["commit"]) == ("abc", None)
    assert [stage["commit"] for stage in mixed["stages"]] == ["abc", "def"]
