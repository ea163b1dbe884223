"""The command line: a thin coat over `runner.run`, `report.summarize` and `tools.doctor`.

Exit codes: 0 done, 1 a stage failed, 2 the request was wrong, 130 interrupted. Results go to
standard output, progress to standard error.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from fastml_kit import __version__, cli_data, report, tools
from fastml_kit.errors import BadRequest, FastmlError
from fastml_kit.flow import FLOW, Flow, runs_path
from fastml_kit.runner import RunReport, display, run
from fastml_kit.schema import read_value

EXIT_CODES = {"ok": 0, "failed": 1, "skipped": 1, "interrupted": 130}
REFUSED, INTERRUPTED = 2, 130
PLAIN_WIDTH = 120
FILE = click.Path(path_type=str)

F = TypeVar("F", bound=Callable[..., Any])


def options(*names: str) -> Callable[[F], F]:
    """Return a decorator that adds the named ones of the options that commands share."""
    shared = {
        "parameter": click.option(
            "-p",
            "--parameter",
            nargs=2,
            multiple=True,
            metavar="NAME VALUE",
            help="Set a parameter of the flow; may be repeated.",
        ),
        "profile": click.option(
            "--profile",
            default="smoke",
            show_default=True,
            help="Named set of parameters: smoke, ci or full. -p wins over it.",
        ),
        "runs-dir": click.option(
            "--runs-dir",
            type=click.Path(path_type=Path),
            help="Folder of all runs. Default: $FASTML_RUNS_DIR, or runs/ beside notebooks/.",
        ),
        "preset": click.option(
            "--preset",
            default="",
            help="File of parameters in notebooks/presets, by name. Default: the task's own.",
        ),
        "flow": click.option(
            "--flow",
            "way",
            metavar="WAY",
            help="Way into hardware: hls4ml (the default), finn, or both, to compare them.",
        ),
        "json": click.option(
            "--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout."
        ),
    }

    def decorate(command: F) -> F:
        for name in reversed(names):
            command = shared[name](command)
        return command

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fastml")
def cli() -> None:
    """From a quantized Keras network to a netlist, proved equal at every step."""


@cli.command()
@options("json")
def doctor(as_json: bool) -> None:
    """Show which tools are here, their versions, and what each of them unlocks."""
    found = tools.doctor()
    if as_json:
        _print_json([asdict(tool) for tool in found])
    else:
        _console().print(_doctor_table(found))


@cli.command(name="run")
@click.argument("task", required=False)
@click.option("--model", type=FILE, help="An ONNX graph to take instead of a TASK; needs --data.")
@click.option("--keras", type=FILE, help="A QKeras model (.keras, .h5) instead; needs --data.")
@click.option("--data", type=FILE, help="Samples for it: .npy, the first axis counts them.")
@click.option("--labels", type=FILE, help="Their class numbers: .npy; then accuracy is told, too.")
@options("flow", "parameter", "preset", "profile", "runs-dir", "json")
@click.option("--until", metavar="STAGE", help="Make STAGE and what it is made from, no more.")
@click.option("--force", is_flag=True, help="Run stages again even if they are current.")
@click.option("--quiet", is_flag=True, help="Show progress, but no report at the end.")
@click.pass_obj
def run_flow(
    flow: Flow,
    /,
    task: str | None,
    model: str | None,
    keras: str | None,
    data: str | None,
    labels: str | None,
    until: str | None,
    force: bool,
    quiet: bool,
    **shared: Any,
) -> None:
    """Run the flow for TASK: execute its notebooks in order, reusing what is current.

    Or for a model of your own, on samples of your own: --model FILE.onnx --data X.npy.
    """
    named = {"graph": model, "keras": keras, "data": data, "labels": labels}
    files = {name: path for name, path in named.items() if path is not None}
    brought = flow.serving({**dict(shared["parameter"]), **files})
    if files and brought is flow:
        raise BadRequest(f"--{min(files)} goes with a model of your own: give --model or --keras")
    if task is None and brought is flow:
        raise click.UsageError(
            "Missing argument 'TASK'; or bring a model: --model FILE.onnx --data X.npy"
        )
    names = [spec.name for spec in (brought if task is None else flow).stages] if force else []
    _run(flow, task, until, names, quiet=quiet, files=files, **shared)


@cli.command()
@click.argument("name")
@options("flow", "parameter", "preset", "profile", "runs-dir", "json")
@click.option("--force", is_flag=True, help="Run it again even if it is current.")
@click.pass_obj
def notebook(flow: Flow, /, name: str, force: bool, **shared: Any) -> None:
    """Run the notebook NAME (02_export_qonnx, or its stage, export), building what it lacks."""
    given = dict(shared["parameter"])
    chosen = flow.serving(given, name)
    stage = chosen.stage(name).name
    task = None
    if chosen is flow:
        task = given.get("task", flow.parameters.model_fields["task"].default)
    _run(flow, task, stage, [stage] if force else [], **shared)


@cli.command(name="report")
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--latest", is_flag=True, help="The latest run; so it is when no RUN is given.")
@options("runs-dir", "json")
@click.pass_obj
def show_report(
    flow: Flow, /, run_id: str | None, latest: bool, runs_dir: Path | None, as_json: bool
) -> None:
    """Show what a run found: RUN is its id or its folder."""
    if run_id and latest:
        raise BadRequest("give a RUN or --latest, not both")
    root = runs_path(str(runs_dir), base=Path.cwd()) if runs_dir else runs_path()
    _print_report(flow, report.find(root, run_id), as_json)


cli.add_command(cli_data.data)


def main(flow: Flow = FLOW, arguments: list[str] | None = None) -> None:
    """Run the command line for `flow` and exit with its code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        code = cli.main(arguments, prog_name="fastml", standalone_mode=False, obj=flow)
    except click.NoSuchOption as error:
        choices = ", ".join(error.possibilities or ())
        code = _refuse(
            REFUSED, f"no option {error.option_name}.{choices and f' Did you mean {choices}?'}"
        )
    except click.UsageError as error:
        code = _refuse(REFUSED, error.format_message())
    except BadRequest as error:
        code = _refuse(REFUSED, str(error))
    except FastmlError as error:
        code = _refuse(EXIT_CODES["failed"], str(error))
    except OSError as error:
        code = _refuse(EXIT_CODES["failed"], str(error))
    except (KeyboardInterrupt, click.Abort):
        code = _refuse(INTERRUPTED, "interrupted")
    sys.exit(code)


def _run(
    flow: Flow,
    task: str | None,
    until: str | None,
    force: list[str],
    *,
    files: Mapping[str, str] | None = None,
    way: str | None,
    parameter: tuple[tuple[str, str], ...],
    preset: str,
    profile: str,
    runs_dir: Path | None,
    as_json: bool,
    quiet: bool = False,
) -> None:
    """Run stages, showing progress, and end with the report."""
    given = {name: read_value(value) for name, value in parameter}
    for name, value in {**(files or {}), **({"flow": way} if way else {})}.items():
        if given.setdefault(name, value) != value:
            raise BadRequest(f"{name} is given twice: {value!r} and {given[name]!r}")
    with display.on(Console(stderr=True)) as show:
        result = run(
            task,
            given,
            profile=profile,
            preset=preset,
            runs_dir=runs_dir and Path.cwd() / runs_dir,  # here, a relative one is relative to here
            until=until,
            force=force,
            flow=flow,
            on_event=show,
        )
    if not quiet:
        _print_report(flow, result.folder, as_json, result)
    raise click.exceptions.Exit(EXIT_CODES[result.status])


def _print_report(flow: Flow, folder: Path, as_json: bool, result: RunReport | None = None) -> None:
    summary = report.summarize(folder, flow)
    if as_json:
        _print_json(summary)
    else:
        reused = {outcome.stage: outcome.reused for outcome in result.stages} if result else {}
        _console().print(report.render(summary, reused))


def _console() -> Console:
    """Return standard output; where it is no terminal, wide enough for the rows of tables."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def _refuse(code: int, message: str) -> int:
    """Say on one line of standard error what was wrong, and return the exit `code`."""
    click.echo(f"fastml: {' '.join(message.split())}", err=True)
    return code


def _print_json(content: Any) -> None:
    click.echo(json.dumps(content, indent=1))


def _doctor_table(found: list[tools.Tool]) -> Table:
    table = Table(title="What is here, and what it unlocks", title_justify="left")
    for column in ("tool", "version", "where", "unlocks"):
        table.add_column(column, overflow="fold")
    for tool in found:
        unlocks = ", ".join(tool.unlocks)
        note = f"{unlocks}\n[yellow]{tool.missing}[/]" if tool.missing else unlocks
        table.add_row(f"{tool.name} ({tool.kind})", tool.version or "-", tool.where or "-", note)
    return table


if __name__ == "__main__":
    main()
