"""Hold notebooks to their rules, strip what must not be stored, store what is to be checked.

    python ci/notebooks.py check
    python ci/notebooks.py strip                              # part of `make format`
    python ci/notebooks.py store NOTEBOOK EXECUTED_COPY       # outputs of its marked cells

The rules are those that CONTRIBUTING.md gives for a notebook: how long it may be, what it must
have, and which outputs it may carry. The test suite checks them.
"""

import ast
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from fastml_kit.errors import RunError
from fastml_kit.sources import parameters_cell

ROOT = Path(__file__).resolve().parents[1]
#: The map of all notebooks: it has no question of its own, so it may be short.
MAP = "00_start_here.ipynb"

MARK = "# NBVAL_CHECK_OUTPUT"
CODE_CELLS = range(12, 26)
MEDIAN_LINES, MAX_LINES = 8, 25
WORDS = range(600, 1501)
MIN_CHECKS = 3
EXERCISES = 3
HEADINGS = ("What you will learn", "Before you start", "What we saw", "Exercises", "References")
MAX_OUTPUT = 4000  # characters in a marked cell: more is not "small and stable"


def paths(root: Path = ROOT) -> list[Path]:
    """Return the project's notebooks, in reading order."""
    found = (root / "notebooks").rglob("*.ipynb")
    return sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)


def problems(path: Path) -> list[str]:
    """Return what is wrong with the notebook at `path`, one line each; empty when nothing is."""
    try:
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
    except (ValueError, nbformat.ValidationError) as error:
        return [f"{path.name} is not a valid notebook: {str(error).splitlines()[0]}"]
    if broken := list(syntax(book)):  # nothing else can be told of it
        return [f"{path.name}: {problem}" for problem in broken]
    rules = [stored_outputs, code] + ([] if path.name == MAP else [size, prose])
    found = [f"{path.name}: {problem}" for rule in rules for problem in rule(book)]
    try:
        parameters_cell(path)
    except RunError as error:
        found.append(str(error))
    return found


def strip(book: NotebookNode) -> NotebookNode:
    """Return `book` as it is stored: outputs of marked cells only, and nobody's metadata."""
    book.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3 (ipykernel)",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        }
    )
    for cell in book.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    for count, (_, cell) in enumerate(code_cells(book), 1):
        cell.outputs = cell.outputs if MARK in cell.source else []
        for output in cell.outputs:
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
            if "execution_count" in output:
                output.execution_count = count
        # nbval compares only where a cell has been run, as this number tells it.
        cell.execution_count = count if cell.outputs else None
    return book


def store(book: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """Return `book` with the outputs that its marked cells had in an `executed` copy of it."""
    outputs = {cell.id: cell.outputs for _, cell in code_cells(executed)}
    for _, cell in code_cells(book):
        cell.outputs = outputs.get(cell.id, cell.outputs)
    return strip(book)


def stored_outputs(book: NotebookNode) -> Iterator[str]:
    """Outputs only where they are checked, small, and without error; no other left-overs."""
    for number, cell in code_cells(book):
        marked = MARK in cell.source
        if cell.outputs and not marked:
            yield f"cell {number} stores outputs without {MARK}; `make format` strips them"
        if marked and not cell.outputs:
            yield f"cell {number} says {MARK} and stores no output to check against"
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"cell {number} stores an error"
        if len(str(cell.outputs)) > MAX_OUTPUT:
            yield f"cell {number} stores more than {MAX_OUTPUT} characters of output"
    if nbformat.writes(strip(nbformat.from_dict(book))) != nbformat.writes(book):
        yield "metadata or execution counts are left in it; `make format` strips them"


def syntax(book: NotebookNode) -> Iterator[str]:
    """Plain Python, which every tool can read: no magics, no shell lines."""
    for number, cell in code_cells(book):
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            yield f"cell {number} is not plain Python: {error.msg} (no magics, no shell lines)"


def code(book: NotebookNode) -> Iterator[str]:
    """Short cells, of no particular machine."""
    for number, cell in code_cells(book):
        if len(cell.source.splitlines()) > MAX_LINES:
            yield f"cell {number} has {len(cell.source.splitlines())} lines; at most {MAX_LINES}"
        if found := re.search(r"""["'](~|/(home|root|Users|tmp|opt|mnt)\b)[^"']*""", cell.source):
            yield f"cell {number} names a machine's own path: {found.group()[1:]}"


def size(book: NotebookNode) -> Iterator[str]:
    """A lesson's length: enough to teach one thing, not more than one sitting."""
    sources = [cell.source for _, cell in code_cells(book)]
    if len(sources) not in CODE_CELLS:
        yield f"{len(sources)} code cells; {CODE_CELLS[0]} to {CODE_CELLS[-1]}"
    median = statistics.median(len(source.splitlines()) for source in sources) if sources else 0
    if median > MEDIAN_LINES:
        yield f"the median code cell has {median:g} lines; at most {MEDIAN_LINES}"
    words = len(re.findall(r"\w[\w'’-]*", prose_of(book)))
    if words not in WORDS:
        yield f"{words} words of prose; {WORDS[0]} to {WORDS[-1]}"
    checks = sum(count_checks(source) for source in sources)
    if checks < MIN_CHECKS:
        yield f"{checks} checks that can fail (assert, assert_...()); at least {MIN_CHECKS}"


def prose(book: NotebookNode) -> Iterator[str]:
    """A question as title, the headings that every lesson has, and exercises."""
    text = prose_of(book)
    title = next((line for line in text.splitlines() if line.startswith("# ")), "")
    if not title.endswith("?"):
        yield f"its title is no question: {title!r}"
    headings = re.findall(r"^#{2,}\s+(.*)$", text, re.MULTILINE)
    for wanted in HEADINGS:
        if not any(heading.startswith(wanted) for heading in headings):
            yield f"there is no heading `## {wanted}`"
    exercises = text.partition("Exercises\n")[2].partition("\n#")[0]
    if (count := len(re.findall(r"^\s*\d+[.)] ", exercises, re.MULTILINE))) != EXERCISES:
        yield f"{count} numbered exercises; there must be {EXERCISES}"


def count_checks(source: str) -> int:
    """Count the statements of a cell that stop the notebook when a claim does not hold."""
    nodes = list(ast.walk(ast.parse(source)))
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    names = [str(getattr(call, "attr", getattr(call, "id", ""))) for call in calls]
    return sum(isinstance(node, ast.Assert) for node in nodes) + sum(
        name.startswith(("assert_", "require")) for name in names
    )


def code_cells(book: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """Return the code cells with their place among all cells, counted from 1."""
    return [(n, cell) for n, cell in enumerate(book.cells, 1) if cell.cell_type == "code"]


def prose_of(book: NotebookNode) -> str:
    """Return the text of all Markdown cells."""
    return "\n\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")


def main(command: str = "check", *files: str) -> int:
    """Do what `command` says; return 1 when a check finds a broken rule, or no notebook at all."""
    if command == "store":
        target, executed = map(Path, files)
        write(target, store(read(target), read(executed)))
        return 0
    if command == "strip":
        for path in paths():
            write(path, strip(read(path)))
        return 0
    found = [problem for path in paths() for problem in problems(path)]
    print("\n".join(found) or f"{len(paths())} notebooks keep the rules")
    return 1 if found or not paths() else 0


def read(path: Path) -> NotebookNode:
    """Read a notebook."""
    return nbformat.read(path, as_version=4)


def write(path: Path, book: NotebookNode) -> None:
    """Write a notebook as JupyterLab does."""
    path.write_text(nbformat.writes(book) + "\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
