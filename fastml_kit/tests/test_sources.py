"""Which sources a notebook uses: all that its results depend on, and no orchestration."""

import json
from pathlib import Path

import pytest

from fastml_kit import sources
from fastml_kit.errors import RunError


def names(code: str) -> set[str]:
    return {path.relative_to(sources.PACKAGE).as_posix() for path in sources.closure(code)}


def notebook(path: Path, *cells: str, parameters: str = "a = 1", prose: str = "text") -> Path:
    content = [
        {"cell_type": "markdown", "source": [prose], "metadata": {}},
        {"cell_type": "code", "source": parameters, "metadata": {"tags": ["parameters"]}},
        *({"cell_type": "code", "source": [c], "metadata": {}, "outputs": []} for c in cells),
    ]
    path.write_text(json.dumps({"cells": content}))
    return path


def test_a_closure_follows_imports_however_they_are_written() -> None:
    found = names("import fastml_kit.verify as v")
    assert found == {"__init__.py", "verify.py", "fixedpoint.py", "errors.py"}
    assert names("from fastml_kit import verify") == found
    assert names("def f():\n    from fastml_kit.verify import compare") == found


def test_a_closure_follows_tables_of_module_names() -> None:
    assert "tasks/digits.py" in names("from fastml_kit import tasks")


def test_a_closure_leaves_orchestration_out_and_plots_in() -> None:
    found = names("from fastml_kit import session, runner, plots\nimport fastml_kit.cli")
    assert "plots/style.py" in found
    assert not found & {"session.py", "stage.py", "runs.py", "cli.py", "runner/drive.py"}


def test_files_beside_a_rooms_modules_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    room = tmp_path / "fastml_kit" / "rtl"
    (room / "hdl").mkdir(parents=True)
    for name in ("__init__.py", "simulate.py", "hdl/pipe.v"):
        (room / name).touch()
    (tmp_path / "fastml_kit/__init__.py").touch()
    monkeypatch.setattr(sources, "PACKAGE", tmp_path / "fastml_kit")
    found = names("from fastml_kit.rtl import simulate")
    assert found == {"__init__.py", "rtl/__init__.py", "rtl/simulate.py", "rtl/hdl/pipe.v"}


def test_relative_imports_are_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "fastml_kit"
    (package / "room").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "room/__init__.py").write_text("from . import a")
    (package / "room/a.py").write_text("from ..other import b")
    (package / "other.py").touch()
    monkeypatch.setattr(sources, "PACKAGE", package)
    assert names("import fastml_kit.room") == {
        "__init__.py",
        "room/__init__.py",
        "room/a.py",
        "other.py",
    }


def test_a_digest_changes_with_code_and_not_with_prose_or_parameters(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    code = "%matplotlib inline\nfrom fastml_kit import verify\nx = !ls"
    before = sources.digest(notebook(path, code))
    assert sources.digest(notebook(path, code, prose="other", parameters="a = 2")) == before
    assert sources.digest(notebook(path, code, "y = 2")) != before


def test_a_digest_changes_with_a_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "fastml_kit"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "verify.py").write_text("a = 1")
    (package / "other.py").write_text("a = 1")
    monkeypatch.setattr(sources, "PACKAGE", package)
    path = notebook(tmp_path / "n.ipynb", "from fastml_kit import verify")
    before = sources.digest(path)
    (package / "other.py").write_text("a = 2")
    assert sources.digest(path) == before
    (package / "verify.py").write_text("a = 2")
    assert sources.digest(path) != before


def test_a_cell_that_cannot_be_read_may_use_anything(tmp_path: Path) -> None:
    used = sources.files(notebook(tmp_path / "n.ipynb", "def ("))
    assert sources.PACKAGE / "verify.py" in used
    assert sources.PACKAGE / "plots/style.py" in used


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": [{}]}'])
def test_a_file_that_is_no_notebook_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "n.ipynb").write_text(text)
    with pytest.raises(RunError, match=r"n\.ipynb is no notebook"):
        sources.code_cells(tmp_path / "n.ipynb")
