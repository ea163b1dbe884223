"""The flows as data: which notebook makes which stage, from what, and with which tools.

There are two. `FLOW` trains a task's model and exports it; `IMPORT_FLOW` begins with a model that
the user brings. From then on the same notebooks serve both.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastml_kit import parameters as sets
from fastml_kit.errors import BadRequest, unknown_name
from fastml_kit.parameters import Parameters
from fastml_kit.sources import parameters_cell

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
    earlier stage starts it. `other` is the flow for models that the user brings.
    """

    stages: tuple[StageSpec, ...]
    others: tuple[StageSpec, ...] = ()
    parameters: type[Parameters] = sets.FlowParameters
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notebooks: Path = PROJECT / "notebooks"
    program: str = "fastml_kit.cli"
    other: "Flow | None" = None

    def serving(self, values: Mapping[str, Any], stage: str | None = None) -> "Flow":
        """Return this flow or the `other` one, whichever `values` are for.

        `values` may be those that a user gave, those that a notebook defines, or all of a run's.
        What they leave open is settled by `stage`, if only the other flow has it.
        """
        if self.other is None:
            return self
        brought = values.get("graph") or values.get("keras")
        its_own = "graph" in values and "task" not in values
        return self.other if brought or its_own or self.lacks(stage) else self

    def lacks(self, stage: str | None) -> bool:
        """Tell whether only the `other` flow has a stage of this name."""
        if stage is None or self.other is None:
            return False
        has = [any(_answers(spec, stage) for spec in flow.specs) for flow in (self, self.other)]
        return has == [False, True]

    @property
    def specs(self) -> tuple[StageSpec, ...]:
        """All stages, those that stand alone included."""
        return (*self.stages, *self.others)

    def stage(self, name: str) -> StageSpec:
        """Return the stage called `name`, which may also be that of its notebook.

        Raises:
            BadRequest: there is none.
        """
        for spec in self.specs:
            if _answers(spec, name):
                return spec
        raise unknown_name("stage", name, [spec.name for spec in self.specs])

    def path(self, spec: StageSpec) -> Path:
        """Return the file of a stage's notebook."""
        return self.notebooks / f"{spec.notebook}.ipynb"

    def needed(self, spec: StageSpec) -> list[StageSpec]:
        """Return the stages that `spec` is made from, directly or not, and itself, in order."""
        names = {spec.name, *spec.inputs}
        for candidate in reversed(self.stages):
            if candidate.name in names:
                names |= set(candidate.inputs)
        return [other for other in self.specs if other.name in names]

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

    def adopt(self, values: Parameters) -> Parameters:
        """Return the parameters of a run from those of one of its notebooks, `values`.

        Raises:
            BadRequest: one that belongs to the other flow is not at its default.
        """
        given, known = values.model_dump(), self.parameters.model_fields
        for name in given.keys() - known.keys():
            default = type(values).model_fields[name].default
            if given[name] != default:
                raise BadRequest(
                    f"{name}={given[name]!r} has no effect on a model that was brought; leave it "
                    f"at {default!r}"
                )
        return self.resolve({name: given[name] for name in given.keys() & known.keys()})

    def own(self, spec: StageSpec, resolved: Parameters) -> dict[str, Any]:
        """Return those of the `resolved` parameters that `spec` declares, ``runs_dir`` left out."""
        values = resolved.own()
        return {name: values[name] for name in spec.parameters.model_fields if name in values}


def _answers(spec: StageSpec, name: str) -> bool:
    """Tell whether `name` is that of a stage or of its notebook."""
    wanted = name.removesuffix(".ipynb").removeprefix("notebooks/")
    return wanted in (spec.name, spec.notebook, spec.notebook.rpartition("/")[2])


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
)
_SYNTHESIZE = StageSpec(
    "synthesize",
    "flow/05_synthesize",
    sets.SynthesizeParameters,
    inputs={
        "export": ("model.onnx", "vectors.npz"),
        "hls4ml": ("rtl/*", "records.json"),
    },
    tools=("pyosys", "verilator", "g++", "make"),
    cell_timeout_s=1800,
)
_REPORT = StageSpec(
    "report",
    "flow/07_report",
    sets.ReportParameters,
    inputs=dict.fromkeys(("train", "export", "hls4ml", "synthesize"), ("records.json",)),
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
        *map(_from_import, (_HLS4ML, _SYNTHESIZE, _REPORT)),
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
        _SYNTHESIZE,
        _REPORT,
    ),
    others=(
        StageSpec("start", "00_start_here", sets.StartParameters, tools=("numpy",)),
        StageSpec(
            "finn",
            "flow/04_finn",
            sets.FinnParameters,
            inputs={"export": ("model.onnx", "vectors.npz")},
            tools=("finn", "qonnx", "numpy", "verilator", "g++", "make", "pyosys"),
            cell_timeout_s=1800,
        ),
        StageSpec(
            "folding",
            "studies/folding",
            sets.FinnParameters,
            inputs={"export": ("model.onnx",)},
            tools=("qonnx", "numpy"),
        ),
        StageSpec(
            "formats",
            "studies/formats_and_zoo",
            sets.FormatsParameters,
            inputs={"export": ("model.onnx", "vectors.npz")},
            tools=("qonnx", "onnx", "onnxruntime", "numpy"),
        ),
    ),
    profiles={
        "smoke": {},
        "ci": {"targets": ["xc7", "ecp5"]},
        "full": {"seeds": 3, "targets": ["xc7", "ecp5"]},
    },
    other=IMPORT_FLOW,
)
