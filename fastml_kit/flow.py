"""The flows as data: which notebook makes which stage, from what, and with which tools.

There are two. `FLOW` trains a task's model and exports it; `IMPORT_FLOW` begins with a model that
the user brings. From then on the same notebooks serve both. Each takes one of two ways into
hardware, or both: through hls4ml and da4ml, or through FINN.
"""

import os
from dataclasses import replace
from pathlib import Path

from fastml_kit import parameters as sets
from fastml_kit.errors import BadRequest
from fastml_kit.sources import parameters_cell
from fastml_kit.stages import PROJECT, Flow, StageSpec

__all__ = [
    "FLOW",
    "IMPORT_FLOW",
    "PROJECT",
    "Flow",
    "StageSpec",
    "parameters_cell",
    "runs_path",
    "runs_root",
]


def runs_path(runs_dir: str = "runs", *, base: Path = PROJECT) -> Path:
    """Return where all runs are kept. A relative `runs_dir` is relative to `base`.

    The environment's FASTML_RUNS_DIR stands in for the default.
    """
    if runs_dir == "runs":
        runs_dir, base = os.environ.get("FASTML_RUNS_DIR") or runs_dir, PROJECT
    return (base / Path(runs_dir).expanduser()).resolve()


def runs_root(runs_dir: str = "runs") -> Path:
    """Return the folder of all runs, made if need be; a relative one is the project's.

    Raises:
        BadRequest: it cannot be made or written.
    """
    root = runs_path(runs_dir)
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadRequest(
            f"the runs folder {root} cannot be written ({error.strerror}); "
            "give another with --runs-dir or FASTML_RUNS_DIR"
        ) from error
    return root


_KERAS = ("tensorflow", "tf-keras", "qkeras")

_HLS4ML = StageSpec(
    "hls4ml",
    "flow/03_hls4ml",
    sets.Hls4mlParameters,
    inputs={"export": ("model.onnx", "vectors.npz")},
    tools=(
        *("hls4ml", "da4ml", "verilator", "g++", "make", "qonnx", "numpy"),
        *("vitis-run", "vitis_hls"),  # so that installing one is noticed
    ),
    cell_timeout_s=1800,
    way="hls4ml",
)
_FINN = StageSpec(
    "finn",
    "flow/04_finn",
    sets.FinnParameters,
    inputs={"export": ("model.onnx", "vectors.npz")},
    tools=(
        *("finn", "qonnx", "numpy", "verilator", "g++", "make"),
        *("vivado", "vitis_hls"),  # so that installing one is noticed
    ),
    cell_timeout_s=14_400,  # Vivado, where it is, takes hours
    way="finn",
)
_SYNTHESIZE = StageSpec(
    "synthesize",
    "flow/05_synthesize",
    sets.SynthesizeParameters,
    inputs={
        "export": ("model.onnx", "vectors.npz"),
        "hls4ml": ("rtl/*", "records.json"),
        "finn": ("rtl/*", "records.json"),
    },
    tools=("pyosys", "verilator", "g++", "make"),
    cell_timeout_s=1800,
)
_REPORT = StageSpec(
    "report",
    "flow/07_report",
    sets.ReportParameters,
    inputs=dict.fromkeys(("train", "export", "hls4ml", "finn", "synthesize"), ("records.json",)),
    tools=("matplotlib",),
)


def _from_import(spec: StageSpec) -> StageSpec:
    """Return `spec` as it is made where an import stands in for training and export."""
    kept = {name: files for name, files in spec.inputs.items() if name not in ("train", "export")}
    wanted = (*spec.inputs["export"], "records.json")  # a remark in its records holds from there on
    return replace(spec, inputs={"import": tuple(dict.fromkeys(wanted)), **kept})


IMPORT_FLOW = Flow(
    stages=(
        StageSpec(
            "import",
            "flow/02_import_model",
            sets.ImportParameters,
            tools=(*_KERAS, "qonnx", "onnx", "onnxruntime", "scikit-learn", "numpy"),
            cell_timeout_s=1800,
        ),
        *map(_from_import, (_HLS4ML, _FINN, _SYNTHESIZE, _REPORT)),
    ),
    parameters=sets.ImportFlowParameters,
    profiles={
        "smoke": {},
        "ci": {"targets": ["xc7", "ecp5"]},
        "full": {"targets": ["xc7", "ecp5"]},
    },
)

FLOW = Flow(
    stages=(
        StageSpec(
            "train",
            "flow/01_train_qat",
            sets.TrainParameters,
            tools=(*_KERAS, "scikit-learn", "numpy"),
            cell_timeout_s=1800,
        ),
        StageSpec(
            "export",
            "flow/02_export_qonnx",
            sets.ExportParameters,
            inputs={"train": ("model.h5",)},
            tools=(*_KERAS, "qonnx", "onnx", "numpy"),
        ),
        _HLS4ML,
        _FINN,
        _SYNTHESIZE,
        _REPORT,
    ),
    others=(
        StageSpec("start", "00_start_here", sets.StartParameters, tools=("numpy",)),
        StageSpec(
            "folding",
            "studies/folding",
            sets.FoldingParameters,
            inputs={"export": ("model.onnx",)},
            tools=("qonnx", "numpy"),
        ),
        StageSpec(
            "finn_estimates",
            "studies/finn_estimates",
            sets.EstimatesParameters,
            tools=("finn", "qonnx", *_KERAS, "numpy", "verilator", "g++", "make", "pyosys"),
            cell_timeout_s=1800,
        ),
        StageSpec(
            "formats",
            "studies/formats_and_zoo",
            sets.FormatsParameters,
            inputs={"export": ("model.onnx", "vectors.npz")},
            tools=("qonnx", "onnx", "onnxruntime", "numpy"),
        ),
    ),
    parameters=sets.FlowParameters,
    profiles={
        "smoke": {},
        "ci": {"targets": ["xc7", "ecp5"]},
        "full": {"seeds": 3, "targets": ["xc7", "ecp5"]},
    },
    other=IMPORT_FLOW,
)
