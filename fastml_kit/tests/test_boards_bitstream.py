"""A board's bitstream: made where open tools can, loaded by the board's own command."""

from pathlib import Path

import pytest

from fastml_kit.boards import bitstream, table
from fastml_kit.errors import BadRequest, BuildFailed, ToolNotFound
from fastml_kit.rtl import place
from fastml_kit.tests import boardbench

BOARD = table.get("ulx3s-85f")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "x.bit").write_bytes(b"bits")
    return tmp_path / "x.bit"


@pytest.mark.slow
def test_a_whole_top_becomes_a_bitstream_that_meets_its_clock(tmp_path: Path) -> None:
    """Pins, clock generator and all, on the part of the real board."""
    (tmp_path / "sums.v").write_text(boardbench.CORE)
    top = boardbench.uart_top(BOARD, [tmp_path / "sums.v"], boardbench.INTERFACE, clock_mhz=50)
    made = bitstream.build(top, tmp_path / "build", seeds=(1,))
    assert made.chip == place.Chip("85k", "CABGA381", 6)
    assert made.available["DP16KD"] == 2 * BOARD.totals.bram36
    assert made.available["MULT18X18D"] == BOARD.totals.dsp
    assert made.available["TRELLIS_FF"] == BOARD.totals.ff
    assert made.asked_mhz == pytest.approx(50, rel=0.001)
    assert made.fmax_mhz > 50
    assert made.used["EHXPLLL"] == 1
    assert made.used["DP16KD"] == 3  # the frames' buffers, questions and answers
    assert made.used["TRELLIS_IO"] == len(BOARD.pins())
    assert b"LFE5U-85F" in made.best.bitstream.read_bytes()[:200]


def test_a_board_without_open_tools_is_refused(tmp_path: Path) -> None:
    top = boardbench.sums_top(tmp_path)
    with pytest.raises(BadRequest, match="bench: no open tool makes bitstreams for none-1"):
        bitstream.build(top, tmp_path)
    with pytest.raises(BadRequest, match="its file says no program"):
        bitstream.command(top.board, tmp_path)


def test_the_boards_own_command_loads_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = tmp_path / "loader"
    loader.write_text(
        '#!/bin/sh\necho "$*" > said\ntest -e plugged || { echo no board; exit 1; }\n'
    )
    loader.chmod(0o755)
    monkeypatch.setenv("FASTML_OPENFPGALOADER", str(loader))
    with pytest.raises(BuildFailed, match="no board"):
        bitstream.program(BOARD, file, tmp_path / "load.log")
    (tmp_path / "plugged").touch()
    assert bitstream.program(BOARD, file, tmp_path / "load.log") > 0
    assert (tmp_path / "said").read_text() == f"-b ulx3s {file}\n"


def test_what_is_missing_is_told(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadRequest, match="build the bitstream first"):
        bitstream.program(BOARD, tmp_path / "none.bit", tmp_path / "log")
    monkeypatch.setenv("FASTML_OPENFPGALOADER", "/no/loader")
    with pytest.raises(ToolNotFound, match="openFPGALoader"):
        bitstream.program(BOARD, file, tmp_path / "log")
