"""The flow as data: which notebook makes which stage, from what, and with which tools."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastml_kit import parameters as sets
from fastml_kit.errors import BadRequest, unknown_name
from fastml_kit.parameters import Parameters
from fastml_kit.sources import parameters_cell

__all__ = ["FLOW", "PROJECT", "Flow", "StageSpec", "parameters_cell", "runs_path", "runs_root"]

#: The folder that holds ``notebooks/`` and ``fastml_kit/``.
PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class StageSpec:
    """One stage: a notebook, what it may be asked for, and what its result depends on."""

    name: str
    notebook: str  # below the flow's folder of notebooks, without .ipynb
    parameters: type[Parameters]
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # stage -> file patterns
    tools: tuple[str, ...] = ()  # whose versions are part of the digest
    cell_timeout_s: int = 600


@dataclass(frozen=True)
class Flow:
    """Stages in the order they run, and others that stand alone.

    `program` is the module that runs this flow from a command line; a notebook that lacks an
    earlier stage starts it.
    """

    stages: tuple[StageSpec, ...]
    others: tuple[StageSpec, ...] = ()
    parameters: type[Parameters] = sets.FlowParameters
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notebooks: Path = PROJECT / "notebooks"
    program: str = "fastml_kit.cli"

    def stage(self, name: str) -> StageSpec:
        """Return the stage called `name`, which may also be that of its notebook.

        Raises:
            BadRequest: there is none.
        """
        wanted = name.removesuffix(".ipynb").removeprefix("notebooks/")
        for spec in (*self.stages, *self.others):
            if wanted in (spec.name, spec.notebook, spec.notebook.rpartition("/")[2]):
                return spec
        raise unknown_name("stage", name, [spec.name for spec in (*self.stages, *self.others)])

    def path(self, spec: StageSpec) -> Path:
        """Return the file of a stage's notebook."""
        return self.notebooks / f"{spec.notebook}.ipynb"

    def needed(self, spec: StageSpec) -> list[StageSpec]:
        """Return the stages that `spec` is made from, directly or not, and itself, in order."""
        names = {spec.name}
        for candidate in reversed(self.stages):
            if candidate.name in names:
                names |= set(candidate.inputs)
        return [other for other in (*self.stages, *self.others) if other.name in names]

    def after(self, spec: StageSpec) -> StageSpec | None:
        """Return the stage that follows `spec`; after the last and after others, there is none."""
        names = [other.name for other in self.stages]
        place = names.index(spec.name) + 1 if spec.name in names else len(names)
        return self.stages[place] if place < len(names) else None

    def resolve(self, given: Mapping[str, Any], *, profile: str = "smoke") -> Parameters:
        """Return all parameters: `given` ones, then the profile's, then the defaults.

        Raises:
            BadRequest: there is no such profile, or a parameter is refused.
        """
        if profile not in self.profiles:
            raise unknown_name("profile", profile, self.profiles)
        return sets.check(self.parameters, {**self.profiles[profile], **given})

    def own(self, spec: StageSpec, resolved: Parameters) -> dict[str, Any]:
        """Return those of the `resolved` parameters that `spec` declares, ``runs_dir`` left out."""
        values = resolved.own()
        return {name: values[name] for name in spec.parameters.model_fields if name in values}


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
        StageSpec(
            "hls4ml",
            "flow/03_hls4ml",
            sets.Hls4mlParameters,
            inputs={"export": ("model.onnx", "vectors.npz")},
            tools=(
                *("hls4ml", "da4ml", "verilator", "g++", "make", "qonnx", "numpy"),
                *("vitis-run", "vitis_hls"),  # so that installing one is noticed
            ),
            cell_timeout_s=1800,
        ),
        StageSpec(
            "synthesize",
            "flow/05_synthesize",
            sets.SynthesizeParameters,
            inputs={
                "export": ("model.onnx", "vectors.npz"),
                "hls4ml": ("rtl/*", "records.json"),
            },
            tools=("pyosys", "verilator", "g++", "make"),
            cell_timeout_s=1800,
        ),
        StageSpec(
            "report",
            "flow/07_report",
            sets.FlowParameters,
            inputs=dict.fromkeys(("train", "export", "hls4ml", "synthesize"), ("records.json",)),
            tools=("matplotlib",),
        ),
    ),
    others=(StageSpec("start", "00_start_here", sets.StartParameters, tools=("numpy",)),),
    profiles={
        "smoke": {},
        "ci": {"targets": ["xc7", "ecp5"]},
        "full": {"seeds": 3, "targets": ["xc7", "ecp5"]},
    },
)
