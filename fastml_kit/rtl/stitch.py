"""One Verilog top around FINN's units: streams, the FIFOs between them, and weights beside them.

FINN's backend leaves a description of the dataflow graph (`dataflow.json`): nodes, the streams
that join them, each one's RTL. Here they become a design with the ports that `rtl.stream`
simulates: a FIFO before every input of every node, a memory that streams each layer's weights, and
modules of the kit's own for what FINN writes in HLS only. FINN's files are used as they are, but
for the patches in `rtl.patches`.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastml_kit.backends.base import BuildResult
from fastml_kit.errors import BadRequest, UnsupportedModel, unknown_name
from fastml_kit.rtl import patches

#: FINN's packages, which must be read before the files that import them.
FIRST = ("mvu_pkg.sv", "swg_pkg.sv")
#: A FIFO of this many words costs next to nothing in LUT memory.
DEFAULT_DEPTH = 32

HEAD = """\
// A network of streams: {names}.
`timescale 1 ns / 1 ps
module {top} (
    input wire clk, rst,
    input wire [{in_high}:0] in_data,
    input wire in_valid,
    output wire in_ready,
    output wire [{out_high}:0] out_data,
    output wire out_valid,
    input wire out_ready,
    output wire [{water_high}:0] high_water,  // 16 bits a FIFO: the largest fill since reset
    output wire [{blocked_high}:0] blocked  // 2 bits a FIFO: holds back its input; is waited on
);
    wire rst_n = !rst;
"""

FIFO = """
    // {name}: {words} words a frame, up to {depth} of them waiting
    wire [{high}:0] {name}_data;
    wire {name}_valid, {name}_ready;
    wire [{fill_high}:0] {name}_fill;
    kit_fifo #(.W({bits}), .DEPTH({depth})) {name} (
        .clk(clk), .rst(rst),
        .in_data({source}_data[{high}:0]), .in_valid({source}_valid), .in_ready({source}_ready),
        .out_data({name}_data), .out_valid({name}_valid), .out_ready({name}_ready),
        .high_water({name}_fill)
    );
    assign high_water[{water_high}:{water_low}] = {{{water_pad}'b0, {name}_fill}};
    assign blocked[{blocked_low}] = {source}_valid && !{source}_ready;
    assign blocked[{blocked_high}] = {name}_valid && !{name}_ready;
"""


@dataclass(frozen=True)
class Fifo:
    """A queue before one input of one node."""

    name: str
    stream: str
    depth: int


def fifos(dataflow: Mapping[str, Any], depths: Mapping[str, int] | None = None) -> list[Fifo]:
    """Return the FIFOs of a design, in order, with their `depths` or the default one.

    Raises:
        BadRequest: a name is unknown, or a depth is below 2.
    """
    asked, made = dict(depths or {}), []
    for node in dataflow["nodes"]:
        for index, stream in enumerate(node["inputs"]):
            suffix = f"_{index}" if len(node["inputs"]) > 1 else ""
            name = f"before_{node['name']}{suffix}"
            made.append(Fifo(name, stream, asked.pop(name, DEFAULT_DEPTH)))
    if asked:
        raise unknown_name("FIFO", next(iter(asked)), [fifo.name for fifo in made])
    for fifo in made:
        if fifo.depth < 2:
            raise BadRequest(f"FIFO {fifo.name!r} of depth {fifo.depth}; at least 2")
    return made


def stitch(
    result: BuildResult, folder: Path, *, depths: Mapping[str, int] | None = None
) -> BuildResult:
    """Write the whole design of a FINN build to `folder`; return `result` with it as its RTL.

    `depths` are those of FIFOs by name (see `fifos`). The folder also gets the memory files that
    the design reads by name, so simulators and yosys must run in it or be given `data_files`.

    Raises:
        BadRequest: as `fifos`.
        BuildFailed: a file of FINN's has changed, and a patch no longer fits it.
    """
    made = result.folder
    dataflow = json.loads((made / "dataflow.json").read_text(encoding="utf-8"))
    queues = fifos(dataflow, depths)
    folder.mkdir(parents=True, exist_ok=True)
    sources = _sources(dataflow, made / "rtl", folder)
    memories = [name for node in dataflow["nodes"] for name in node.get("memories", ())]
    for name in memories:
        if made / "rtl" != folder:
            shutil.copyfile(made / "rtl" / name, folder / name)
    top = folder / f"{result.top}.sv"
    top.write_text(_top(dataflow, queues, result.top), encoding="utf-8")
    interface = {**result.interface, "fifos": [queue.name for queue in queues]}
    (folder / "interface.json").write_text(json.dumps(interface, indent=1) + "\n", "utf-8")
    return replace(
        result,
        stage="rtl",
        sources=(*sources, top),
        interface={**interface, "data_files": [str(folder / name) for name in memories]},
    )


def _sources(dataflow: Mapping[str, Any], made: Path, folder: Path) -> list[Path]:
    """Copy FINN's files, patched, and the kit's own modules; return them in the order to read."""
    names = dict.fromkeys(name for node in dataflow["nodes"] for name in node.get("sources", ()))
    ordered = [name for name in FIRST if name in names]
    ordered += [name for name in names if name not in FIRST]
    for name in ordered:
        text = (made / name).read_text(encoding="utf-8")
        (folder / name).write_text(patches.apply(name, text), encoding="utf-8")
    own = [path for path in (files("fastml_kit.rtl") / "hdl").iterdir() if _is_needed(path.name)]
    for path in sorted(own, key=lambda path: path.name):
        (folder / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        ordered.append(path.name)
    return [folder / name for name in ordered]


def _is_needed(name: str) -> bool:
    return name.startswith("kit_") and name not in ("kit_stream_shell.sv", "kit_memstream_axi.sv")


def _top(dataflow: Mapping[str, Any], queues: Sequence[Fifo], top: str) -> str:
    streams, nodes = dataflow["streams"], dataflow["nodes"]
    first, last = streams[dataflow["input"]], streams[dataflow["output"]]
    parts = [
        HEAD.format(
            names=", ".join(node["name"] for node in nodes),
            top=top,
            in_high=first["word_bits"] - 1,
            out_high=last["word_bits"] - 1,
            water_high=16 * len(queues) - 1,
            blocked_high=2 * len(queues) - 1,
        )
    ]
    for name, stream in streams.items():
        parts.append(f"    wire [{stream['word_bits'] - 1}:0] {name}_data;")
        parts.append(f"    wire {name}_valid, {name}_ready;")
    parts.append(_joined(dataflow["input"], "in", inward=True))
    parts.append(_joined(dataflow["output"], "out", inward=False))
    waiting = iter(enumerate(queues))
    for node in nodes:
        feeds = []
        for _ in node["inputs"]:
            number, queue = next(waiting)
            parts.append(_fifo(queue, number, streams[queue.stream]))
            feeds.append(queue.name)
        parts.append(_INSTANCES[node["kind"]](node, feeds, streams))
    return "\n".join([*parts, "endmodule", ""])


def _joined(stream: str, port: str, *, inward: bool) -> str:
    pairs = [("data", inward), ("valid", inward), ("ready", not inward)]
    return "\n".join(
        f"    assign {stream}_{what} = {port}_{what};" if into else
        f"    assign {port}_{what} = {stream}_{what};"
        for what, into in pairs
    )  # fmt: skip


def _bits(stream: Mapping[str, Any]) -> int:
    """Return the bits of a word that carry elements; FINN fills it up to whole bytes."""
    return int(stream["elements"]) * int(stream["element_bits"])


def _fifo(queue: Fifo, number: int, stream: Mapping[str, Any]) -> str:
    fill = queue.depth.bit_length()
    return FIFO.format(
        name=queue.name,
        words=stream["words"],
        depth=queue.depth,
        bits=_bits(stream),
        high=_bits(stream) - 1,
        fill_high=fill - 1,
        source=queue.stream,
        water_high=16 * number + 15,
        water_low=16 * number,
        water_pad=16 - fill,
        blocked_low=2 * number,
        blocked_high=2 * number + 1,
    )


def _finn(
    node: Mapping[str, Any], feeds: Sequence[str], streams: Mapping[str, Any], *more: str
) -> str:
    """Instantiate a unit of FINN's, whose ports are padded to whole bytes."""
    (feed,), (out,) = feeds, node["outputs"]
    stream = streams[node["inputs"][0]]
    pad = stream["word_bits"] - _bits(stream)
    data = f"{{{pad}'b0, {feed}_data}}" if pad else f"{feed}_data"
    ports = [
        ".ap_clk(clk), .ap_rst_n(rst_n)",
        f".in0_V_TDATA({data}), .in0_V_TVALID({feed}_valid), .in0_V_TREADY({feed}_ready)",
        f".out0_V_TDATA({out}_data), .out0_V_TVALID({out}_valid), .out0_V_TREADY({out}_ready)",
        *more,
    ]
    return (
        f"\n    {node['module']} {node['name']} (\n        "
        + ",\n        ".join(ports)
        + "\n    );"
    )


#: An AXI-lite port of FINN's that nobody uses.
_IDLE_AXILITE = (
    ".s_axilite_AWVALID(1'b0), .s_axilite_AWADDR('0), .s_axilite_WVALID(1'b0)",
    ".s_axilite_WDATA(32'b0), .s_axilite_WSTRB(4'b0), .s_axilite_BREADY(1'b0)",
    ".s_axilite_ARVALID(1'b0), .s_axilite_ARADDR('0), .s_axilite_RREADY(1'b0)",
    ".s_axilite_AWREADY(), .s_axilite_WREADY(), .s_axilite_BVALID(), .s_axilite_BRESP()",
    ".s_axilite_ARREADY(), .s_axilite_RVALID(), .s_axilite_RDATA(), .s_axilite_RRESP()",
)


def _mvau(node: Mapping[str, Any], feeds: Sequence[str], streams: Mapping[str, Any]) -> str:
    name, parameters = node["name"], node["parameters"]
    rows, columns, pe, simd = (int(parameters[key]) for key in ("MH", "MW", "PE", "SIMD"))
    bits = pe * simd * int(node["weight_bits"])
    padded = -(-bits // 8) * 8
    (memory,) = node["memories"]
    weights = f"""
    wire [{padded - 1}:0] {name}_weights;
    wire {name}_weights_valid, {name}_weights_ready;
    kit_rom_stream #(.W({padded}), .DEPTH({rows * columns // (pe * simd)}), .INIT_FILE("{memory}"))
    {name}_memory (
        .clk(clk), .rst(rst), .out_data({name}_weights), .out_valid({name}_weights_valid),
        .out_ready({name}_weights_ready)
    );"""
    return weights + _finn(
        node,
        feeds,
        streams,
        ".ap_clk2x(1'b0)",
        f".in1_V_TDATA({name}_weights), .in1_V_TVALID({name}_weights_valid), "
        f".in1_V_TREADY({name}_weights_ready)",
    )


def _thresholding(node: Mapping[str, Any], feeds: Sequence[str], streams: Mapping[str, Any]) -> str:
    idle = (*_IDLE_AXILITE, ".in1_V_TDATA('0), .in1_V_TVALID(1'b0), .in1_V_TREADY()")
    return _finn(node, feeds, streams, *idle)


def _padding(node: Mapping[str, Any], feeds: Sequence[str], streams: Mapping[str, Any]) -> str:
    return _finn(node, feeds, streams, *_IDLE_AXILITE)


def _kit(
    node: Mapping[str, Any],
    feeds: Sequence[str],
    module: str,
    parameters: Mapping[str, int],
    streams: Mapping[str, Any],
) -> str:
    """Instantiate a module of the kit's own, whose words hold elements alone."""
    out = streams[node["outputs"][0]]
    given = ", ".join(f".{key}({value})" for key, value in parameters.items())
    ports = [".clk(clk), .rst(rst)"]
    for index, feed in enumerate(feeds):
        side = f"in{index}" if len(feeds) > 1 else "in"
        ports.append(f".{side}_data({feed}_data), .{side}_valid({feed}_valid), "
                     f".{side}_ready({feed}_ready)")  # fmt: skip
    name = node["outputs"][0]
    ports.append(f".out_data({name}_data[{_bits(out) - 1}:0]), .out_valid({name}_valid), "
                 f".out_ready({name}_ready)")  # fmt: skip
    text = f"\n    {module} #({given}) {node['name']} (\n        " + ",\n        ".join(ports)
    return text + "\n    );" + _zeros(name, out)


def _zeros(name: str, stream: Mapping[str, Any]) -> str:
    """Return what fills a word up to whole bytes."""
    bits, padded = _bits(stream), stream["word_bits"]
    return f"\n    assign {name}_data[{padded - 1}:{bits}] = '0;" if padded > bits else ""


def _pool(node: Mapping[str, Any], feeds: Sequence[str], streams: Mapping[str, Any]) -> str:
    source, target = streams[node["inputs"][0]], streams[node["outputs"][0]]
    if node["parameters"]["Function"] != "MaxPool":
        raise UnsupportedModel(f"{node['name']} is no max-pool, and the kit has RTL for that only")
    parameters = {
        "PE": source["elements"],
        "BITS": source["element_bits"],
        "SIGNED": int(source["signed"]),
        "WINDOW": source["words"] // target["words"],
    }
    return _kit(node, feeds, "kit_max_pool", parameters, streams)


def _add(node: Mapping[str, Any], feeds: Sequence[str], streams: Mapping[str, Any]) -> str:
    pair = [streams[name] for name in node["inputs"]]
    parameters = {"PE": pair[0]["elements"]}
    for index, stream in enumerate(pair):
        parameters[f"BITS{index}"] = stream["element_bits"]
        parameters[f"SIGNED{index}"] = int(stream["signed"])
    parameters["OUT_BITS"] = streams[node["outputs"][0]]["element_bits"]
    return _kit(node, feeds, "kit_add_streams", parameters, streams)


def _duplicate(node: Mapping[str, Any], feeds: Sequence[str], streams: Mapping[str, Any]) -> str:
    (feed,), outs, name = feeds, node["outputs"], node["name"]
    bits = _bits(streams[node["inputs"][0]])
    valid, ready = (", ".join(f"{out}_{what}" for out in reversed(outs)) for what in
                    ("valid", "ready"))  # fmt: skip
    text = f"""
    wire [{bits - 1}:0] {name}_data;
    kit_duplicate_streams #(.W({bits}), .COPIES({len(outs)})) {name} (
        .clk(clk), .rst(rst), .in_data({feed}_data), .in_valid({feed}_valid),
        .in_ready({feed}_ready), .out_data({name}_data), .out_valid({{{valid}}}),
        .out_ready({{{ready}}})
    );"""
    for out in outs:
        text += f"\n    assign {out}_data[{bits - 1}:0] = {name}_data;" + _zeros(out, streams[out])
    return text


_INSTANCES = {
    "add": _add,
    "duplicate": _duplicate,
    "mvau": _mvau,
    "padding": _padding,
    "pool": _pool,
    "thresholding": _thresholding,
    "width": _finn,
    "swg": _finn,
}
