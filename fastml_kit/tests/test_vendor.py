"""Vendor reports: genuine numbers come through; what is missing or cut short is told."""

from pathlib import Path

import pytest

from fastml_kit.backends.base import Cost
from fastml_kit.errors import BuildFailed, ToolNotFound
from fastml_kit.rtl import vendor

DATA = Path(__file__).parent / "data"


def test_a_genuine_report_of_2018_is_read() -> None:
    assert vendor.parse_csynth(DATA / "csynth_2018.xml") == Cost(
        source="csynth",
        lut=21809,
        ff=43219,
        dsp=792,
        bram36=9.0,
        latency_cycles=14,
        interval_cycles=1,
    )


def test_the_layout_of_2023_gives_worst_case_latency_and_half_blocks() -> None:
    assert vendor.parse_csynth(DATA / "csynth_2023.xml") == Cost(
        source="csynth",
        lut=33911,
        ff=6588,
        dsp=29,
        bram36=16.5,
        latency_cycles=140,
        interval_cycles=64,
    )


@pytest.mark.parametrize("text", ["undef", "?", "", "-1"])
def test_what_the_compiler_could_not_tell_is_none(tmp_path: Path, text: str) -> None:
    report = (DATA / "csynth_2023.xml").read_text()
    cut = tmp_path / "model_csynth.xml"
    cut.write_text(report.replace(">140<", f">{text}<").replace("<LUT>33911</LUT>", ""))
    cost = vendor.parse_csynth(cut)
    assert (cost.latency_cycles, cost.lut, cost.ff) == (None, None, 6588)


@pytest.mark.parametrize("end", [0, 300, 1400, -12])
def test_a_report_cut_short_is_refused(tmp_path: Path, end: int) -> None:
    cut = tmp_path / "model_csynth.xml"
    cut.write_text((DATA / "csynth_2023.xml").read_text()[:end])
    with pytest.raises(BuildFailed, match="no complete csynth report"):
        vendor.parse_csynth(cut)


@pytest.mark.parametrize("part", ["AreaEstimates", "PerformanceEstimates"])
def test_a_report_without_a_part_is_refused_by_its_name(tmp_path: Path, part: str) -> None:
    cut = tmp_path / "model_csynth.xml"
    cut.write_text((DATA / "csynth_2023.xml").read_text().replace(part, "Nothing"))
    with pytest.raises(BuildFailed, match=f"lacks {part}"):
        vendor.parse_csynth(cut)


def fake_vitis(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str, name: str) -> None:
    """Put a shell script called `name` alone on PATH, besides the shell's own programs."""
    program = folder / "bin" / name
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("vitis-run", "--mode hls --tcl build_prj.tcl"), ("vitis_hls", "-f build_prj.tcl")],
)
def test_c_synthesis_runs_hls4mls_script_with_either_generation_of_vitis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, arguments: str
) -> None:
    report = "model_prj/solution1/syn/report/model_csynth.xml"
    fake_vitis(
        tmp_path,
        monkeypatch,
        f'test "$*" = "{arguments}" && grep -q "synth      1" build_opt.tcl || exit 3\n'
        f"mkdir -p {Path(report).parent} && cp {DATA / 'csynth_2023.xml'} {report}",
        name,
    )
    assert vendor.synthesize_c(tmp_path, "model").lut == 33911


def test_a_failing_vitis_shows_the_tail_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vitis(tmp_path, monkeypatch, "echo ERROR: no licence; exit 1", "vitis-run")
    with pytest.raises(BuildFailed, match="no licence"):
        vendor.synthesize_c(tmp_path, "model")


def test_a_vitis_that_leaves_no_report_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vitis(tmp_path, monkeypatch, "exit 0", "vitis-run")
    with pytest.raises(BuildFailed, match="wrote no"):
        vendor.synthesize_c(tmp_path, "model")


def test_without_vitis_the_error_names_the_variable_that_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("FASTML_VITIS_RUN", "FASTML_VITIS_RUN"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ToolNotFound, match="FASTML_VITIS_RUN"):
        vendor.synthesize_c(tmp_path, "model")
