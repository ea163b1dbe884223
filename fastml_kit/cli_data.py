"""``fastml data``: which data sets the tasks have, which are here, and fetching those that are not.

A run never downloads anything; this command does.
"""

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from fastml_kit import tasks
from fastml_kit.tasks import fetch

PLAIN_WIDTH = 120


@click.group()
def data() -> None:
    """Show the data sets of the tasks, and fetch them."""


@data.command(name="list")
@click.argument("task", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout.")
def show(task: str | None, as_json: bool) -> None:
    """List the data sets of TASK, or of all tasks: what is here, what can be fetched."""
    rows = [row for name in ([task] if task else tasks.names()) for row in _rows(name)]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    table = Table(title="Data sets; * is what a run takes", title_justify="left")
    for column in ("task", "data set", "what it is", "here", "size"):
        table.add_column(column, overflow="fold")
    for row in rows:
        mark = "*" * row["chosen"]
        where = row["where"] or ("no: fastml data fetch" if row["fetchable"] else "no")
        size = f"{row['bytes'] / 1e6:,.1f} MB" if row["bytes"] else "-"
        table.add_row(row["task"], row["name"] + mark, row["title"], where, size)
    console = Console()
    (console if console.is_terminal else Console(width=PLAIN_WIDTH)).print(table)


@data.command(name="fetch")
@click.argument("task")
@click.option("--dataset", default="", help="Its name; default: the best that can be fetched.")
def get(task: str, dataset: str) -> None:
    """Download a data set of TASK, if it is not here yet, and check it.

    An interrupted download goes on where it stopped.
    """
    choices = {found.name: found for found in tasks.datasets(task)}
    if not dataset:
        fetchable = [name for name, found in choices.items() if found.fetchable()]
        dataset = next(iter(fetchable or choices))
    if dataset not in choices or not choices[dataset].fetchable():
        tasks.choose(task, dataset)  # refuses, and says what can be done, if it is not here
    found = choices[dataset]
    found.download(progress=True)
    for file in found.files:
        click.echo(f"{found.name}: {fetch.require(file)}")
    if not found.files:
        click.echo(f"{found.name} needs no files")


def _rows(task: str) -> list[dict[str, Any]]:
    choices = tasks.datasets(task)
    first = next((choice.name for choice in choices if choice.here()), None)
    return [
        {
            "task": task,
            "name": found.name,
            "title": found.title,
            "synthetic": found.synthetic,
            "chosen": found.name == first,
            "where": _where(found),
            "fetchable": found.fetchable(),
            "bytes": _bytes(found),
        }
        for found in choices
    ]


def _where(found: tasks.Dataset) -> str | None:
    """Return where the first file of a data set lies, or what stands in for files."""
    if not found.here():
        return None
    if not found.files:
        return "made by the kit" if found.synthetic else "comes with the kit"
    return str(fetch.find(found.files[0]))


def _bytes(found: tasks.Dataset) -> int | None:
    """Return how large its files are, or would be where that is published."""
    sizes = []
    for file in found.files:
        path = fetch.find(file)
        sizes.append(path.stat().st_size if path else file.size)
    known = [size for size in sizes if size is not None]
    return sum(known) if sizes and len(known) == len(sizes) else None
