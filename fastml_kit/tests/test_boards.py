"""The board table: what is in it has a source and fits; a wrong file is refused by name."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastml_kit import devices
from fastml_kit.boards import table
from fastml_kit.errors import BadRequest
from fastml_kit.tests import boardbench
from fastml_kit.tests.boardbench import BOARD, sums_top


def test_three_boards_are_known_and_their_totals_are_those_of_the_part() -> None:
    assert table.names() == ["arty-a7-100t", "pynq-z2", "ulx3s-85f"]
    for name in table.names():
        board = table.get(name)
        part = devices.of_part(board.part.lower())
        told = (board.totals.lut, board.totals.ff, board.totals.dsp, board.totals.bram36)
        assert told == (part.lut, part.ff, part.dsp, part.bram36)
        assert board.family == part.target


def test_no_board_claims_more_than_was_tested() -> None:
    for board in map(table.get, table.names()):
        assert "a real board" in board.untested
        if board.family == "xc7":
            assert any("Vivado" in line for line in board.untested)


def test_an_unknown_board_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadRequest, match=r"no board 'ulx3s-85'. Did you mean 'ulx3s-85f'"):
        table.get("ulx3s-85")


def test_a_user_adds_a_board_by_adding_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text(BOARD)
    assert table.get(str(tmp_path / "mine.yaml")).name == "mine"
    monkeypatch.setenv(table.FOLDER, str(tmp_path))
    assert "mine" in table.names()
    assert table.get("mine").clock.mhz == 5
    monkeypatch.setenv(table.FOLDER, str(tmp_path / "nowhere"))
    with pytest.raises(BadRequest, match=r"FASTML_BOARDS=.*nowhere' is no folder"):
        table.names()


def changed(path: Path, **fields: Any) -> Path:
    """Write the test board with other fields; None leaves one out."""
    content = {**yaml.safe_load(BOARD), **fields}
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value != {}}))
    return path


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"clok": {"mhz": 5}}, r"clok: there is no such field. Did you mean 'clock'"),
        ({"clock": {"mhz": "fast", "pin": "A1"}}, r"clock.mhz: Input should be a valid number"),
        ({"clock": {"mhz": 5, "pim": "A1"}}, r"clock.pim: .*Did you mean 'pin'"),
        ({"family": "ice40"}, r"family: Input should be 'ecp5' or 'xc7'"),
        ({"leds": ["A1"]}, r"pin A1 is used twice"),
        ({"leds": ["led"]}, r"leds.0: String should match pattern"),
        ({"clock": {"mhz": 5}}, r"shell: uart needs uart, clock.pin and io"),
        (
            {"place": {"size": "85k", "package": "CABGA381", "speed": 6}},
            r"place is for family ecp5",
        ),
        ({"program": "load it"}, r"program has no \{bitstream\}"),
        (
            {"sources": {"part": "x"}},
            r"sources has nothing for clock, high, io, leds, totals, uart",
        ),
        ({"totals": {"lut": 0, "ff": 1, "dsp": 0, "bram36": 0}}, r"totals.lut: .*greater than 0"),
        ({"tested": {}}, r"tested: Field required"),
        ({"name": "other"}, r"name is the file's own"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_field(
    fields: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = changed(tmp_path / "wrong.yaml", **fields)
    with pytest.raises(BadRequest, match=rf"wrong\.yaml: .*{said}"):
        table.read(path)


@pytest.mark.parametrize("text", ["", "- a list", "a: [", "\0"])
def test_a_file_that_holds_no_board_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(BadRequest, match=r"odd\.yaml"):
        table.read(tmp_path / "odd.yaml")


def ports(text: str, module: str) -> set[str]:
    """Return the ports of a module that `top` wrote, a bit each, with [] for a vector's."""
    found = re.search(rf"module {module} \((.*?)\);", text, re.DOTALL)
    assert found
    names: set[str] = set()
    for declared in found[1].split(","):
        high, name = re.fullmatch(
            r"\s*(?:input|output) wire (?:\[(\d+):0\] )?(\w+)\s*", declared
        ).groups()  # type: ignore[union-attr]
        names |= {f"{name}[{bit}]" for bit in range(int(high) + 1)} if high else {name}
    return names


CONSTRAINED = {
    "xdc": r"PACKAGE_PIN (\w+) IOSTANDARD LVCMOS33 \} \[get_ports \{ (\S+) \}\]",
    "lpf": r'LOCATE COMP "(\S+)" SITE "(\w+)";',
}


@pytest.mark.parametrize("name", ["ulx3s-85f", "arty-a7-100t", "bench"])
def test_constraints_place_each_port_of_the_top_and_no_other(name: str, tmp_path: Path) -> None:
    board = boardbench.board(tmp_path) if name == "bench" else table.get(name)
    (tmp_path / "sums.v").write_text(boardbench.CORE)
    top = boardbench.uart_top(board, [tmp_path / "sums.v"], boardbench.INTERFACE)
    (file,) = (name for name in top.files if name.endswith((".xdc", ".lpf")))
    kind = file.rpartition(".")[2]
    assert kind == ("lpf" if board.family == "ecp5" else "xdc")
    found = re.findall(CONSTRAINED[kind], top.files[file])
    placed = {port: pin for pin, port in found} if kind == "xdc" else dict(found)
    assert placed == board.pins()
    assert placed.keys() == ports(top.files[f"{top.name}.v"], top.name)


def test_the_same_request_writes_the_same_files(tmp_path: Path) -> None:
    one, two = sums_top(tmp_path), sums_top(tmp_path)
    assert one.files == two.files
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "sums.v").write_text(boardbench.CORE + "// another\n")
    other = boardbench.uart_top(one.board, [tmp_path / "else" / "sums.v"], boardbench.INTERFACE)
    assert other.identity.digest != one.identity.digest


@pytest.mark.parametrize(
    ("name", "request_", "said"),
    [
        ("pynq-z2", {}, "pynq-z2 has no serial line to its logic"),
        ("arty-a7-100t", {"clock_mhz": 50.0}, "clock_mhz=50; without a clock generator"),
        ("ulx3s-85f", {"baud": 12_000_000}, "takes up to 3000000"),
        ("ulx3s-85f", {"baud": 3_000_000}, r"8.33 cycles a bit at 25 MHz"),
    ],
)
def test_what_a_board_cannot_do_is_refused(
    name: str, request_: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "sums.v").write_text(boardbench.CORE)
    with pytest.raises(BadRequest, match=said):
        boardbench.uart_top(
            table.get(name), [tmp_path / "sums.v"], boardbench.INTERFACE, **request_
        )
