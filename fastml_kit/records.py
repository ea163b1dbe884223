"""Records: a number that carries its name, unit and source, and what could not be measured.

A record belongs to a stage, a model, and, where it has them, a flow (``da4ml``) and a target
(``xc7``). An estimate never passes for a measurement, because every record names its source.
Missing is `None`; NaN and infinity are refused.
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from fastml_kit.errors import BadRequest, RunError, unknown_name
from fastml_kit.files import write_whole

Value = int | float | str | bool | None

#: Where a number can come from. `csim` is any compiled software model of a design: hls4ml's C++,
#: da4ml's interpreter.
SOURCES = (
    "keras",
    "qonnx",
    "onnxruntime",
    "reference",
    "fast",
    "estimate",
    "csim",
    "rtlsim",
    "yosys",
    "netlist",
    "nextpnr",
    "csynth",
    "vivado",
    "virtual",
    "board",
    "published",
)
NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")


@dataclass(frozen=True)
class Record:
    """One number of a run. `name` is dotted and lower case: ``cost.da4ml.lut``.

    `remark` is what a reader must know besides, such as that the model is not exact.
    """

    name: str
    value: Value
    unit: str
    source: str
    stage: str
    model: str | None = None
    flow: str | None = None
    target: str | None = None
    remark: str | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise BadRequest(
                f"record name {self.name!r}: use lower-case words joined by dots, "
                "such as verify.rtl.mismatches"
            )
        if self.source not in SOURCES:
            raise unknown_name(f"source of record {self.name}", self.source, SOURCES)
        if not isinstance(self.value, Value):
            raise BadRequest(
                f"record {self.name} is a {type(self.value).__name__}; "
                "it must be a number, text, bool or None"
            )
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise BadRequest(
                f"record {self.name} is {self.value}; say None where there is no value"
            )

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What tells this record from the others of its stage; also the order they are kept in.

        An estimate and a measurement of the same quantity are two records.
        """
        return self.name, self.model or "", self.flow or "", self.target or "", self.source


@dataclass(frozen=True, order=True)
class Skip:
    """A rung or a tool's step that could not run here, and why. Never a pass."""

    name: str
    stage: str
    reason: str


def save(path: Path, records: Iterable[Record], skips: Iterable[Skip]) -> None:
    """Write a stage's records and skips to `path`, in an order that does not depend on the run."""
    content = {
        "records": [asdict(record) for record in sorted(records, key=lambda record: record.key)],
        "skipped": [asdict(skip) for skip in sorted(skips)],
    }
    write_whole(path, json.dumps(content, indent=1) + "\n")


def load(path: Path) -> tuple[list[Record], list[Skip]]:
    """Read what `save` wrote.

    Raises:
        RunError: the file is not there or not such a file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return (
            [Record(**record) for record in content["records"]],
            [Skip(**skip) for skip in content["skipped"]],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} holds no records of a stage ({error}); run the stage again"
        ) from error
