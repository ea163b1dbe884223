"""From a board's top to a bitstream, where open tools can make one, and onto the board."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from fastml_kit import tools
from fastml_kit.boards.table import Board
from fastml_kit.boards.top import Top
from fastml_kit.errors import BadRequest
from fastml_kit.rtl import place
from fastml_kit.rtl.process import run_logged


def build(
    top: Top,
    folder: Path,
    *,
    seeds: Sequence[int] = (1, 2, 3, 4, 5),
    data_files: Sequence[Path] = (),
) -> place.Placement:
    """Place the design with each of `seeds`; the best one's bitstream is that to load.

    Raises:
        BadRequest: no open tool places this board's part, or the seeds are wrong.
        BuildFailed: a tool failed, as it does for a design that does not fit.
        ToolNotFound: pyosys or the package of nextpnr is missing.
    """
    board = top.board
    if board.place is None:
        raise BadRequest(
            f"{board.name}: no open tool makes bitstreams for {board.part}; boards.vivado writes a "
            "script for Vivado"
        )
    sources = top.write(folder / "source")
    return place.place(
        sources,
        top.name,
        place.Chip(board.place.size, board.place.package, board.place.speed),
        folder / "source" / f"{top.name}.lpf",
        folder,
        seeds=seeds,
        pll=(board.clock.mhz, top.clock_mhz) if top.pll else None,
        data_files=data_files,
    )


def command(board: Board, bitstream: Path) -> list[str]:
    """Return the command that loads `bitstream` into the board, until it is switched off.

    Raises:
        BadRequest: the board's file names none.
    """
    if board.program is None:
        raise BadRequest(f"{board.name}: its file says no program, the command that loads it")
    return [word.format(bitstream=bitstream) for word in shlex.split(board.program)]


def program(board: Board, bitstream: Path, log: Path) -> float:
    """Load `bitstream` into the board; return the seconds it took.

    Raises:
        BadRequest: there is no such file, or the board's file names no command.
        BuildFailed: the program failed, as it does when no board is plugged in.
        ToolNotFound: the program is not here.
    """
    if not bitstream.is_file():
        raise BadRequest(f"{bitstream} is no file; build the bitstream first")
    words = command(board, bitstream.resolve())
    if words[0] in tools.TABLE:
        words[0] = str(tools.require(words[0]))
    return run_logged(words, folder=log.parent, log=log)
