"""pyproject.toml, the lock, environment.yml and this environment say the same."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata

import pytest
import setup_env
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from fastml_kit import tools

ROOT = setup_env.ROOT
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", setup_env.LOCK.read_text(), re.MULTILINE))


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def drift(requirements, versions):
    """Return one line for each requirement that `versions` does not meet."""
    lines = []
    for requirement in map(Requirement, requirements):
        version = versions.get(canonical(requirement.name))
        if version is None or version not in requirement.specifier:
            lines.append(f"{requirement} is asked for, {version} is pinned; run `make lock`")
    return lines


def test_the_lock_pins_what_pyproject_asks_for():
    asked = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["finn"],
        *PROJECT["dependency-groups"]["dev"],
        *PROJECT["build-system"]["requires"],  # the project is built without isolation
    ]
    assert drift(asked, LOCK) == []


def test_drift_is_told_by_name():
    assert drift(["numpy>=2"], {"numpy": "1.26"}) == [
        "numpy>=2 is asked for, 1.26 is pinned; run `make lock`"
    ]
    assert len(drift(["nowhere"], {})) == 1


def test_every_pin_carries_a_hash_and_no_index_is_named():
    text = setup_env.LOCK.read_text()
    stanzas = re.findall(r"^[a-z0-9-]+==.*(?:\n    .*)*", text, re.MULTILINE)
    assert len(stanzas) == len(LOCK) == setup_env.count()
    assert [stanza for stanza in stanzas if "--hash=sha256:" not in stanza] == []
    assert "://" not in text


def test_the_lock_leaves_out_what_would_break_it_or_is_too_large():
    # hgq2 overwrites QKeras; torch brings gigabytes; cbcbox 600 MB for a solver that is not used.
    assert not {"hgq2", "torch", "brevitas", "cbcbox"} & LOCK.keys()


def test_this_environment_is_the_lock():
    # Of its own folder only: setuptools, once imported, adds the copies that it brings along.
    here = metadata.distributions(path=[sysconfig.get_path("purelib")])
    installed = {canonical(dist.name): dist.version for dist in here}
    drifted = {
        name: f"{installed.get(name)} is here, {version} is pinned"
        for name, version in LOCK.items()
        if installed.get(name) != version
    }
    assert drifted == {}, "`make env` brings the environment back to the lock"


def test_environment_yml_gives_the_python_that_pyproject_requires():
    asked = {
        Requirement(line).name: Requirement(line).specifier
        for line in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
        for line in [re.sub(r"(?<![=<>!])=(?!=)", "==", line)]  # conda's = is pip's ==
    }
    assert asked["python"] == SpecifierSet("==3.11")
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains("3.11.9")
    assert {"gxx", "make", "pip"} <= asked.keys()


def test_doctor_asks_only_for_packages_that_the_lock_brings():
    dists = [entry.dist or name for name, entry in tools.TABLE.items() if entry.kind == "package"]
    assert [dist for dist in dists if dist not in LOCK] == []


# --- the set-up itself: nothing below installs anything ---------------------------------------


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """Let `setup_env` take a temporary folder for its clone, and refuse to install."""
    (tmp_path / "pyproject.toml").write_text("one")
    lock = tmp_path / "requirements.lock"
    lock.write_text("uv==1 \\\n    --hash=sha256:0\nzipp==4 \\\n    --hash=sha256:1\n")
    for name, value in {"ROOT": tmp_path, "LOCK": lock, "VENV": tmp_path / ".venv"}.items():
        monkeypatch.setattr(setup_env, name, value)
    monkeypatch.setattr(sys, "argv", ["setup_env.py"])
    monkeypatch.setattr(setup_env, "install", lambda *_: pytest.fail("must not install"))
    return tmp_path


def finish(clone):
    """Make `clone` look like a finished environment, as `install` does."""
    (clone / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    (clone / ".venv" / "bin" / "python").touch()


def test_a_finished_environment_is_left_alone_until_something_changes(clone, monkeypatch):
    monkeypatch.setattr(setup_env, "install", lambda *_: finish(clone))
    assert setup_env.main() == 0
    monkeypatch.setattr(setup_env, "install", lambda *_: pytest.fail("must not install"))
    assert setup_env.main() == 0
    for change in ("requirements.lock", "pyproject.toml"):
        (clone / change).write_text("uv==2\n")
        assert not setup_env.is_fresh(clone / ".venv")
        (clone / ".venv" / setup_env.STAMP).write_text(setup_env.digest(clone / ".venv"))
    assert setup_env.is_fresh(clone / ".venv")
    (clone / ".venv" / "bin" / "python").unlink()
    assert not setup_env.is_fresh(clone / ".venv")


def test_a_moved_environment_is_stale(clone):
    assert setup_env.digest(clone / ".venv") != setup_env.digest(clone / "elsewhere" / ".venv")


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (KeyboardInterrupt(), 130, "run it again"),
        (subprocess.CalledProcessError(7, ["uv", "pip", "sync"]), 1, "uv pip sync"),
    ],
)
def test_an_unfinished_environment_gets_no_stamp(clone, monkeypatch, capsys, error, code, word):
    def install(*_):
        finish(clone)
        raise error

    monkeypatch.setattr(setup_env, "install", install)
    assert setup_env.main() == code
    assert word in capsys.readouterr().err
    assert not setup_env.is_fresh(clone / ".venv")


def replace_python(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))


OBSTACLES = {
    "Linux x86-64": lambda patch: patch.setattr(sys, "platform", "darwin"),
    "Python 3.11 is needed": replace_python,
    "no g++ on PATH": lambda patch: patch.setenv("PATH", ""),
    "python3.11-venv": lambda patch: patch.setattr(setup_env, "find_spec", lambda name: None),
    "GB of disk are needed": lambda patch: patch.setattr(setup_env, "NEED_GB", 1e9),
    "no conda or virtual environment": lambda patch: (
        patch.setattr(sys, "argv", ["setup_env.py", "--active"]),
        patch.setattr(sys, "prefix", sys.base_prefix),
    ),
}


@pytest.mark.parametrize("words", OBSTACLES)
def test_an_obstacle_is_one_line_and_exit_2_before_anything_is_done(
    clone, monkeypatch, capsys, words
):
    OBSTACLES[words](monkeypatch)
    assert setup_env.main() == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_the_lock_gives_the_lines_of_one_package(clone):
    assert setup_env.pinned("uv") == "uv==1 \\\n    --hash=sha256:0\n"
    assert setup_env.count() == 2
    with pytest.raises(SystemExit, match="make lock"):
        setup_env.pinned("pip")


def test_uv_is_told_of_the_index_that_pip_uses(tmp_path, monkeypatch):
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    python = tmp_path / "python"
    python.touch(mode=0o755)
    python.write_text("#!/bin/sh\necho \"global.extra-index-url='https://no.example'\"\n")
    assert setup_env.index(python) == {}
    python.write_text("#!/bin/sh\necho \"global.index-url='https://pip.example/simple'\"\n")
    assert setup_env.index(python) == {"UV_DEFAULT_INDEX": "https://pip.example/simple"}
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv.example")  # a user's own choice stays
    assert setup_env.index(python) == {}


def test_a_second_set_up_waits_for_the_installers_that_a_killed_one_left(tmp_path):
    lock = tmp_path / "lock"
    lock.touch()
    first = (
        "import subprocess, sys, setup_env\n"
        "held = open(sys.argv[1])\n"
        "setup_env.hold(held.fileno())\n"
        "child = subprocess.Popen(['sleep', '2'], pass_fds=[held.fileno()])\n"
        "print('held', flush=True)\n"
        "child.wait()\n"
    )
    command = [sys.executable, "-c", first, str(lock)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "ci")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout.readline() == "held\n"
        running.send_signal(signal.SIGKILL)
    with lock.open() as mine:
        with pytest.raises(BlockingIOError):  # the orphan still holds it
            fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        setup_env.hold(mine.fileno())  # until it has ended


def test_set_up_speaks_under_any_python_3_that_is_still_about():
    # Whatever `python3` is on a machine must get as far as the line about 3.11.
    import ast

    ast.parse((ROOT / "ci" / "setup_env.py").read_text(), feature_version=(3, 7))
