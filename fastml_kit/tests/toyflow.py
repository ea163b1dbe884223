"""A flow of three small notebooks, written on the spot: what the runner is tested with.

`forked` is a flow with two ways from the first notebook to the last.

``python -m fastml_kit.tests.toyflow run toy`` is `fastml run` for this flow; the notebooks lie in
the folder that the environment's TOY_NOTEBOOKS names.
"""

import os
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from fastml_kit.flow import Flow, StageSpec
from fastml_kit.schema import Parameters

CELL_TIMEOUT_S = 20


class OneParameters(Parameters):
    """Of the first notebook."""

    task: str = Field("toy", description="what to do")
    model: str = Field("toy", description="what with")
    n: int = Field(3, ge=1, le=100, description="how many numbers")


class TwoParameters(OneParameters):
    """Of the second and third: all there are."""

    factor: int = Field(2, ge=1, le=9, description="what to multiply by")


def toy(notebooks: Path | None = None) -> Flow:
    """Return the flow over the notebooks in `notebooks`, or in $TOY_NOTEBOOKS."""
    timeout = int(os.environ.get("TOY_CELL_TIMEOUT_S", CELL_TIMEOUT_S))
    return Flow(
        stages=(
            StageSpec("one", "01_one", OneParameters, cell_timeout_s=timeout),
            StageSpec(
                "two",
                "02_two",
                TwoParameters,
                inputs={"one": ("numbers.txt",)},
                tools=("numpy",),
                cell_timeout_s=timeout,
            ),
            StageSpec(
                "three",
                "03_three",
                TwoParameters,
                inputs={"one": ("records.json",), "two": ("records.json", "out/*")},
                cell_timeout_s=timeout,
            ),
        ),
        parameters=TwoParameters,
        profiles={"smoke": {}, "big": {"n": 9}},
        notebooks=notebooks or Path(os.environ["TOY_NOTEBOOKS"]),
        program="fastml_kit.tests.toyflow",
    )


class ForkedParameters(TwoParameters):
    """Of the notebook in which both ways end."""

    flow: str = Field("hls4ml", description="which way to take, or both")


def forked(notebooks: Path | None = None) -> Flow:
    """Return the flow in which "twin" or "two", or both, come between "one" and "joined"."""
    flow = toy(notebooks)
    one, two, _ = flow.stages
    return replace(
        flow,
        stages=(
            one,
            replace(two, name="twin", notebook="02_twin", way="hls4ml"),
            replace(two, way="finn"),
            StageSpec(
                "joined",
                "03_joined",
                ForkedParameters,
                inputs=dict.fromkeys(("one", "twin", "two"), ("records.json",)),
                cell_timeout_s=CELL_TIMEOUT_S,
            ),
        ),
        parameters=ForkedParameters,
        program="fastml_kit.tests.forkedflow",
    )


HEAD = "from fastml_kit import session\nfrom fastml_kit.tests.toyflow import forked, toy"
CELLS = {
    "01_one": (
        'task = "toy"\nmodel = "toy"\nn = 3\nruns_dir = "runs"',
        [
            'stage = session.open("one", globals(), flow=toy())',
            "numbers = range(stage.parameters.n)",
            'stage.file("numbers.txt").write_text("\\n".join(map(str, numbers)))',
            'stage.record("quality.count", len(numbers), unit="numbers", source="reference")',
            "stage.finish()",
        ],
    ),
    "02_two": (
        'task = "toy"\nmodel = "toy"\nn = 3\nfactor = 2\nruns_dir = "runs"',
        [
            'stage = session.open("two", globals(), flow=toy())',
            'numbers = [int(x) for x in stage.input("one", "numbers.txt").read_text().split()]',
            "total = factor * sum(numbers)",
            'stage.file("out/total.txt").write_text(str(total))',
            'stage.record("verify.reference.samples", len(numbers), unit="", source="reference")',
            'stage.record("verify.reference.mismatches", 0, unit="codes", source="reference")',
            'where = {"flow": "toy", "target": "xc7"}',
            'stage.record("cost.toy.lut", total, unit="LUT", source="yosys", **where)',
            'stage.skip("verify.netlist", "no synthesizer here")',
            "stage.finish()",
        ],
    ),
    "03_three": (
        'task = "toy"\nmodel = "toy"\nn = 3\nfactor = 2\nruns_dir = "runs"',
        [
            'stage = session.open("three", globals(), flow=toy())',
            'names = [r.name for s in ("one", "two") for r in stage.records_of(s)]',
            'assert stage.skips_of("two") and len(stage.inputs("two", "out/*")) == 1',
            'stage.file("names.txt").write_text("\\n".join(names))',
            "stage.finish()",
        ],
    ),
    "02_twin": (
        'task = "toy"\nmodel = "toy"\nn = 3\nfactor = 2\nruns_dir = "runs"',
        [
            'stage = session.open("twin", globals(), flow=forked())',
            'stage.record("cost.toy.lut", factor, unit="LUT", source="estimate")',
            "stage.finish()",
        ],
    ),
    "03_joined": (
        'task = "toy"\nmodel = "toy"\nn = 3\nfactor = 2\nflow = "hls4ml"\nruns_dir = "runs"',
        [
            'stage = session.open("joined", globals(), flow=forked())',
            'stage.file("inputs.txt").write_text(" ".join(stage.spec.inputs))',
            "for name in stage.spec.inputs: stage.records_of(name)",
            "stage.finish()",
        ],
    ),
}


def write_notebooks(folder: Path, **faults: str) -> None:
    """Write the notebooks; `faults` put a cell into one, before its last: ``two="1/0"``."""
    import nbformat

    folder.mkdir(parents=True, exist_ok=True)
    for name, (parameters, cells) in CELLS.items():
        fault = faults.get(name.partition("_")[2])
        body = [*cells[:-1], *([fault] if fault else []), cells[-1]]
        v4 = nbformat.v4
        notebook = v4.new_notebook(
            cells=[
                v4.new_markdown_cell(f"# {name}", id="title"),
                v4.new_code_cell(HEAD, id="head"),
                v4.new_code_cell(parameters, id="p", metadata={"tags": ["parameters"]}),
                *(v4.new_code_cell(cell, id=f"c{i}") for i, cell in enumerate(body)),
            ],
            metadata={
                "kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}
            },
        )
        nbformat.write(notebook, folder / f"{name}.ipynb")


if __name__ == "__main__":
    from fastml_kit.cli import main

    main(toy())
