"""The notebooks keep their rules, and the rules can tell."""

import configparser
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import notebooks as rules

BOOKS = rules.paths()


def test_there_are_notebooks():
    assert BOOKS, f"no notebook under {rules.ROOT / 'notebooks'}"


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_notebook_keeps_the_rules(path):
    assert rules.problems(path) == []


def lesson():
    """Return a made-up notebook that keeps every rule."""
    text = [
        "# How few bits does a digit need?",
        "## What you will learn\n\nwords " + "word " * 700,
        "## Before you start",
        "## What we saw, and what it does not show",
        "## Exercises\n\n1. one\n2. two\n3. three",
        "## References",
    ]
    code = [new_code_cell("import numpy as np"), new_code_cell("weight_bits = 4  # width")]
    code[1].metadata["tags"] = ["parameters"]
    code += [new_code_cell(f"assert np.sum([{n}]) == {n}") for n in range(11)]
    code[-1].source = f"{rules.MARK}\nprint(1)"
    code[-1].outputs = [new_output("stream", text="1\n")]
    return rules.strip(new_notebook(cells=[*map(new_markdown_cell, text), *code]))


def found_in(book, tmp_path):
    path = tmp_path / "lesson.ipynb"
    nbformat.write(book, path)
    return rules.problems(path)


def test_a_good_notebook_has_no_problems(tmp_path):
    assert found_in(lesson(), tmp_path) == []


def code(book, number):
    return [cell for cell in book.cells if cell.cell_type == "code"][number]


def add_output(book):
    code(book, 0).outputs = [new_output("stream", text="hello")]


def lose_output(book):
    code(book, -1).outputs = []


def run_a_cell(book):
    code(book, 0).execution_count = 3


def fail(book):
    code(book, -1).outputs = [new_output("error", ename="ValueError", evalue="", traceback=[])]


def compute_a_parameter(book):
    code(book, 1).source = "weight_bits = 2 + 2"


def untag(book):
    code(book, 1).metadata = nbformat.from_dict({})


def use_magic(book):
    code(book, 0).source = "%matplotlib inline"


def write_much(book):
    code(book, 3).source = "x = 1\n" * 26


def name_a_path(book):
    code(book, 3).source = "open('/home/me/model.h5')"


def claim_without_checks(book):
    for cell in book.cells:
        cell.source = cell.source.replace("assert ", "print")


def state(book):
    book.cells[0].source = "# Digits need few bits"


def drop_a_heading(book):
    book.cells[2].source = "Before"


def drop_an_exercise(book):
    book.cells[4].source = "## Exercises\n\n1. one"


def fall_silent(book):
    book.cells[1].source = "## What you will learn"


def cut(book):
    del book.cells[9:14]


FAULTS = {
    add_output: "stores outputs without",
    lose_output: "stores no output",
    run_a_cell: "`make format` strips",
    fail: "stores an error",
    compute_a_parameter: "literal",
    untag: "must have one",
    use_magic: "not plain Python",
    write_much: "26 lines",
    name_a_path: "/home/me",
    claim_without_checks: "checks that can fail",
    state: "no question",
    drop_a_heading: "Before you start",
    drop_an_exercise: "1 numbered exercises",
    fall_silent: "words of prose",
    cut: "code cells",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_rule_is_told(fault, tmp_path):
    book = lesson()
    fault(book)
    assert any(FAULTS[fault] in problem for problem in found_in(book, tmp_path))


def test_what_is_no_notebook_is_told(tmp_path):
    path = tmp_path / "broken.ipynb"
    path.write_text("{")
    assert "not a valid notebook" in rules.problems(path)[0]


def test_stripping_twice_is_stripping_once_and_keeps_marked_outputs():
    book = lesson()
    run_a_cell(book)
    once = rules.strip(book)
    assert code(once, 0).execution_count is None
    assert code(once, -1).outputs[0].text == "1\n"
    assert nbformat.writes(rules.strip(once)) == nbformat.writes(once)


def test_storing_takes_the_outputs_of_marked_cells_from_an_executed_copy():
    executed = lesson()
    add_output(executed)
    code(executed, -1).outputs = [new_output("stream", text="2\n")]
    stored = rules.store(lesson(), executed)
    assert code(stored, -1).outputs[0].text == "1\n"  # another notebook's cells are not its own
    book = nbformat.from_dict(executed)
    code(book, -1).outputs = []
    stored = rules.store(book, executed)
    assert code(stored, 0).outputs == []
    assert code(stored, -1).outputs[0].text == "2\n"
    assert code(stored, -1).execution_count == 13


@pytest.mark.parametrize(
    ("text", "compared"),
    [
        ("trained in 12.3 s", "trained in DURATION"),
        ("runs/digits-mlp-84bd7a50/export", "runs/digits-mlp-DIGEST/export"),
        ("wrote /some/where/model.onnx, 1.5 MB", "wrote FOLDER/model.onnx, SIZE"),
        ("<Thing at 0x7f219ba42850>", "<Thing at ADDRESS>"),
        ("0/17970 codes differ on 1797 samples", "0/17970 codes differ on 1797 samples"),
        ("fixed<4,2>: 0.989 of 360, 7 cycles", "fixed<4,2>: 0.989 of 360, 7 cycles"),
    ],
)
def test_nbval_ignores_what_may_differ_and_nothing_else(text, compared):
    config = configparser.RawConfigParser()
    config.read(rules.ROOT / "ci" / "nbval.cfg")
    for section in config.sections():
        text = re.sub(config[section]["regex"], config[section]["replace"], text)
    assert text == compared
