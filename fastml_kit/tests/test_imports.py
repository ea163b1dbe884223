"""The architecture, held: imports point down the floors, and nowhere form a loop."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent

#: Which floor a room is on. Rooms on one floor may import each other, but not in a loop.
FLOORS = {
    "errors": 0,
    "devices": 1,
    "files": 1,
    "fixedpoint": 1,
    "manifest": 1,
    "records": 1,
    "runs": 1,
    "sources": 1,
    "tools": 1,
    "verify": 1,
    "tasks": 2,
    "models": 3,
    "graph": 4,
    "backends": 5,
    "rtl": 6,
    "boards": 7,
    "studies": 8,
    "plots": 9,
    "waves": 9,
    "given": 9,
    "home": 9,
    "example": 9,
    "schema": 9,
    "parameters": 9,
    "stages": 9,
    "flow": 9,
    "planning": 9,
    "cells": 9,
    "stage": 9,
    "session": 9,
    "report": 9,
    "runner": 9,
    "sweep": 9,
    "cli": 9,
    "cli_data": 9,
}
MODULES = [path for path in PACKAGE.rglob("*.py") if "tests" not in path.parts]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Yield the modules of this package that a module imports, wherever in it."""
    names = {name_of(module) for module in MODULES}
    for node in ast.walk(ast.parse(path.read_text())):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        inside = [name.partition(".")[2] for name in found if name.startswith("fastml_kit.")]
        yield from (name for name in inside if name in names)


def test_every_room_has_a_floor() -> None:
    rooms = {name_of(path).partition(".")[0] for path in MODULES} - {"__init__"}
    assert rooms <= FLOORS.keys(), "add the new room to FLOORS"


def test_imports_only_point_down() -> None:
    bad = [
        f"{name_of(path)} -> {used}"
        for path in MODULES
        for used in imports(path)
        if (floor := FLOORS.get(name_of(path).partition(".")[0])) is not None
        and FLOORS[used.partition(".")[0]] > floor
    ]
    assert not bad, bad


def test_imports_form_no_loop() -> None:
    graph = {name_of(path): set(imports(path)) - {name_of(path)} for path in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the loop


def test_no_module_is_longer_than_300_lines() -> None:
    long = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    assert not {name: lines for name, lines in long.items() if lines > 300}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("fastml_kit", "pydantic tensorflow papermill rich onnx"),
        ("fastml_kit.tasks", "tensorflow sklearn"),
        ("fastml_kit.models", "tensorflow qkeras"),
        ("fastml_kit.session", "tensorflow papermill nbformat matplotlib"),
        ("fastml_kit.cli", "tensorflow papermill nbformat matplotlib onnx"),
    ],
)
def test_importing_stays_light(module: str, unwanted: str) -> None:
    code = f"import sys, {module}; print(*(set({unwanted.split()}) & sys.modules.keys()))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not result.stdout.split()
