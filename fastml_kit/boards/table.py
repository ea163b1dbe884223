"""The board table: files that are checked when they are read, and refused by name.

Every number in a file has its source beside it; `tested` and `untested` say what was seen to
work. Pins are those of the top that `fastml_kit.boards.top` writes.
"""

import os
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fastml_kit.errors import BadRequest, nearest, unknown_name

#: A folder with board files of a user's own; one of a built-in name takes its place.
FOLDER = "FASTML_BOARDS"

Pin = Annotated[str, Field(pattern=r"^[A-Z]{1,2}\d{1,2}$")]
Port = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Totals(_Part):
    """What the part holds. LUTs have 6 inputs on xc7, 4 on ecp5; `bram36` counts 36 Kb blocks."""

    lut: int = Field(gt=0)
    ff: int = Field(gt=0)
    dsp: int = Field(ge=0)
    bram36: float = Field(ge=0)


class Clock(_Part):
    """The clock that the logic gets; without a pin where a processor gives it."""

    mhz: float = Field(gt=0, le=1000)
    pin: Pin | None = None


class Uart(_Part):
    """The serial line to the host: pins from the FPGA's side, and rates in baud."""

    rx: Pin
    tx: Pin
    baud: int = Field(ge=9600)
    highest_baud: int = Field(ge=9600)


class Place(_Part):
    """What nextpnr-ecp5 calls the part."""

    size: Literal["12k", "25k", "45k", "85k"]
    package: str = Field(pattern=r"^[A-Z]+\d+$")
    speed: Literal[6, 7, 8]


class Board(_Part):
    """One board, as its file has it."""

    name: str
    title: str
    part: str  # as vendors' tools name it, package and speed grade included
    family: Literal["ecp5", "xc7"]
    shell: Literal["uart", "axi"]
    totals: Totals
    clock: Clock
    uart: Uart | None = None
    leds: list[Pin] = Field(default=[], max_length=3)  # alive, running, last frame broken
    high: dict[Port, Pin] = {}  # outputs that must be 1
    io: str | None = None  # the pins' standard
    place: Place | None = None
    program: str | None = None  # the command, with {bitstream} in it
    sources: dict[str, str]  # field -> who says so
    tested: list[str]
    untested: list[str]

    @model_validator(mode="after")
    def _whole(self) -> "Board":
        """Refuse what no single field shows."""
        if self.shell == "uart" and not (self.uart and self.clock.pin and self.io):
            raise ValueError("shell: uart needs uart, clock.pin and io")
        if self.uart and self.uart.baud > self.uart.highest_baud:
            raise ValueError(f"uart.baud {self.uart.baud} is above its highest_baud")
        if self.place and self.family != "ecp5":
            raise ValueError("place is for family ecp5")
        if self.program and "{bitstream}" not in self.program:
            raise ValueError("program has no {bitstream}")
        pins = list(self.pins().values())
        if twice := sorted({pin for pin in pins if pins.count(pin) > 1}):
            raise ValueError(f"pin {', '.join(twice)} is used twice")
        told = {"title", "name", "family", "shell", "sources", "tested", "untested"}
        given = {name for name in type(self).model_fields if getattr(self, name)} - told
        if unsaid := sorted(given - self.sources.keys()):
            raise ValueError(f"sources has nothing for {', '.join(unsaid)}")
        return self

    def pins(self) -> dict[str, str]:
        """Return the pin of each port of the top, a bit of a vector each: ``led[0]``."""
        pins = {"clk": self.clock.pin} if self.clock.pin else {}
        if self.uart:
            pins |= {"rx": self.uart.rx, "tx": self.uart.tx}
        pins |= {f"led[{i}]": pin for i, pin in enumerate(self.leds)}
        return pins | dict(self.high)


def names() -> list[str]:
    """Return the names of all boards that `get` knows."""
    return sorted(_files())


def get(name: str) -> Board:
    """Return the board called `name`, or the one in the file of that name, which ends in .yaml.

    Raises:
        BadRequest: there is no such board, or its file is wrong; says where.
    """
    if name.endswith((".yaml", ".yml")):
        return read(Path(name))
    found = _files()
    if name not in found:
        raise unknown_name("board", name, found)
    return read(found[name])


def read(path: Path) -> Board:
    """Read the board in the file `path`; its name is the file's.

    Raises:
        BadRequest: the file is missing, no YAML, or says something wrong: which field, and why.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise BadRequest(f"board file {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise BadRequest(f"board file {path} holds no fields; compare the ones in {_own()}")
    if "name" in content:
        raise BadRequest(f"board file {path}: name is the file's own; leave it out")
    try:
        return Board(name=path.stem, **content)
    except (ValidationError, TypeError) as error:
        raise BadRequest(f"board file {path}: {_said(error)}") from error


def _files() -> dict[str, Path]:
    folders = [_own()]
    if own := os.environ.get(FOLDER):
        if not Path(own).is_dir():
            raise BadRequest(f"{FOLDER}={own!r} is no folder")
        folders.append(Path(own))
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def _own() -> Path:
    with as_file(files("fastml_kit.boards") / "table") as folder:
        return folder


def _said(error: ValidationError | TypeError) -> str:
    """Return all that is wrong with a file, in one line."""
    if isinstance(error, TypeError):  # a key that is no text
        return str(error)
    lines = []
    for wrong in error.errors():
        where = ".".join(map(str, wrong["loc"]))
        text = wrong["msg"].removeprefix("Value error, ")
        if wrong["type"] == "extra_forbidden":
            text = "there is no such field." + nearest(str(wrong["loc"][-1]), _fields(wrong["loc"]))
        lines.append(f"{where}: {text}" if where else text)
    return "; ".join(lines)


def _fields(where: tuple[Any, ...]) -> list[str]:
    parts: dict[str, type[BaseModel]] = {
        "totals": Totals,
        "clock": Clock,
        "uart": Uart,
        "place": Place,
    }
    model = parts.get(str(where[0]), Board) if len(where) > 1 else Board
    return list(model.model_fields)
