"""Handshakes: read from a simulation's waves, and drawn."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from fastml_kit import plots
from fastml_kit import waves as pictures
from fastml_kit.errors import BadRequest
from fastml_kit.rtl import stream, waves
from fastml_kit.rtl.waves import Handshakes

#: A register between two streams: a word waits in it until it is taken.
REGISTER = """
module register (input clk, input rst,
                 input [7:0] in_data, input in_valid, output in_ready,
                 output reg [7:0] out_data, output reg out_valid, input out_ready);
    wire stream0_valid = in_valid, stream0_ready = in_ready;
    assign in_ready = !out_valid || out_ready;
    always @(posedge clk) begin
        if (in_ready) begin
            out_valid <= in_valid;
            out_data <= in_data;
        end
        if (rst) out_valid <= 0;
    end
endmodule
"""
SIDE = {"word_bits": 8, "words": 2, "elements": 1, "element_bits": 8, "signed": False, "frac": 0,
        "shape": [2]}  # fmt: skip
INTERFACE = {"top": "register", "input": SIDE, "output": SIDE}
VCD = """$timescale 1ps $end
$scope module TOP $end
$var wire 1 ! clk $end
$var wire 1 " rst $end
$scope module top $end
$var wire 1 # a_valid $end
$var wire 1 $ a_ready $end
$var wire 8 % a_data [7:0] $end
$scope module deeper $end
$var wire 1 & b_valid $end
$var wire 1 ' b_ready $end
$upscope $end
$upscope $end
$upscope $end
$enddefinitions $end
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a traced run of the register, both sides stalled."""
    folder = tmp_path_factory.mktemp("register")
    source = folder / "register.sv"
    source.write_text(REGISTER)
    values = np.arange(100).reshape(50, 2)
    ran = stream.simulate(
        [source], "register", INTERFACE, values, folder, stall_in=0.4, stall_out=0.4,
        trace_cycles=90,
    )  # fmt: skip
    np.testing.assert_array_equal(ran.values, values)
    return folder


def test_waves_say_what_the_test_bench_saw(folder: Path) -> None:
    found = waves.streams(folder / "waves.vcd", ["in", "out", "stream0"])
    seen = stream.handshakes(folder / "handshakes.csv")
    for side in ("in", "out"):
        for wire in ("valid", "ready"):
            np.testing.assert_array_equal(getattr(found[side], wire), seen[f"{side}_{wire}"])
    np.testing.assert_array_equal(found["stream0"].moved, found["in"].moved)
    assert found["out"].held.any() and found["in"].starved.any() and found["in"].held.any()


def test_a_cycle_is_what_both_sides_see_before_the_rising_edge(tmp_path: Path) -> None:
    path = tmp_path / "waves.vcd"
    steps = [
        '#0\n1"\n0!\n1#\n0$', "#1\n1!",  # in reset: does not count
        '#2\n0!\n0"\nb101 %', "#3\n1!\n0#",  # what changes after the edge is not the cycle's
        "#4\n0!\n1$", "#5\n1!",
        "#6\n0!\n1#",  # the last one may end with the file
    ]  # fmt: skip
    path.write_text(VCD + "\n".join(steps) + "\n")
    found = waves.streams(path, ["a"])["a"]
    assert found.valid.tolist() == [True, False, True]
    assert found.ready.tolist() == [False, True, True]
    assert found.held.tolist() == [True, False, False]
    assert found.starved.tolist() == [False, True, False]
    assert found.moved.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (VCD, "aa", "no stream 'aa'.*Did you mean 'a'"),
        (VCD, "b", "no stream 'b'"),  # inside a layer, not between two
        ("$enddefinitions $end\n", "a", "no wire 'clk'"),
        (VCD.replace("a_ready", "a_read"), "a", "no stream 'a'"),
    ],
)
def test_what_was_not_traced_is_refused(text: str, name: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "waves.vcd"
    path.write_text(text)
    with pytest.raises(BadRequest, match=message):
        waves.streams(path, [name])


def test_a_streams_title_says_what_it_joins() -> None:
    dataflow = {
        "streams": dict.fromkeys(("s0", "s1", "s2", "s3")),
        "nodes": [
            {"layer": "dense1", "inputs": ["s0"], "outputs": ["s1"]},
            {"inputs": ["s1"], "outputs": ["s2"]},
            {"layer": "relu1", "inputs": ["s2"], "outputs": ["s3"]},
        ],
    }
    assert waves.titles(dataflow) == {
        "s0": "in → dense1",
        "s1": "dense1 → converter",
        "s2": "converter → relu1",
        "s3": "relu1 → out",
    }


def lane(valid: str, ready: str) -> Handshakes:
    first, second = (np.array([letter == "1" for letter in word]) for word in (valid, ready))
    return Handshakes(first, second)


def test_each_state_is_drawn_where_it_was() -> None:
    shaken = lane("0111001", "0011101")
    figure = pictures.handshakes({"run": {"a → b": shaken, "b → c": shaken}}, cycles=6)
    axis = figure.axes[0]
    bars = [
        [(path.get_extents().x0, path.get_extents().width) for path in bar.get_paths()]
        for bar in axis.collections[:3]
    ]
    assert bars == [[(2, 2)], [(1, 1)], [(4, 1)]]  # moved, held, starved; the rest is not shown
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a → b", "b → c"]
    assert len(axis.collections) == 6
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [*(style["label"] for style in pictures.STATES.values()), "valid", "ready"]


def test_a_figure_is_an_image_with_a_background_of_its_own() -> None:
    runs = {"one": {"a": lane("01", "11")}, "two": {"a": lane("11", "00")}}
    figure = pictures.handshakes(runs, cycles=2)
    assert len(figure.axes) == 2
    assert to_rgba(figure.get_facecolor())[3] == 1, "a page may be dark"
    ElementTree.fromstring(plots.svg(figure))
    assert plots.svg(figure) == plots.svg(pictures.handshakes(runs, cycles=2))
