"""A design as one stage hands it to the next: sources, memories and interface in one folder.

Whatever backend made it, `interface.json` says what a simulator and yosys need to know: the `top`;
how samples lie on its ports (see `simulate`, or `stream` for a design with streams); and, by names
relative to the folder, the `sources` in the order to read them, the `data_files` that the design
reads, and its `parts`: modules that are counted one by one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastml_kit.errors import RunError, UnsupportedModel

INTERFACE = "interface.json"


@dataclass(frozen=True)
class Part:
    """One layer's module. `estimate` is what its backend expected it to take, by resource."""

    name: str
    module: str
    estimate: Mapping[str, float]
    dsp: bool = False  # it instantiates DSP48E1 blocks by name


@dataclass(frozen=True)
class Design:
    """What lies in a folder. `parts` are empty where the design is one piece."""

    top: str
    interface: Mapping[str, Any]
    sources: tuple[Path, ...]
    data_files: tuple[Path, ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of the parts: what `synthesize` is to keep."""
        return tuple(part.module for part in self.parts)

    def require(self, target: str) -> None:
        """See to it that the FPGA family `target` has what the design instantiates by name.

        Raises:
            UnsupportedModel: it has not; names the layer and the way out.
        """
        for part in self.parts:
            if part.dsp and target != "xc7":
                raise UnsupportedModel(
                    f"{part.name} makes its products in DSP48E1 blocks, which {target} does not "
                    "have; ask for a longer interval, or for compute='lut' in the folding"
                )


def load(folder: Path) -> Design:
    """Return the design that lies in `folder`.

    Raises:
        RunError: there is none, or one of its files is missing.
    """
    try:
        said = json.loads((folder / INTERFACE).read_text(encoding="utf-8"))
        top = said["top"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder} holds no design ({error}); build it again") from error
    names = said.pop("sources", None) or sorted(path.name for path in folder.glob("*.v"))
    memories, parts = said.pop("data_files", ()), said.pop("parts", ())
    if missing := [name for name in (*names, *memories) if not (folder / name).is_file()]:
        raise RunError(f"{folder} lacks {', '.join(missing)}; build the design again")
    return Design(
        top=top,
        interface=said,
        sources=tuple(folder / name for name in names),
        data_files=tuple(folder / name for name in memories),
        parts=tuple(Part(**part) for part in parts),
    )
