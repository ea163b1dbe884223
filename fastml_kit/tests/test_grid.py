"""The grid of CI judges what a run recorded, and does not let anything pass that is not there."""

import grid
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

POINT = grid.Point("default", (), quality=0.97, targets=frozenset({"xc7"}))
BOTH = grid.Point("both", (), quality=0.97, engines=grid.ENGINES | grid.FINN_ENGINES)


def report(point=POINT):
    """Return the report of a run in which everything is as it must be."""
    records = [
        {"name": "quality.qat", "value": 0.98, "target": None, "source": "keras"},
        {"name": "cost.da4ml.dsp", "value": 0, "target": "xc7", "source": "yosys"},
        {"name": "cost.finn.dsp", "value": 0, "target": "xc7", "source": "yosys"},
        {"name": "cost.finn.dsp", "value": 3, "target": None, "source": "estimate"},
    ]
    for engine in point.engines:
        target = "xc7" if engine.endswith("netlist") else None
        for what, value in (("samples", grid.SAMPLES), ("mismatches", 0)):
            name = f"verify.{engine}.{what}"
            records.append({"name": name, "value": value, "target": target, "source": engine})
    return {"stages": [{"name": "train", "status": "ok"}], "records": records}


def change(name, value):
    def apply(good):
        good["records"] = [
            {**record, "value": value} if record["name"] == name else record
            for record in good["records"]
        ]

    return apply


def drop(name):
    def apply(good):
        good["records"] = [record for record in good["records"] if record["name"] != name]

    return apply


def fail_a_stage(good):
    good["stages"][0]["status"] = "failed"


def add_a_bad_target(good):
    # The same engine on another target: one good record must not hide a bad one.
    worse = {"name": "verify.netlist.mismatches", "value": 5, "target": "xc7", "source": "netlist"}
    good["records"].append(worse)


def test_a_good_run_has_no_faults():
    assert grid.judge(report(), POINT) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (change("verify.csim.mismatches", 1), "verify.csim.mismatches"),
        (change("verify.rtl.samples", 32), "verify.rtl.samples"),
        (drop("verify.csim.mismatches"), "missing"),
        (drop("cost.da4ml.dsp"), "cost.da4ml.dsp is there for [], not ['xc7']"),
        (change("quality.qat", 0.5), "below 0.97"),
        (drop("quality.qat"), "below 0.97"),
        (fail_a_stage, "train is failed"),
        (add_a_bad_target, "verify.netlist.mismatches"),
    ],
)
def test_a_bad_run_is_told(spoil, words):
    bad = report()
    spoil(bad)
    (fault,) = grid.judge(bad, POINT)
    assert words in fault


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (change("verify.finn_rtl.mismatches", 1), "verify.finn_rtl.mismatches"),
        (change("verify.dataflow.samples", 32), "verify.dataflow.samples"),
        (drop("verify.finn_rtl.samples"), "missing"),
        (drop("cost.finn.dsp"), "cost.finn.dsp is there for [], not ['xc7']"),
    ],
)
def test_a_run_with_both_ways_is_judged_on_both(spoil, words):
    both = report(BOTH)
    assert grid.judge(both, BOTH) == []
    spoil(both)
    (fault,) = grid.judge(both, BOTH)
    assert words in fault
    assert any("dataflow" in fault for fault in grid.judge(report(), BOTH))


def test_a_page_with_a_cell_that_failed_or_never_ran_is_told(tmp_path):
    ran, failed, never = (new_code_cell("x = 1") for _ in range(3))
    ran.execution_count, failed.execution_count = 1, 2
    failed.outputs = [new_output("error", ename="KeyError", evalue="x", traceback=[])]
    page = tmp_path / "page.ipynb"
    nbformat.write(
        new_notebook(cells=[new_markdown_cell("text"), ran, failed, never, new_code_cell("")]), page
    )
    assert [fault[:18] for fault in grid.unfinished(page)] == [
        "page.ipynb: cell 3",
        "page.ipynb: cell 4",
    ]
