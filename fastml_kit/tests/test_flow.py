"""The flow's table: it hangs together, and its names and folders resolve."""

from pathlib import Path

import pytest

from fastml_kit import flow, sources
from fastml_kit.errors import BadRequest, RunError
from fastml_kit.flow import FLOW

SPECS = (*FLOW.stages, *FLOW.others)


def test_every_input_comes_from_an_earlier_stage() -> None:
    seen: set[str] = set()
    for spec in FLOW.stages:
        assert set(spec.inputs) <= seen, spec.name
        seen.add(spec.name)


def test_every_stage_declares_a_part_of_the_flows_parameters() -> None:
    for spec in SPECS:
        names = spec.parameters.model_fields.keys()
        assert names <= FLOW.parameters.model_fields.keys(), spec.name


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_notebook_defines_its_stages_parameters_with_their_defaults(
    spec: flow.StageSpec,
) -> None:
    path = FLOW.path(spec)
    assert path.is_file(), f"{path} is missing"
    assert sources.parameters_cell(path) == spec.parameters().model_dump()


def test_profiles_are_valid_and_lose_to_what_is_given() -> None:
    for name in FLOW.profiles:
        FLOW.resolve({}, profile=name)
    assert FLOW.resolve({"seeds": 2}, profile="full").own()["seeds"] == 2
    assert FLOW.resolve({}, profile="full").own()["seeds"] == 3
    with pytest.raises(BadRequest, match="Did you mean 'full'"):
        FLOW.resolve({}, profile="fulll")


@pytest.mark.parametrize(
    "name",
    ["export", "02_export_qonnx", "flow/02_export_qonnx", "notebooks/flow/02_export_qonnx.ipynb"],
)
def test_a_stage_answers_to_its_notebook_too(name: str) -> None:
    assert FLOW.stage(name).name == "export"


def test_a_stage_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadRequest, match="Did you mean 'export'"):
        FLOW.stage("exprot")


def test_what_a_stage_needs_comes_first() -> None:
    needed = FLOW.needed(FLOW.stage("synthesize"))
    assert [spec.name for spec in needed] == ["train", "export", "hls4ml", "synthesize"]
    assert FLOW.needed(FLOW.stage("start")) == [FLOW.stage("start")]


def test_the_default_runs_folder_can_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTML_RUNS_DIR", str(tmp_path / "moved"))
    assert flow.runs_root() == tmp_path / "moved"
    assert flow.runs_path("mine", base=tmp_path) == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()
    monkeypatch.setenv("FASTML_RUNS_DIR", "build/runs")
    assert flow.runs_path("runs", base=tmp_path) == flow.PROJECT / "build/runs"


def test_a_runs_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadRequest, match=r"cannot be written \(Not a directory\)"):
        flow.runs_root(str(tmp_path / "file" / "runs"))


def test_a_parameters_cell_holds_literals_only(tmp_path: Path) -> None:
    cell = (
        '{"cells": [{"cell_type": "code", "source": "%s", "metadata": {"tags": ["parameters"]}}]}'
    )
    path = tmp_path / "n.ipynb"
    path.write_text(cell % r"a: int = 1\nb = [\"x\"]  # unit")
    assert sources.parameters_cell(path) == {"a": 1, "b": ["x"]}
    for wrong in (r"a = 1\nb = a", "import os", "f(", "a.b = 1"):
        path.write_text(cell % wrong)
        with pytest.raises(RunError, match="NAME = literal"):
            sources.parameters_cell(path)
