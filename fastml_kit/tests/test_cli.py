"""The command line: exit codes, one-line refusals, JSON that is only JSON, progress."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fastml_kit import cli
from fastml_kit.flow import FLOW, Flow
from fastml_kit.runner import Event, display
from fastml_kit.tests import networks
from fastml_kit.tests.toyflow import toy, write_notebooks


def fastml(
    capsys: pytest.CaptureFixture[str], *arguments: str, flow: Flow = FLOW
) -> tuple[int, str, str]:
    """Run the command line in this process; return exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as end:
        cli.main(flow, list(arguments))
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "digits", "-p", "weigth_bits", "4"], "Did you mean 'weight_bits'?"),
        (["run", "digits", "-p", "weight_bits", "four"], "a whole number from 2 to 8"),
        (["run", "digits", "-p", "weight_bits", "99"], "weight_bits=99"),
        (["run", "digits", "-p", "targets", "["], "cannot be read as a value"),
        (["run", "didgits"], "Did you mean 'digits'?"),
        (["run", "digits", "-p", "task", "jets"], "the task is 'digits'"),
        (["run", "digits", "--profile", "fulll"], "Did you mean 'full'?"),
        (["run", "digits", "--until", "exprot"], "Did you mean 'export'?"),
        (["run", "digits", "--runs-dir", "/proc/runs"], "cannot be written"),
        (["run", "digits", "--utnil", "export"], "no option --utnil. Did you mean --until?"),
        (["run", "digits", "--flow", "fin"], "no flow 'fin'. Did you mean 'finn'?"),
        (["run", "digits", "-p", "flow", "1"], "flow=1; it must be a text"),
        (["run", "digits", "--flow", "finn", "-p", "flow", "both"], "flow is given twice"),
        (["run", "digits", "-p", "interval_cycles", "8"], "interval_cycles has no effect here"),
        (["notebook", "05_synthesize", "--flow", "bth"], "Did you mean 'both'?"),
        (["run"], "Missing argument 'TASK'; or bring a model"),
        (["run", "--model", "no.onnx", "--data", "x.npy"], "graph='no.onnx' is not there"),
        (["run", "--keras", "no.h5", "--data", "x.npy"], "keras='no.h5' is not there"),
        (["run", "--model", __file__], "data is not given"),
        (["run", "--model", __file__, "--data", __file__], "is no whole .npy file of numbers"),
        (["run", "--data", __file__], "--data goes with a model of your own"),
        (["run", "digits", "--labels", __file__], "--labels goes with a model of your own"),
        (["run", "digits", "--model", __file__], "a run takes one of them"),
        (["run", "--model", __file__, "-p", "graph", "x"], "graph is given twice"),
        (["run", "-p", "graph", __file__, "-p", "weight_bits", "4"], "no parameter 'weight_bits'"),
        (["notebook", "09_nothing"], "no stage '09_nothing'"),
        (["rum", "digits"], "No such command 'rum'"),
        (["report", "some", "--latest"], "not both"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line_with_exit_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setenv("FASTML_RUNS_DIR", str(tmp_path / "runs"))
    code, out, err = fastml(capsys, *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not out
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((3, 5), np.float32), "3 samples of shape (5,), the model wants (6,)"),
        (np.full((3, 6), np.nan), "18 values that are NaN"),
        (np.array([["a"] * 6]), "save real numbers"),
        (np.zeros(6), "the first axis counts samples"),
    ],
)
def test_wrong_samples_are_refused_before_a_kernel_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], samples: Any, message: str
) -> None:
    graph, data = networks.mlp(tmp_path / "mlp.onnx"), tmp_path / "x.npy"
    np.save(data, samples)
    code, out, err = fastml(capsys, "run", "--model", str(graph), "--data", str(data))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not list(tmp_path.glob("runs/*/run.json"))


def test_a_report_of_nothing_fails_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = fastml(capsys, "report", "--runs-dir", str(tmp_path))
    assert (code, err.count("\n")) == (1, 1)
    assert "there is no run" in err


def test_doctor_names_every_tool(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = fastml(capsys, "doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert {"name", "kind", "version", "where", "unlocks", "missing"} == found[0].keys()
    code, shown, _ = fastml(capsys, "doctor")
    assert code == 0
    assert all(tool["name"][:6] in shown for tool in found)


def test_every_command_and_option_has_help() -> None:
    for command in cli.cli.commands.values():
        assert command.help, command.name
        for option in command.params:
            assert option.param_type_name == "argument" or option.help, (command.name, option.name)


def test_a_flow_is_run_reported_and_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_notebooks(tmp_path / "notebooks")
    monkeypatch.setenv("TOY_NOTEBOOKS", str(tmp_path / "notebooks"))
    flow, where = toy(), ["--runs-dir", str(tmp_path / "runs")]
    code, out, err = fastml(capsys, "notebook", "02_two", "-p", "task", "toy", *where, flow=flow)
    assert code == 0, err
    assert "two: ok" in err

    code, out, err = fastml(capsys, "run", "toy", "--json", *where, flow=flow)
    found = json.loads(out)
    assert (code, found["status"]) == (0, "ok")
    assert "one: reused" in err
    assert {record["name"] for record in found["records"]} >= {"cost.toy.lut", "quality.count"}
    assert found["skipped"] == [
        {"name": "verify.netlist", "stage": "two", "reason": "no synthesizer here"}
    ]

    code, again, _ = fastml(capsys, "report", "--json", *where, flow=flow)
    assert (code, json.loads(again)) == (0, found)
    code, shown, _ = fastml(capsys, "run", "toy", *where, flow=flow)
    assert code == 0
    assert shown.count("reused") == 3
    assert "reference" in shown

    code, _, err = fastml(capsys, "notebook", "two", "--force", *where, flow=flow)
    assert code == 0
    assert "one: reused" in err
    assert "two: runs 02_two (asked to run again)" in err


def test_a_run_with_nothing_to_do_is_quick_and_loads_nothing_heavy(tmp_path: Path) -> None:
    write_notebooks(tmp_path / "notebooks")
    env = {**os.environ, "TOY_NOTEBOOKS": str(tmp_path / "notebooks")}
    code = (
        "import sys; from fastml_kit import cli; from fastml_kit.tests.toyflow import toy\n"
        f"try: cli.main(toy(), ['run', 'toy', '--runs-dir', {str(tmp_path / 'runs')!r}])\n"
        "finally: print({'papermill', 'nbformat', 'tensorflow'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code]
    subprocess.run(command, env=env, check=True, capture_output=True)
    begun = time.monotonic()
    again = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert time.monotonic() - begun < 5  # on a busy machine; 0.4 s on a quiet one
    assert again.stdout.endswith("set()\n")


def test_progress_without_a_terminal_is_plain_lines_with_a_heartbeat() -> None:
    console = Console(file=io.StringIO(), width=40)
    with display.Plain(console, heartbeat_s=0.05) as show:
        show(Event("start", "train", "runs flow/01_train_qat (not made yet)"))
        show(Event("cell", "train", "cell 3/14: fit(model)", 3, 14))
        time.sleep(0.3)
        show(Event("end", "train", "ok after 0.3 s"))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "train: runs flow/01_train_qat (not made yet)" in lines[0]
    assert "train: 0 s, cell 3/14: fit(model)" in lines[1]
    assert "train: ok after 0.3 s" in lines[-1]


class Terminal(io.StringIO):
    """A text file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_forced_colours_make_no_terminal(monkeypatch) -> None:
    """A Jupyter kernel sets FORCE_COLOR; its page must still get plain lines."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = Console(file=io.StringIO())
    assert console.is_terminal
    assert isinstance(display.on(console), display.Plain)


def test_progress_on_a_terminal_ends_as_lines() -> None:
    console = Console(file=Terminal(), width=80, force_terminal=True)
    with display.on(console) as show:
        show(Event("wait", "", "a-run is in use by process 1"))
        show(Event("start", "train", "runs flow/01_train_qat"))
        show(Event("cell", "train", "cell 3/14: fit([red]model)", 3, 14))
        show(Event("end", "train", "ok after 0.3 s"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(show, display.Live)
    assert "a-run is in use" in shown
    assert "train: ok after 0.3 s" in shown
