"""What a notebook may be asked for: names, types, bounds and meaning of its parameters.

Each notebook's set grows out of its predecessor's; the later notebooks serve two flows, the one
that trains a model and the one that takes a model which the user brings. The same names stand in
the notebook's ``parameters`` cell; the runner checks values before a kernel starts, and the
notebook's second cell checks them again, so that bare papermill is as safe. A refusal is one line.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from fastml_kit.errors import BadRequest, nearest, unknown_name

TARGETS = ("xc7", "ecp5")
#: Parameters that name a file.
FILES = ("graph", "keras", "data", "labels")


class Parameters(BaseModel):
    """Base of all parameter sets: nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    runs_dir: str = Field(
        "runs", min_length=1, description="folder of all runs; relative to the project's root"
    )

    def own(self) -> dict[str, Any]:
        """Return the values that results depend on: all but ``runs_dir``."""
        return self.model_dump(exclude={"runs_dir"})

    def files(self) -> dict[str, Path]:
        """Return the files that parameters name: what counts is what is in them."""
        return {}

    def look(self) -> None:
        """Look into those files before anything starts.

        Raises:
            BadRequest: one of them is not what it must be.
        """


class StartParameters(Parameters):
    """Of `00_start_here`."""


class ModelParameters(Parameters):
    """What is trained: shared by every notebook of the flow."""

    task: str = Field("digits", description="what to learn; see fastml_kit.tasks")
    model: str = Field("mlp", description="network family; see fastml_kit.models")
    width: int = Field(24, ge=2, le=512, description="units of the hidden layers")
    weight_bits: int = Field(4, ge=2, le=8, description="width of the weights, in bits")
    act_bits: int = Field(4, ge=2, le=8, description="width of the activations, in bits")
    epochs: int = Field(120, ge=1, le=2000, description="passes over the training data")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="seed of weights, order and noise")

    @field_validator("task")
    @classmethod
    def _task_exists(cls, name: str) -> str:
        from fastml_kit import tasks

        return _one_of("task", name, tasks.names())

    @field_validator("model")
    @classmethod
    def _model_exists(cls, name: str) -> str:
        from fastml_kit import models

        return _one_of("model", name, models.names())


class TrainParameters(ModelParameters):
    """Of `01_train_qat`."""

    seeds: int = Field(1, ge=1, le=20, description="how many seeds to train, to see the spread")


class ExportParameters(ModelParameters):
    """Of `02_export_qonnx`."""


class FormatsParameters(ExportParameters):
    """Of `formats_and_zoo`."""

    zoo_models: list[str] = Field([], description="models of the QONNX zoo to download and judge")

    @field_validator("zoo_models")
    @classmethod
    def _models_exist(cls, names: list[str]) -> list[str]:
        from fastml_kit.graph import zoo

        for name in names:
            zoo.find(name)
        return names


class FinnParameters(ExportParameters):
    """Of `04_finn` and `folding`."""

    interval_cycles: int = Field(
        64, ge=0, le=10**7, description="finn: cycles between samples; 0 for the fewest that fit"
    )


class ImportParameters(Parameters):
    """Of `02_import_model`: a model that the user brings, and the samples to compare it on.

    A relative path is relative to the folder that the process runs in.
    """

    graph: str = Field("", description="file of an ONNX graph to import; '' for none")
    keras: str = Field("", description="file of a QKeras model to import; '' for none")
    data: str = Field("", description="file of samples for it, .npy, (samples, ...); '' for none")
    labels: str = Field("", description="file of their class numbers, .npy; '' for none")
    input_format: str = Field(
        "",
        pattern=r"^(u?[1-9]\d*,-?\d+)?$",
        description="what to put an unquantized input on, such as '16,6' for 16 bits, 6 of them "
        "integer, or 'u8,0' without sign; '' leaves it",
    )
    exact: bool = Field(True, description="refuse Keras layers that have no exact form in QONNX")

    @field_validator(*FILES)
    @classmethod
    def _file_exists(cls, name: str, info: ValidationInfo) -> str:
        if not name:
            return name
        path = Path(name).expanduser().absolute()
        if not path.is_file():
            kind = "is a folder" if path.is_dir() else "is not there"
            raise BadRequest(f"{info.field_name}={name!r} {kind}; give the path of a file")
        return str(path)

    @model_validator(mode="after")
    def _belong_together(self) -> "ImportParameters":
        if self.graph and self.keras:
            raise BadRequest("graph and keras are both given; a run takes one model")
        if (self.graph or self.keras) and not self.data:
            raise BadRequest("data is not given: name a .npy file of samples to compare engines on")
        for name in () if self.graph or self.keras else (*FILES, "input_format", "exact"):
            value = getattr(self, name)
            if value != ImportParameters.model_fields[name].default:
                raise BadRequest(f"{name}={value!r} is for a model that you bring: graph or keras")
        if self.graph and not self.exact:
            raise BadRequest("exact=False is for Keras models; a graph is taken as it is")
        return self

    def files(self) -> dict[str, Path]:
        """Return the files that were given."""
        return {name: Path(getattr(self, name)) for name in FILES if getattr(self, name)}

    def look(self) -> None:
        """Look into the files that were given; see `given.look`."""
        from fastml_kit import given

        given.look(self.files())


class Hls4mlKnobs(Parameters):
    """What `03_hls4ml` has of its own."""

    reuse_factor: int = Field(
        1, ge=1, le=1024, description="hls4ml: uses of a multiplier per inference"
    )
    latency_cutoff: int = Field(
        5, ge=1, le=1000, description="da4ml: adder delays between two registers"
    )
    clock_ns: float = Field(10.0, ge=1, le=1000, description="requested clock period, in ns")


class SynthesizeKnobs(Hls4mlKnobs):
    """What `05_synthesize` adds to them."""

    targets: Annotated[list[str], Field(min_length=1)] = Field(
        ["xc7"], description=f"FPGA families to synthesize for: some of {', '.join(TARGETS)}"
    )

    @field_validator("targets")
    @classmethod
    def _targets_exist(cls, names: list[str]) -> list[str]:
        for name in names:
            _one_of("target", name, TARGETS)
        if len(set(names)) < len(names):
            raise BadRequest(f"targets={names} names one target twice")
        return names


class FlowParameters(SynthesizeKnobs, FinnParameters, FormatsParameters, TrainParameters):
    """All parameters of the flow that trains a task's model, and of the studies beside it."""


class ImportFlowParameters(SynthesizeKnobs, ImportParameters):
    """All parameters of the flow that starts with a model that the user brings."""


class Hls4mlParameters(Hls4mlKnobs, ImportParameters, ExportParameters):
    """Of `03_hls4ml`, which serves both flows."""


class SynthesizeParameters(SynthesizeKnobs, ImportParameters, ExportParameters):
    """Of `05_synthesize`, which serves both flows."""


class ReportParameters(SynthesizeKnobs, ImportParameters, TrainParameters):
    """Of `07_report`, which serves both flows."""


P = TypeVar("P", bound=Parameters)


def check(schema: type[P], values: Mapping[str, Any]) -> P:
    """Return `values` as a set of parameters, defaults filled in.

    Raises:
        BadRequest: a name is unknown, or a value has the wrong type or is out of range; one line
            that names the field, the value, what is allowed, and the nearest name.
    """
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        raise _refusal(schema, error.errors()[0]) from error


def read_value(text: str) -> Any:
    """Read a value given as text, as YAML does: 4, 10.0, true, [xc7, ecp5], mlp.

    Raises:
        BadRequest: it is no YAML.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadRequest(
            f"{text!r} cannot be read as a value (YAML): {_one_line(error)}"
        ) from error


def allowed(schema: type[Parameters], name: str) -> str:
    """Say what `name` may be: ``a whole number from 2 to 8 (width of the weights, in bits)``."""
    field = schema.model_fields[name]
    kind = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        list[str]: "a list of texts, such as [xc7, ecp5]",
    }[field.annotation]  # type: ignore[index]
    bounds = [getattr(limit, side, None) for side in ("ge", "le") for limit in field.metadata]
    low, high = ([bound for bound in bounds if bound is not None] + [None, None])[:2]
    span = "" if low is None else f" from {low} to {high}"
    return f"{kind}{span} ({field.description})"


def unknown_parameter(schema: type[Parameters], name: str) -> BadRequest:
    """Return the refusal of a parameter that `schema` does not have."""
    names = list(schema.model_fields)
    return BadRequest(
        f"no parameter {name!r}.{nearest(name, names)} Parameters: {', '.join(sorted(names))}."
    )


def _refusal(schema: type[Parameters], error: ErrorDetails) -> BadRequest:
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return unknown_parameter(schema, name)
    where = "".join(f"[{part}]" for part in error["loc"][1:])
    return BadRequest(f"{name}{where}={error['input']!r}; it must be {allowed(schema, name)}")


def _one_of(kind: str, name: str, choices: list[str] | tuple[str, ...]) -> str:
    if name not in choices:
        raise unknown_name(kind, name, choices)
    return name


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
