"""Reports: what programs read, and what people see."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fastml_kit import report
from fastml_kit.errors import BadRequest, RunError
from fastml_kit.tests.toyflow import toy

STAGE = {"seconds": 1.5, "reason": None, "cell": None}


def record(name: str, value: Any, source: str = "reference", **more: Any) -> dict[str, Any]:
    where = {"stage": "two", "model": "toy", "flow": None, "target": None, "remark": None}
    return {"name": name, "value": value, "unit": "", "source": source, **where, **more}


def run_folder(root: Path, stages: list[dict], records: list[dict] = (), age: int = 0) -> Path:  # type: ignore[assignment]
    folder = root / f"toy-toy-0000000{age}"
    folder.mkdir(parents=True)
    path = folder / "run.json"
    skip = {"name": "verify.netlist", "stage": "two", "reason": "no yosys"}
    path.write_text(
        json.dumps(
            {
                "schema_version": 1,
                "run": folder.name,
                "task": "toy",
                "stages": stages,
                "records": list(records),
                "skipped": [skip],
            }
        )
    )
    os.utime(path, (1e9 - age, 1e9 - age))
    return folder


def text(folder: Path) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(report.render(report.summarize(folder, toy(folder))))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_every_stage_of_the_flow_has_a_status_and_a_reason(tmp_path: Path) -> None:
    failed = {"name": "two", "status": "failed", **STAGE, "reason": "why"}
    folder = run_folder(tmp_path, [failed, {"name": "one", "status": "ok", **STAGE}])
    found = report.summarize(folder, toy(tmp_path))
    assert found.keys() == {"run", "task", "status", "stages", "records", "skipped"}
    assert found["status"] == "failed"
    assert found["stages"] == [
        {"name": "one", "status": "ok", "seconds": 1.5, "reason": None},
        {"name": "two", "status": "failed", "seconds": 1.5, "reason": "why"},
        {"name": "three", "status": "skipped", "seconds": None, "reason": "two: failed"},
    ]


def test_a_run_that_was_not_asked_to_its_end_is_not_ok(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, [{"name": "one", "status": "ok", **STAGE}])
    found = report.summarize(folder, toy(tmp_path))
    assert found["status"] == "skipped"
    assert found["stages"][1]["reason"] == "not run yet"


def test_a_rung_is_exact_only_on_all_samples(tmp_path: Path) -> None:
    rungs = {"qonnx": (100, 0), "reference": (32, 0), "csim": (100, 7)}
    records = []
    for engine, (samples, mismatches) in rungs.items():
        records.append(record(f"verify.{engine}.samples", samples))
        records.append(record(f"verify.{engine}.mismatches", mismatches))
    records.append(record("verify.rtl.samples", 100))
    ladder = text(run_folder(tmp_path, [], records)).partition("Ladder")[2].splitlines()
    rows = [" ".join(line.split()) for line in ladder if line.split()[:1] and line[:1] == " "]
    assert rows[2:6] == [
        "qonnx 100 0 exact",
        "reference 32 0 partial, 32 of 100",
        "csim 100 7 different",
        "rtl 100 - not compared",
    ]


def test_a_part_is_partial_even_where_no_rung_has_more(tmp_path: Path) -> None:
    said = {"samples": 32, "total_samples": 100, "mismatches": 0}
    records = [record(f"verify.rtl.{what}", value) for what, value in said.items()]
    ladder = text(run_folder(tmp_path, [], records)).partition("Ladder")[2]
    assert "partial, 32 of 100" in ladder and "exact" not in ladder


def test_an_estimate_shares_no_row_with_a_measurement(tmp_path: Path) -> None:
    where = {"flow": "da4ml", "target": "xc7"}
    records = [
        record("cost.da4ml.lut", 7412, "yosys", **where),
        record("cost.da4ml.lut", 7000, "estimate", **where),
        record("cost.da4ml.bram36", 0.5, "yosys", **where),
    ]
    shown = text(run_folder(tmp_path, [], records))
    lines = [line for line in shown.splitlines() if "da4ml" in line]
    rows = {source: line for source in ("yosys", "estimate") for line in lines if source in line}
    assert "7,412" in rows["yosys"]
    assert "0.5" in rows["yosys"]
    assert "7,000" in rows["estimate"]
    assert "7,412" not in rows["estimate"]


def both_ways() -> list[dict[str, Any]]:
    """Return the records of two circuits of one graph, on xc7."""
    wired, folded = {"flow": "da4ml", "target": "xc7"}, {"flow": "finn", "target": "xc7"}
    found = []
    for where, engine, counts in (
        (wired, "netlist", (9340, 0, 0, 1, 5)),
        (folded, "finn_netlist", (2335, 0, 1.5, 64, 210)),
    ):
        names = ("lut", "dsp", "bram36", "interval_cycles", "latency_cycles")
        for name, count in zip(names, counts, strict=True):
            source = "netlist" if name.endswith("cycles") else "yosys"
            found.append(record(f"cost.{where['flow']}.{name}", count, source, **where))
        for what, count in (("samples", 1797), ("total_samples", 1797), ("mismatches", 0)):
            found.append(record(f"verify.{engine}.{what}", count, "netlist", **where))
    return found


def test_two_circuits_of_one_graph_are_weighed_in_their_own_figures(tmp_path: Path) -> None:
    records = [report.Record(**one) for one in both_ways()]
    said = str(report.two_circuits(records))
    assert "the same answers, different costs (on xc7)" in said
    assert (
        "da4ml's circuit: 9,340 LUT, 0 DSP, 0 BRAM36, a sample every cycle, an answer after 5"
        in said
    )
    assert "FINN's circuit: 2,335 LUT, 0 DSP, 1.5 BRAM36, a sample every 64 cycles, an" in said
    assert "an answer after 210; 0 codes differ on 1,797 samples" in said
    assert "0.25 times the LUT and 64 times the cycles, so 16 times the LUT x cycles" in said
    shown = text(run_folder(tmp_path, [], both_ways()))
    assert "One graph, two circuits" in shown
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "netlist xc7 1,797 0 exact" in rows and "finn_netlist xc7 1,797 0 exact" in rows
    assert "finn xc7 yosys 2,335 - 0 1.5 - -" in rows
    assert "finn xc7 netlist - - - - 210 64" in rows


def test_circuits_that_differ_are_not_called_the_same() -> None:
    records = both_ways()
    records[-1]["value"] = 3
    said = str(report.two_circuits([report.Record(**one) for one in records]))
    assert "answers that differ" in said and "3 codes differ" in said


@pytest.mark.parametrize("lost", range(16))
def test_without_all_figures_of_both_nothing_is_weighed(lost: int) -> None:
    records = [report.Record(**one) for one in both_ways()]
    left = [record for place, record in enumerate(records) if place != lost]
    told = records[lost].name.endswith("total_samples")  # not needed
    assert (report.two_circuits(left) is not None) == told


def test_skips_are_shown_with_their_reason(tmp_path: Path) -> None:
    assert "skipped verify.netlist: no yosys" in text(run_folder(tmp_path, []))


def test_a_reason_is_shown_as_it_was_written(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, [])
    content = json.loads((folder / "run.json").read_text())
    content["skipped"][0]["reason"] = "Concat [axis] joins 'a' and [/b]"
    (folder / "run.json").write_text(json.dumps(content))
    assert "skipped verify.netlist: Concat [axis] joins 'a' and [/b]" in text(folder)


def test_a_remark_is_shown_once(tmp_path: Path) -> None:
    records = [record(f"cost.toy.{name}", 1, remark="not exact: dense") for name in ("lut", "ff")]
    folder = run_folder(tmp_path, [], records)
    assert text(folder).count("remark: not exact: dense") == 1
    found = report.summarize(folder, toy(tmp_path))["records"]
    assert {r["remark"] for r in found} == {"not exact: dense"}


def test_records_of_an_older_run_have_no_remark(tmp_path: Path) -> None:
    old = record("cost.toy.lut", 1)
    del old["remark"]
    folder = run_folder(tmp_path, [], [old])
    assert report.summarize(folder, toy(tmp_path))["records"][0]["remark"] is None
    assert "remark" not in text(folder)


def test_the_report_of_a_model_that_was_brought_has_the_stages_of_its_flow(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, [{"name": "import", "status": "ok", **STAGE}])
    content = json.loads((folder / "run.json").read_text())
    content["parameters"] = {"graph": "a.onnx", "keras": ""}
    (folder / "run.json").write_text(json.dumps(content))
    stages = [stage["name"] for stage in report.summarize(folder)["stages"]]
    assert stages == ["import", "hls4ml", "synthesize", "report"]
    content["parameters"]["flow"] = "both"
    (folder / "run.json").write_text(json.dumps(content))
    stages = [stage["name"] for stage in report.summarize(folder)["stages"]]
    assert stages == ["import", "hls4ml", "finn", "synthesize", "report"]


def test_a_run_is_found_by_id_by_path_and_by_being_the_latest(tmp_path: Path) -> None:
    old, new = run_folder(tmp_path, [], age=1), run_folder(tmp_path, [])
    assert report.find(tmp_path) == new
    assert report.find(tmp_path, old.name) == old
    assert report.find(tmp_path, str(old)) == old
    with pytest.raises(BadRequest, match=f"Did you mean '{old.name}'"):
        report.find(tmp_path, old.name.replace("1", "9"))
    with pytest.raises(RunError, match="fastml run digits"):
        report.find(tmp_path / "empty")
