"""Running FINN's steps in a process of their own, and reading what they left."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastml_kit import tools
from fastml_kit.errors import BuildFailed
from fastml_kit.fixedpoint import Codes

#: FINN's named steps, and between them the kit's own (without "step_").
STEPS = (
    "step_tidy_up",
    "step_streamline",
    "keep_channels_last",
    "step_convert_to_hw",
    "step_minimize_bit_width_initial",
    "widen_weights",
    "step_create_dataflow_partition",
    "prefer_rtl",
    "step_specialize_layers",
    "fold",
    "step_minimize_bit_width",
    "widen_weights",
    "insert_width_converters",
    "step_generate_estimate_reports",
    "step_hw_codegen",
)
#: The last step whose layers can be executed in Python.
EXECUTED = "prefer_rtl"
#: What FINN's messages mean here, and what would make the step pass.
REMEDIES = {
    "Only a single StreamingDataflowPartition": "an operation in the midst of the graph has no "
    "unit of FINN's; see the step's model for the one that is left",
    "was planned": "FINN splits this network in another way than the plan foresaw, which is a "
    "fault of the kit's: keep the folder and report the graph",
    "give other codes": "this is a fault of FINN's or of the kit's: keep the folder and report it",
}


def run(folder: Path, job: Mapping[str, Any], inputs: Codes, outputs: Codes) -> None:
    """Take FINN through its steps in `folder`; `inputs` and `outputs` are codes to verify with.

    Raises:
        BuildFailed: a step failed, or gave other codes; the message says which and where.
        ToolNotFound: finn-plus is missing.
    """
    np.savez(folder / "samples.npz", inputs=inputs, outputs=outputs)
    _child(folder, {**job, "mode": "build"})


def execute(folder: Path, inputs: Codes) -> Codes:
    """Have FINN execute the hardware layers of a build on codes, (samples, *input shape).

    Raises:
        BuildFailed, ToolNotFound: as `run`.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="execute-") as name:
        own = Path(name)
        np.savez(own / "samples.npz", inputs=inputs)
        step = f"{STEPS.index(EXECUTED):02d}_{EXECUTED}.onnx"
        job = {"graph": str(folder / "steps" / step), "samples": "samples.npz", "mode": "execute"}
        _child(own, job)
        made: Codes = np.load(own / "outputs.npy")
    return made


def _child(folder: Path, job: Mapping[str, Any]) -> None:
    tools.require("finn")
    (folder / "job.json").write_text(json.dumps(job, indent=1) + "\n", encoding="utf-8")
    failure, log = folder / "failure.json", folder / "finn.log"
    failure.unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FINN_", "XILINX_"))}
    with log.open("w", encoding="utf-8") as stream:
        ended = subprocess.run(
            [sys.executable, "-m", f"{__package__}.child", str(folder / "job.json")],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        )
    if ended.returncode == 0:
        return
    if not failure.exists():
        raise BuildFailed(f"FINN ended with status {ended.returncode}; see {log}")
    said = json.loads(failure.read_text(encoding="utf-8"))
    remedy = next((text for part, text in REMEDIES.items() if part in said["error"]), "")
    where = f" at node {said['node']!r}" if said["node"] else ""
    raise BuildFailed(
        f"FINN failed in {said['step']}{where}: {said['error']}"
        + (f"; {remedy}" if remedy else "")
        + f". Its log: {log}"
    )
