"""What a notebook may be asked for: names, types, bounds and meaning of its parameters.

Each notebook's set grows out of its predecessor's; the later notebooks serve two flows, the one
that trains a model and the one that takes a model which the user brings. The same names stand in
the notebook's ``parameters`` cell; the runner checks values before a kernel starts, and the
notebook's second cell checks them again, so that bare papermill is as safe. See `schema`.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fastml_kit.errors import BadRequest
from fastml_kit.schema import Parameters, one_of

TARGETS = ("xc7", "ecp5")
#: Ways from the graph into hardware; the parameter `flow` names one of them, or both.
WAYS = ("hls4ml", "finn")
#: How hls4ml's layers hand over: all elements at once, or one after another.
IO_TYPES = ("io_parallel", "io_stream")
#: Parameters that name a file.
FILES = ("graph", "keras", "data", "labels")


class StartParameters(Parameters):
    """Of `00_start_here`."""


class ModelParameters(Parameters):
    """What is trained: shared by every notebook of the flow."""

    task: str = Field("digits", description="what to learn; see fastml_kit.tasks")
    dataset: str = Field("", description="data set of the task; '' for the best that is here")
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

        return one_of("task", name, tasks.names())

    def settled(self) -> Self:
        """Return the same with the name of the data set that is here.

        Raises:
            BadRequest: the task has none of that name, or it is not here.
        """
        from fastml_kit import tasks

        return self.model_copy(update={"dataset": tasks.choose(self.task, self.dataset)})

    @field_validator("model")
    @classmethod
    def _model_exists(cls, name: str) -> str:
        from fastml_kit import models

        return one_of("model", name, models.names())


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


class FinnKnobs(Parameters):
    """What `04_finn` has of its own."""

    interval_cycles: int = Field(
        64, ge=0, le=10**7, description="finn: cycles between samples; 0 for the fewest that fit"
    )


class FoldingParameters(FinnKnobs, ExportParameters):
    """Of `folding`."""


class EstimatesParameters(Parameters):
    """Of `finn_estimates`."""

    networks: Annotated[list[str], Field(min_length=1)] = Field(
        ["digits_mlp", "residual"], description="networks to measure; see studies.finn_networks"
    )
    slowdown: int = Field(
        1,
        ge=1,
        le=64,
        description="how many times as slow as its own interval each network is folded",
    )
    stall: float = Field(
        0.8,
        ge=0.05,
        le=0.95,
        description="part of the cycles in which a side of a stream withholds",
    )

    @field_validator("networks")
    @classmethod
    def _networks_exist(cls, names: list[str]) -> list[str]:
        from fastml_kit.studies import finn_networks

        for name in names:
            finn_networks.get(name)
        if len(set(names)) < len(names):
            raise BadRequest(f"networks={names} names one network twice")
        return names


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
        1, ge=1, le=65536, description="hls4ml: uses of a multiplier per inference"
    )
    io_type: str = Field(
        IO_TYPES[0], description=f"hls4ml: how layers hand over, {' or '.join(IO_TYPES)}"
    )
    latency_cutoff: int = Field(
        5, ge=1, le=1000, description="da4ml: adder delays between two registers"
    )
    clock_ns: float = Field(10.0, ge=1, le=1000, description="requested clock period, in ns")

    @field_validator("io_type")
    @classmethod
    def _io_type_exists(cls, name: str) -> str:
        return one_of("io_type", name, IO_TYPES)


class SynthesizeKnobs(FinnKnobs, Hls4mlKnobs):
    """What `05_synthesize` adds to them."""

    flow: str = Field(
        WAYS[0], description=f"ways into hardware: {', '.join(WAYS)}, or both, to compare them"
    )
    targets: Annotated[list[str], Field(min_length=1)] = Field(
        ["xc7"], description=f"FPGA families to synthesize for: some of {', '.join(TARGETS)}"
    )

    @field_validator("flow")
    @classmethod
    def _flow_exists(cls, name: str) -> str:
        return one_of("flow", name, (*WAYS, "both"))

    @field_validator("targets")
    @classmethod
    def _targets_exist(cls, names: list[str]) -> list[str]:
        for name in names:
            one_of("target", name, TARGETS)
        if len(set(names)) < len(names):
            raise BadRequest(f"targets={names} names one target twice")
        return names


class FlowParameters(SynthesizeKnobs, EstimatesParameters, FormatsParameters, TrainParameters):
    """All parameters of the flow that trains a task's model, and of the studies beside it."""


class ImportFlowParameters(SynthesizeKnobs, ImportParameters):
    """All parameters of the flow that starts with a model that the user brings."""


class Hls4mlParameters(Hls4mlKnobs, ImportParameters, ExportParameters):
    """Of `03_hls4ml`, which serves both flows."""


class FinnParameters(FinnKnobs, ImportParameters, ExportParameters):
    """Of `04_finn`, which serves both flows."""


class SynthesizeParameters(SynthesizeKnobs, ImportParameters, ExportParameters):
    """Of `05_synthesize`, which serves both flows."""


class ReportParameters(SynthesizeKnobs, ImportParameters, TrainParameters):
    """Of `07_report`, which serves both flows."""
