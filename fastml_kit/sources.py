"""Which source code a notebook uses, found by reading it: the part of a digest that is code.

A notebook's closure is its code cells and every module of this package that they import, directly
or not. Names of modules in strings count as imports, because tables such as ``tasks.TASKS`` import
on request. Files beside the modules that are no Python (Verilog, C++) count with their folder.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fastml_kit.errors import RunError
from fastml_kit.files import sha256

PACKAGE = Path(__file__).parent
MODULE_NAME = re.compile(rf"{PACKAGE.name}(\.\w+)*")

#: Modules that carry results about, but do not make them: a change there reruns nothing.
ORCHESTRATION = frozenset(
    {
        "cells",
        "cli",
        "files",
        "flow",
        "manifest",
        "parameters",
        "planning",
        "records",
        "runner",
        "runs",
        "schema",
        "session",
        "sources",
        "stage",
        "stages",
    }
)


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    """Return a notebook's code cells, each with ``source`` as one text and ``tags``.

    Raises:
        RunError: the file is missing, or is no notebook.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        return [
            {
                "source": "".join(cell["source"]),
                "tags": cell.get("metadata", {}).get("tags", []),
            }
            for cell in cells
            if cell["cell_type"] == "code"
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{notebook} is no notebook that can be read: {error}") from error


def parameters_cell(notebook: Path) -> dict[str, Any]:
    """Return names and default values from the cell tagged ``parameters``.

    Raises:
        RunError: there is not exactly one such cell, or it holds more than plain literals.
    """
    cells = [cell["source"] for cell in code_cells(notebook) if "parameters" in cell["tags"]]
    if len(cells) != 1:
        raise RunError(f"{notebook} has {len(cells)} cells tagged 'parameters'; it must have one")
    try:
        return literals(cells[0])
    except RunError as error:
        raise RunError(f"the parameters cell of {notebook}: {error}") from error


def literals(code: str) -> dict[str, Any]:
    """Return names and values of `code` that assigns plain literals, and does nothing else.

    Raises:
        RunError: it holds something else.
    """
    try:
        values = {}
        for statement in ast.parse(code).body:
            match statement:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=ast.expr() as value)
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                ):
                    values[name] = ast.literal_eval(value)
                case _:
                    raise ValueError(f"line {statement.lineno} is no NAME = literal")
    except (SyntaxError, ValueError) as error:
        raise RunError(f"it must hold nothing but NAME = literal ({error})") from error
    return values


def digest(notebook: Path) -> str:
    """Return the SHA-256 over what running `notebook` executes of this package and of itself.

    The values in the parameters cell do not count: those of a run are in its parameters.
    """
    total = hashlib.sha256(_code(notebook).encode())
    for path in sorted(files(notebook)):
        total.update(f"\0{path.relative_to(PACKAGE)}\0{sha256(path)}".encode())
    return total.hexdigest()


def files(notebook: Path) -> set[Path]:
    """Return the files of this package that `notebook` uses, orchestration left out."""
    try:
        return closure(_code(notebook))
    except SyntaxError:  # a cell that cannot be read may import anything
        return set(PACKAGE.rglob("*.py"))


def _code(notebook: Path) -> str:
    """Return all code of `notebook` but its parameters."""
    return "\n\n".join(
        cell["source"]
        for cell in code_cells(notebook)
        if not {"parameters", "injected-parameters"} & set(cell["tags"])
    )


def closure(code: str) -> set[Path]:
    """Return the files of this package that `code` imports, directly or not.

    Raises:
        SyntaxError: it is no Python.
    """
    used: set[Path] = set()
    todo = set(_imports(_without_magics(code), package=""))
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        # Importing a.b.c runs a and a.b first.
        todo.update({name.rpartition(".")[0]} - {""})
        path = _module_path(name)
        if name in seen or path is None or ORCHESTRATION & set(name.split(".")[1:2]):
            continue
        seen.add(name)
        used.add(path)
        used.update(_beside(path.parent))
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        todo |= set(_module_imports(path, package)) - seen
    return used


@cache
def _module_imports(path: Path, package: str) -> tuple[str, ...]:
    return tuple(_imports(path.read_text(encoding="utf-8"), package=package))


def _imports(code: str, *, package: str) -> Iterator[str]:
    """Yield the names that may be modules of this package and that `code` mentions."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and MODULE_NAME.fullmatch(str(node.value)):
            yield str(node.value)


def _module_path(name: str) -> Path | None:
    """Return the file of the module `name` if it belongs to this package."""
    top, *rest = name.split(".")
    if top != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*rest)
    return next((p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()), None)


def _beside(folder: Path) -> Iterator[Path]:
    """Yield the files below a room that are no Python. The package's own folder is no room."""
    if folder != PACKAGE:
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                yield path


def _without_magics(code: str) -> str:
    """Return `code` without IPython's lines, which Python cannot parse."""
    return "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))
