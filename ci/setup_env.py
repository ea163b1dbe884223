"""Make the environment of ci/requirements.lock: in `.venv`, or in the active one (`--active`).

The one way in: `make`, conda users, Binder's postBuild and CI all run this file. It needs nothing
but Python 3.11's standard library, g++ and make; what it needs and lacks, it says in one line
before anything is downloaded. A finished environment carries a stamp, written last, so it is left
alone until the lock or pyproject.toml changes; one without a stamp was interrupted, and is made
anew from uv's cache, which keeps every package that had arrived.

Why uv: the same lock of 208 packages took uv 31 s and pip 117 s from a near registry with empty
caches, and 31 s against 156 s with full ones, on 2 cores, bytecode compiled in each case.
"""

from __future__ import annotations  # so that an older Python gets as far as being told

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "ci" / "requirements.lock"
VENV = ROOT / ".venv"
STAMP = "fastml-kit.stamp"
NEED_GB = 4.0  # measured: 3.7, with uv's cache, which shares most files with .venv


def main() -> int:
    """Return 0 when the environment is as the lock says, 1 if installing failed, 2 if it cannot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--active",
        action="store_true",
        help="install into the conda or virtual environment that runs this file",
    )
    active = parser.parse_args().active
    prefix = Path(sys.prefix) if active else VENV
    if is_fresh(prefix):
        return 0
    problem = obstacle(active) or no_room(prefix)
    if problem:
        say(f"cannot set up: {problem}")
        return 2
    start = time.monotonic()
    try:
        with LOCK.open() as lock:
            hold(lock.fileno())
            if is_fresh(prefix):  # whoever held it has done the work
                return 0
            say(f"installing {count()} packages into {prefix}, which takes one to five minutes")
            install(prefix, active, lock.fileno())
            (prefix / STAMP).write_text(digest(prefix))
    except KeyboardInterrupt:
        say("interrupted; run it again to go on")
        return 130
    except subprocess.CalledProcessError as error:
        say(f"failed: {' '.join(map(str, error.cmd[:6]))} ... ended with {error.returncode}")
        return 1
    say(f"environment ready after {time.monotonic() - start:.0f} s")
    return 0


def obstacle(active: bool) -> str | None:
    """Say in one line why this machine or interpreter will not do, if so."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        here = f"{sys.platform} {platform.machine()}"
        return f"the supported platform is Linux x86-64, this is {here}"
    if sys.version_info[:2] != (3, 11):
        found = f"{sys.executable} is {platform.python_version()}"
        return f"Python 3.11 is needed, {found}; try `make PYTHON=/path/to/python3.11`"
    for program in ("g++", "make"):
        if shutil.which(program) is None:
            return f"no {program} on PATH; on Debian or Ubuntu: apt-get install {program}"
    if active and sys.prefix == sys.base_prefix and not Path(sys.prefix, "conda-meta").is_dir():
        return f"--active, but {sys.prefix} is no conda or virtual environment"
    for module in () if active else ("venv", "ensurepip"):
        if find_spec(module) is None:
            return f"Python lacks {module}; on Debian or Ubuntu: apt-get install python3.11-venv"
    return None


def no_room(prefix: Path) -> str | None:
    """Say in one line that the disk is too full, if so."""
    if (prefix / STAMP).exists():  # most of it is there already
        return None
    free = shutil.disk_usage(prefix.parent).free / 1e9
    return f"{NEED_GB:g} GB of disk are needed, {free:.1f} GB are free" if free < NEED_GB else None


def is_fresh(prefix: Path) -> bool:
    """Tell whether `prefix` is finished, and as the lock and pyproject.toml are now."""
    try:
        stamp = (prefix / STAMP).read_text()
    except OSError:
        return False
    return (prefix / "bin" / "python").exists() and stamp == digest(prefix)


def digest(prefix: Path) -> str:
    """Return what an environment depends on; its place too, as a moved one does not work."""
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), str(prefix).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def hold(lock: int) -> None:
    """Wait for any other set-up of this clone, and for installers that a killed one left behind."""
    import fcntl  # not everywhere, and elsewhere we get no further than `obstacle`

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another set-up is running here; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)


def install(prefix: Path, active: bool, lock: int) -> None:
    """Bring `prefix` to what the lock says, and the project itself into it, editable."""
    python = prefix / "bin" / "python"
    finished = (prefix / STAMP).exists() and python.exists()
    (prefix / STAMP).unlink(missing_ok=True)

    def run(*command: str | Path, stdin: str = "", **extra: str) -> None:
        # Our children inherit the lock on the clone: it is free when the last of them has ended.
        subprocess.run(
            command, check=True, input=stdin, text=True, env=os.environ | extra, pass_fds=[lock]
        )

    if not active and not finished:
        # Not by the interpreter of the very folder that is to be cleared.
        run(getattr(sys, "_base_executable", sys.executable), "-m", "venv", "--clear", prefix)
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    # The lock pins uv too, by hash: pip brings that one package, and uv the others.
    run(*pip, "install", "-q", "--require-hashes", "-r", "/dev/stdin", stdin=pinned("uv"))
    uv = (python, "-m", "uv", "pip")
    # An environment of our own becomes exactly the lock; a user's keeps what else is in it.
    goal = ("install", "--no-deps", "-r", LOCK) if active else ("sync", LOCK)
    torn = ("--reinstall",) if active and not finished else ()
    options = ("--python", python, "--require-hashes", "--compile-bytecode", *torn)
    run(*uv, *goal, *options, **index(python))
    editable = ("--no-deps", "--no-build-isolation", "-e", ROOT)
    run(*uv, "install", "-q", "--python", python, *editable)


def index(python: Path) -> dict[str, str]:
    """Return what tells uv of the package index that pip is configured for; uv does not look."""
    if any(name in os.environ for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")):
        return {}
    command: list[str | Path] = [python, "-m", "pip", "config", "list"]
    settings = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"\.index-url='(.+)'$", settings, re.MULTILINE)
    return {"UV_DEFAULT_INDEX": found[-1]} if found else {}


def pinned(name: str) -> str:
    """Return the lock's lines for one package: its version and hashes."""
    found = re.search(rf"^{name}==(.*\\\n)*.*\n", LOCK.read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"fastml: {LOCK} does not pin {name}; `make lock` writes it anew")
    return found.group()


def count() -> int:
    """Return how many packages the lock holds."""
    return len(re.findall(r"^[a-z].*==", LOCK.read_text(), re.MULTILINE))


def say(line: str) -> None:
    """Tell the user, at once also where the output is a pipe."""
    print(f"fastml: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
