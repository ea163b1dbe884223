"""Opening a stage: the second cell of every notebook.

::

    stage = session.open("export", globals())
    model = stage.input("train", "model.h5")
    stage.record("quality.qat", 0.982, unit="accuracy", source="keras")
    stage.finish()

A notebook is a function of its parameters, whoever runs it. Under the runner, the attempt that it
fills was made for it, and is published after its last cell. In JupyterLab and under bare papermill,
`open` builds the earlier stages that are missing, and `finish` publishes.
"""

import atexit
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastml_kit import schema as schemas
from fastml_kit.cells import Cells
from fastml_kit.errors import BadRequest, RunError, StageFailed, nearest
from fastml_kit.flow import FLOW, Flow, StageSpec, runs_root
from fastml_kit.manifest import StageEntry
from fastml_kit.planning import first_stale, folder_of, plan
from fastml_kit.runs import RunFolder
from fastml_kit.schema import Parameters
from fastml_kit.stage import Stage

__all__ = ["Stage", "open"]

Say = Callable[[str], None]


def open(stage: str, namespace: Mapping[str, Any], *, flow: Flow = FLOW, say: Say = print) -> Stage:
    """Open `stage` for the notebook whose ``globals()`` are `namespace`.

    Checks the parameters defined there, builds the earlier stages that are missing or stale, and
    returns the object to read from and to record with. Opening again starts afresh.

    A notebook that serves two flows belongs to the one that its parameters are for.

    Raises:
        BadRequest: a parameter is unknown, mistyped or out of range.
        StageFailed: an earlier stage could not be built.
        RunError: the run folder cannot be used.
    """
    cells = Cells(namespace)
    values = _declared(flow.serving({}, stage).stage(stage).parameters, cells)
    flow = flow.serving(values.own(), stage).along(values.own())
    spec = flow.stage(stage)
    attempt = os.environ.get("FASTML_ATTEMPT")
    if attempt:
        run, entry = _made_by_runner(spec, values, Path(attempt))
        folder = Path(attempt)
    else:
        resolved = flow.adopt(values)
        run = folder_of(runs_root(resolved.runs_dir), resolved)
        _build_what_is_missing(flow, spec, resolved, run, say)
        entry = plan(flow, spec, resolved, run).draft()
        folder = run.begin(spec.name)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Stage(
        flow=flow,
        spec=spec,
        parameters=values,
        run=run,
        attempt=folder,
        entry=entry,
        cells=cells,
        say=say,
        interactive=not attempt,
    )


def _declared(schema: type[Parameters], cells: Cells) -> Parameters:
    """Return the parameters that the notebook's cells define, checked.

    A cell that assigns one of them, and papermill's, is a parameters cell: no other name may stand
    in it, so that a misspelt one does not pass unnoticed.
    """
    names = schema.model_fields.keys()
    for cell, assigned in cells.assignments():
        if assigned & names or cell.startswith("# Parameters"):
            for name in sorted(assigned - names):
                raise schemas.unknown_parameter(schema, name)
    missing = sorted(names - cells.namespace.keys() - {"runs_dir"})
    if missing:
        hint = nearest(missing[0], (n for n in cells.namespace if not n.startswith("_")))
        raise BadRequest(f"the parameters cell does not define {missing[0]!r}.{hint}")
    return schemas.check(schema, {n: cells.namespace[n] for n in names if n in cells.namespace})


def _made_by_runner(
    spec: StageSpec, values: Parameters, folder: Path
) -> tuple[RunFolder, StageEntry]:
    """Return run and draft of the attempt that a runner made for this kernel."""
    entry = StageEntry.load(folder)
    if entry is None or entry.name != spec.name:
        raise RunError(f"FASTML_ATTEMPT={folder} is no attempt at stage {spec.name}; unset it")
    for name, value in values.own().items():
        # A flow hands over its own parameters; those of the other one stay at their defaults.
        asked = entry.parameters.get(name, spec.parameters.model_fields[name].default)
        if value != asked:
            raise BadRequest(
                f"{name}={value!r} here, but the runner asked for {asked!r}: "
                "it is assigned again after the parameters cell"
            )
    return RunFolder(folder.parent.parent, entry.parameters), entry


def _build_what_is_missing(
    flow: Flow, spec: StageSpec, resolved: Parameters, run: RunFolder, say: Say
) -> None:
    """Bring the stages that `spec` is made from up to date, in a process of their own."""
    for earlier in map(flow.stage, reversed(list(spec.inputs))):
        stale = first_stale(flow, flow.needed(earlier), resolved, run)
        if stale is None:
            continue
        say(f"{spec.name} needs {earlier.name}, and {stale[0].name} is due: {stale[1]}")
        values = resolved.own()
        command = [sys.executable, "-m", flow.program, "run"]
        command += [values["task"]] if "task" in values else []
        command += ["--until", earlier.name, "--runs-dir", str(run.path.parent), "--quiet"]
        for name, value in values.items():
            command += ["-p", name, json.dumps(value)]
        last = ""
        # A kernel forces colours upon its children; a notebook's page wants plain lines.
        plain = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "CLICOLOR_FORCE")}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=plain
        ) as process:
            for line in process.stdout or ():
                last = line.rstrip()
                say(last)
        if process.returncode:
            raise StageFailed(f"{spec.name} needs {earlier.name}, which was not built: {last}")
