"""A design handed over as files: what is read back is what was built; its netlist answers alike."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastml_kit import backends
from fastml_kit.errors import MismatchError, RunError, UnsupportedModel
from fastml_kit.graph import program, reference
from fastml_kit.rtl import design, netlist, stitch
from fastml_kit.tests import networks
from fastml_kit.tests.test_stitch import CHAIN, made

SIDE = {"word_bits": 8, "words": 1, "elements": 1, "element_bits": 8, "signed": False,
        "frac": 0, "shape": [1]}  # fmt: skip
PORTS = """\
module top (
    input wire clk, rst,
    input wire [7:0] in_data, input wire in_valid, output wire in_ready,
    output wire [7:0] out_data, output wire out_valid, input wire out_ready
);
    assign in_ready = out_ready, out_valid = in_valid;
"""
#: The last word again; and, once the input had paused between words, one more.
SOUND = PORTS + "assign out_data = in_data;\nendmodule\n"
SULKING = (
    PORTS
    + """\
    reg begun, paused;
    always @(posedge clk) begin
        begun <= !rst && (begun || in_valid);
        paused <= !rst && (paused || (begun && !in_valid));
    end
    assign out_data = in_data + paused;
endmodule
"""
)


def stream_design(folder: Path, text: str) -> design.Design:
    """Write a design of one word a sample, and return it."""
    (folder / "top.v").write_text(text)
    said = {"top": "top", "input": SIDE, "output": SIDE, "fifos": [], "interval_cycles": 1}
    (folder / design.INTERFACE).write_text(json.dumps(said))
    return design.load(folder)


def test_a_stitched_design_is_read_back_wherever_it_lies(tmp_path: Path) -> None:
    built = stitch.stitch(made(tmp_path / "finn", CHAIN), tmp_path / "rtl")
    shutil.copytree(tmp_path / "rtl", tmp_path / "elsewhere")
    found = design.load(tmp_path / "elsewhere")
    assert found.top == built.top
    assert [path.name for path in found.sources] == [path.name for path in built.sources]
    assert {path.parent for path in found.sources} == {tmp_path / "elsewhere"}
    assert found.modules == tuple(built.interface["modules"]) == ("twice_copy", "twice_sum")
    assert not found.data_files  # nothing in it has weights
    for key in ("input", "output", "fifos"):
        assert found.interface[key] == json.loads(json.dumps(built.interface[key]))
    assert str(tmp_path) not in (tmp_path / "rtl" / design.INTERFACE).read_text()


def test_a_design_of_plain_verilog_is_read_as_it_lies(tmp_path: Path) -> None:
    (tmp_path / "b.v").write_text(SOUND)
    (tmp_path / "a.v").touch()
    (tmp_path / design.INTERFACE).write_text('{"top": "top", "latency_cycles": 3}')
    found = design.load(tmp_path)
    assert [path.name for path in found.sources] == ["a.v", "b.v"]
    assert (found.modules, found.data_files) == ((), ())


def test_what_is_no_design_or_lacks_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no design .*build it again"):
        design.load(tmp_path)
    (tmp_path / design.INTERFACE).write_text("{}")
    with pytest.raises(RunError, match=r"holds no design \('top'\)"):
        design.load(tmp_path)
    said = {"top": "top", "sources": ["x.sv"], "data_files": ["w.dat"]}
    (tmp_path / design.INTERFACE).write_text(json.dumps(said))
    (tmp_path / "x.sv").touch()
    with pytest.raises(RunError, match=r"lacks w\.dat"):
        design.load(tmp_path)


def test_a_family_without_the_blocks_that_a_layer_names_is_refused() -> None:
    parts = (design.Part("sum", "top_sum", {}), design.Part("dense", "top_dense", {}, dsp=True))
    found = design.Design("top", {}, (), parts=parts)
    found.require("xc7")
    with pytest.raises(UnsupportedModel, match=r"dense makes its products in DSP48E1 .* ecp5"):
        found.require("ecp5")
    design.Design("top", {}, (), parts=parts[:1]).require("ecp5")


def test_the_parts_say_which_layers_name_dsp_blocks() -> None:
    node = {"name": "dense", "kind": "mvau"}
    said = [stitch._part({**node, "compute": unit}, "top")["dsp"] for unit in ("lut", "dsp")]
    assert said == [False, True]
    assert not stitch._part({"name": "sum", "kind": "add"}, "top")["dsp"]


def test_a_stream_answers_under_stalls_as_without(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (300, 1)).astype(float)
    sound = stream_design(tmp_path, SOUND)
    answer = netlist.simulate(sound, tmp_path / "top.v", values, tmp_path / "sound")
    assert np.array_equal(answer.values, values)
    assert (answer.latency_cycles, answer.interval_cycles) == (0, 1)
    sulking = stream_design(tmp_path, SULKING)
    with pytest.raises(MismatchError, match=r"with stalls, \d+ of 200 codes of top\.v change"):
        netlist.simulate(sulking, tmp_path / "top.v", values, tmp_path / "sulking")


def test_a_pipeline_answers_as_the_graph_does(tmp_path: Path) -> None:
    path = networks.mlp(tmp_path / "net.onnx")
    da4ml: Any = backends.get("da4ml")
    built = da4ml.build(da4ml.plan(path, backends.BuildRequest()), tmp_path, until="rtl")
    found = design.load(tmp_path / "rtl")
    assert {*found.sources} == {*built.sources}
    x = np.random.default_rng(1).integers(0, 17, (50, 6)) / 16
    top = tmp_path / "all.v"
    top.write_text("\n".join(source.read_text() for source in found.sources))
    answer = netlist.simulate(found, top, x, tmp_path / "simulation")
    assert np.array_equal(answer.values, reference.run(program.read(path), x))
    assert answer.latency_cycles == built.interface["latency_cycles"]
    assert answer.interval_cycles == 1
