"""What a backend is: a graph becomes a plan, a plan becomes a result.

`plan` is pure: it returns every file that it would write and a digest of them, and touches
nothing. `build` writes and runs tools. A result predicts values from values, so that any two
backends can be compared, and carries its costs with their source.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from fastml_kit.errors import BadRequest, unknown_name

Stage = Literal["estimate", "csim", "rtl"]
IoType = Literal["io_parallel", "io_stream"]
STAGES: tuple[Stage, ...] = ("estimate", "csim", "rtl")
#: Values to values; hls4ml's also takes `threads`.
Predict = Callable[..., NDArray[np.float64]]


@dataclass(frozen=True)
class BuildRequest:
    """What the user asks of a backend. Each backend reads the fields that concern it."""

    name: str = "model"
    part: str = "xc7z020clg400-1"  # as vendors' tools name it; Pynq-Z2's
    clock_ns: float = 10.0  # requested, not achieved
    reuse_factor: int = 1  # hls4ml: times each multiplier is used per inference
    io_type: IoType = "io_parallel"  # hls4ml: all at once, or element after element
    accumulator: str = "auto"  # hls4ml: "auto" keeps every bit; "fixed<8,4>" narrows the sums
    merge_activations: bool = False  # hls4ml: a layer of weights gives its activation's codes
    #: hls4ml: layer -> {"reuse", "strategy", "fifo", "types"}; see `backends.hls4ml_sharing`
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    latency_cutoff: float = 5  # da4ml: adder delay allowed between two registers
    #: da4ml: products with a constant in one design; see `backends.da4ml_trace`
    most_multiplications: int = 20_000
    interval_cycles: int = 64  # finn: cycles from one sample to the next; 0: the fewest that fit
    fold_for: Literal["cost", "latency"] = "cost"  # finn: what to make least at that interval
    device_share: float = 1.0  # finn: how much of the part the folding may fill, by estimate
    #: finn: layer -> {"PE", "SIMD", "compute"}; given at all, it replaces the solver's choice
    folding: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z]\w*", self.name, re.ASCII):
            raise BadRequest(
                f"name={self.name!r}; in C++ and Verilog: a letter, then letters, digits and _"
            )
        for field_name in ("reuse_factor", "most_multiplications"):
            if getattr(self, field_name) < 1:
                raise BadRequest(f"{field_name}={getattr(self, field_name)}; at least 1")
        if self.io_type not in get_args(IoType):
            raise unknown_name("io_type", self.io_type, get_args(IoType))
        if self.interval_cycles < 0:
            raise BadRequest(
                f"interval_cycles={self.interval_cycles}; cycles from one sample to the next, or 0 "
                "for the fewest that fit"
            )
        if self.fold_for not in ("cost", "latency"):
            raise unknown_name("goal of folding", self.fold_for, ("cost", "latency"))
        if not 0 < self.device_share <= 1:
            raise BadRequest(
                f"device_share={self.device_share}; above 0, and at most 1 for the whole part"
            )
        if not re.fullmatch(r"auto|u?fixed<[1-9]\d*,-?\d+>", self.accumulator):
            raise BadRequest(
                f"accumulator={self.accumulator!r}; 'auto', or a format such as 'fixed<16,6>'"
            )


@dataclass(frozen=True)
class Cost:
    """What a design costs. `None` means that this source does not tell."""

    source: str  # "estimate", "yosys", "rtlsim", "csynth", ...
    lut: int | None = None
    ff: int | None = None
    dsp: int | None = None
    bram36: float | None = None
    latency_cycles: int | None = None  # first input in to last output out
    interval_cycles: int | None = None  # between two accepted inputs

    def told(self) -> dict[str, tuple[float, str]]:
        """Return what this source tells: resource -> (count, unit)."""
        counts = {name: value for name, value in asdict(self).items() if name != "source"}
        return {
            name: (value, "cycles" if name.endswith("_cycles") else name)
            for name, value in counts.items()
            if value is not None
        }


@dataclass(frozen=True)
class BuildPlan:
    """Everything a build depends on: the graph, the request, and the files it would write."""

    backend: str
    graph: Path
    request: BuildRequest
    files: Mapping[str, str] = field(default_factory=dict)  # relative path -> text
    facts: Mapping[str, Any] = field(default_factory=dict)  # what planning found out

    @property
    def digest(self) -> str:
        """SHA-256 over the backend, the graph's bytes, the request and the files."""
        request = json.dumps(asdict(self.request), sort_keys=True)
        parts = [self.backend.encode(), self.graph.read_bytes(), request.encode()]
        parts += [f"{name}\0{text}".encode() for name, text in sorted(self.files.items())]
        return hashlib.sha256(b"\0\0".join(parts)).hexdigest()


@dataclass(frozen=True)
class BuildResult:
    """A built project: where it lies, which stage it reached, what it costs, how to ask it."""

    plan: BuildPlan
    stage: Stage
    folder: Path
    top: str  # the top function (C++) or module (Verilog)
    sources: tuple[Path, ...] = ()
    costs: tuple[Cost, ...] = ()
    predict: Predict | None = None  # (samples, ...) values -> (samples, outputs) values
    interface: Mapping[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """Two functions and a name; see `fastml_kit.backends` for the table."""

    name: str

    def plan(self, graph: Path, request: BuildRequest) -> BuildPlan:
        """Say what would be built, touching nothing."""

    def build(self, plan: BuildPlan, folder: Path, *, until: Stage) -> BuildResult:
        """Build `plan` in `folder`, as far as stage `until`."""


def reached(stage: Stage, until: Stage) -> bool:
    """Tell whether a build that ends at `until` includes `stage`."""
    if until not in STAGES:
        raise unknown_name("build stage", until, STAGES)
    return STAGES.index(stage) <= STAGES.index(until)
