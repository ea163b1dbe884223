"""The flow's table: it hangs together, and its names and folders resolve."""

from pathlib import Path

import pytest

from fastml_kit import flow, sources
from fastml_kit.errors import BadRequest, RunError
from fastml_kit.flow import FLOW, IMPORT_FLOW
from fastml_kit.parameters import Hls4mlParameters
from fastml_kit.schema import check

SPECS = (*FLOW.specs, IMPORT_FLOW.stage("import"))


@pytest.mark.parametrize("table", [FLOW, IMPORT_FLOW], ids=["FLOW", "IMPORT_FLOW"])
def test_every_input_comes_from_an_earlier_stage(table: flow.Flow) -> None:
    seen: set[str] = set()
    for spec in table.stages:
        assert set(spec.inputs) <= seen, spec.name
        seen.add(spec.name)


def test_every_stage_declares_a_part_of_the_flows_parameters() -> None:
    known = FLOW.parameters.model_fields.keys() | IMPORT_FLOW.parameters.model_fields.keys()
    for spec in SPECS:
        assert spec.parameters.model_fields.keys() <= known, spec.name


def test_the_later_notebooks_serve_both_flows() -> None:
    shared = {spec.notebook for spec in FLOW.stages} & {s.notebook for s in IMPORT_FLOW.stages}
    later = ("03_hls4ml", "04_finn", "05_synthesize", "07_report")
    assert shared == {f"flow/{name}" for name in later}
    trained, brought = (table.stage("hls4ml") for table in (FLOW, IMPORT_FLOW))
    assert set(trained.inputs) == {"export"}
    assert set(brought.inputs) == {"import"}
    assert set(trained.inputs["export"]) <= set(brought.inputs["import"])
    names = [spec.name for spec in IMPORT_FLOW.needed(IMPORT_FLOW.stage("synthesize"))]
    assert names == ["import", "hls4ml", "finn", "synthesize"]


@pytest.mark.parametrize(
    ("values", "taken"),
    [
        ({}, ["hls4ml"]),
        ({"flow": "hls4ml"}, ["hls4ml"]),
        ({"flow": "finn"}, ["finn"]),
        ({"flow": "both"}, ["hls4ml", "finn"]),
    ],
)
def test_a_run_has_the_stages_on_its_way_and_no_others(
    values: dict[str, str], taken: list[str]
) -> None:
    for table, first in ((FLOW, ["train", "export"]), (IMPORT_FLOW, ["import"])):
        flow = table.along(values)
        assert [spec.name for spec in flow.stages] == [*first, *taken, "synthesize", "report"]
        for last in ("synthesize", "report"):
            inputs = set(flow.stage(last).inputs)
            assert inputs & {"hls4ml", "finn"} == set(taken)
            assert set(first) & inputs  # what both ways share stays
            needed = [spec.name for spec in flow.needed(flow.stage(last))]
            assert needed[: len(first) + len(taken)] == [*first, *taken]
        for spec in table.specs:  # by its name, each can still be asked for
            assert flow.stage(spec.name).notebook == spec.notebook


def test_the_stage_after_one_lies_on_the_same_way() -> None:
    following = {}
    for way in ("hls4ml", "finn", "both"):
        flow = FLOW.along({"flow": way})
        after = [flow.after(flow.stage(name)) for name in ("export", "hls4ml", "finn")]
        following[way] = [spec.name if spec else None for spec in after]
    assert following == {
        "hls4ml": ["hls4ml", "synthesize", None],
        "finn": ["finn", None, "synthesize"],
        "both": ["hls4ml", "finn", "synthesize"],
    }


@pytest.mark.parametrize(
    ("way", "given", "said"),
    [
        ("hls4ml", {"weight_bits", "interval_cycles"}, "interval_cycles .* is for finn"),
        ("finn", {"clock_ns"}, "clock_ns .* is for hls4ml, .* set flow to both or hls4ml"),
        ("finn", {"interval_cycles", "targets", "seeds", "runs_dir"}, None),
        ("both", {"interval_cycles", "reuse_factor", "latency_cutoff"}, None),
    ],
)
def test_what_only_the_other_way_reads_is_refused(
    way: str, given: set[str], said: str | None
) -> None:
    for table in (FLOW, IMPORT_FLOW):
        if said is None:
            table.along({"flow": way}).check_use(given)
            continue
        with pytest.raises(BadRequest, match=said):
            table.along({"flow": way}).check_use(given)


@pytest.mark.parametrize(
    ("values", "stage", "wanted"),
    [
        ({}, None, FLOW),
        ({"weight_bits": 3}, "hls4ml", FLOW),
        ({"graph": "a.onnx"}, None, IMPORT_FLOW),
        ({"keras": "a.h5", "data": "x.npy"}, "report", IMPORT_FLOW),
        ({"task": "digits", "graph": "", "keras": ""}, "hls4ml", FLOW),
        ({"task": "digits", "graph": "a.onnx", "keras": ""}, "hls4ml", IMPORT_FLOW),
        ({"graph": "", "keras": ""}, None, IMPORT_FLOW),  # all that a run of the example has
        ({}, "02_import_model", IMPORT_FLOW),
        ({}, "02_export_qonnx", FLOW),
        ({}, "nothing", FLOW),
    ],
)
def test_parameters_pick_the_flow(values: dict, stage: str | None, wanted: flow.Flow) -> None:
    assert FLOW.serving(values, stage) is wanted


def test_what_concerns_the_other_flow_is_refused_unless_it_is_left_alone(tmp_path: Path) -> None:
    for name in ("a.onnx", "x.npy"):
        (tmp_path / name).touch()
    files = {"graph": str(tmp_path / "a.onnx"), "data": str(tmp_path / "x.npy")}
    adopted = IMPORT_FLOW.adopt(check(Hls4mlParameters, {**files, "clock_ns": 5.0}))
    assert "task" not in adopted.own()
    assert adopted.own()["clock_ns"] == 5.0
    with pytest.raises(BadRequest, match="weight_bits=6 has no effect on a model that was brought"):
        IMPORT_FLOW.adopt(check(Hls4mlParameters, {**files, "weight_bits": 6}))
    assert "graph" not in FLOW.adopt(Hls4mlParameters()).own()


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
        IMPORT_FLOW.resolve({}, profile=name)
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
    assert [spec.name for spec in needed] == ["train", "export", "hls4ml", "finn", "synthesize"]
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
