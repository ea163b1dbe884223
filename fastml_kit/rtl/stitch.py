"""One Verilog top around FINN's units: streams, the FIFOs between them, and weights beside them.

FINN's backend leaves a description of the dataflow graph (`dataflow.json`): nodes, the streams
that join them, each one's RTL. Here they become a design with the ports that `rtl.stream`
simulates: a FIFO before every input of every node, a memory that streams each layer's weights, and
modules of the kit's own for what FINN writes in HLS only. FINN's files are used as they are, but
for the patches in `rtl.patches`. Where KIT_MONITORS is defined, as `rtl.stream` does, the design
also tells how full its FIFOs are; what is synthesized has none of that.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastml_kit.backends.base import BuildResult
from fastml_kit.errors import BadRequest, unknown_name
from fastml_kit.rtl import instances, patches
from fastml_kit.rtl.design import INTERFACE

#: FINN's packages, which must be read before the files that import them.
FIRST = ("mvu_pkg.sv", "swg_pkg.sv")
#: A FIFO of this many words costs next to nothing in LUT memory.
DEFAULT_DEPTH = 32

HEAD = """\
module {name} (
    input wire clk, rst,
{ports}
`ifdef KIT_MONITORS
    ,
    output wire [{water_high}:0] high_water,  // 16 bits a FIFO: the largest fill since reset
    output wire [{blocked_high}:0] blocked  // 2 bits a FIFO: holds back its input; is waited on
`endif
);
"""

MONITORS = """\
`ifdef KIT_MONITORS
    assign high_water[{water_high}:{water_low}] = {{{water_pad}'b0, {name}_fill}};
    assign blocked[{blocked_low}] = {holds}{source}_valid && !{source}_ready;
    assign blocked[{blocked_high}] = {name}_valid && !{name}_ready;
`endif
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
"""

LINK = """
    // {name}: {words} words a frame, none of which ever waits
    wire [{high}:0] {name}_data = {source}_data[{high}:0];
    wire {name}_valid = {source}_valid, {name}_ready, {name}_fill = 1'b0;
    assign {source}_ready = {name}_ready;
"""


@dataclass(frozen=True)
class Fifo:
    """A queue before one input of one node; with a depth of 0, the wires alone."""

    name: str
    stream: str
    depth: int


def fifos(dataflow: Mapping[str, Any], depths: Mapping[str, int] | None = None) -> list[Fifo]:
    """Return the FIFOs of a design, in order, with their `depths` or the default one.

    Raises:
        BadRequest: a name is unknown, or a depth is 1 or negative.
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
        if fifo.depth < 2 and fifo.depth:
            raise BadRequest(
                f"FIFO {fifo.name!r} of depth {fifo.depth}; at least 2, or 0 for wires alone"
            )
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
    parts = [_part(node, result.top) for node in dataflow["nodes"]]
    names = {"sources": [path.name for path in (*sources, top)], "data_files": memories}
    said = {**interface, "top": result.top, **names, "parts": parts}
    (folder / INTERFACE).write_text(json.dumps(said, indent=1) + "\n", "utf-8")
    extra = {"data_files": [str(folder / name) for name in memories],
             "modules": [part["module"] for part in parts]}  # fmt: skip
    return replace(result, stage="rtl", sources=(*sources, top), interface={**interface, **extra})


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


def _part(node: Mapping[str, Any], top: str) -> dict[str, Any]:
    """Say of a node's module what `design.Part` holds."""
    return {
        "name": node["name"],
        "module": f"{top}_{node['name']}",
        "estimate": node.get("estimate", {}),
        "dsp": node["kind"] == "mvau" and node.get("compute") != "lut",
    }


def _is_needed(name: str) -> bool:
    """Tell the modules for streams, in SystemVerilog, from those for boards and from the shell."""
    return name.startswith("kit_") and name.endswith(".sv") and name != "kit_stream_shell.sv"


def _top(dataflow: Mapping[str, Any], queues: Sequence[Fifo], top: str) -> str:
    """Return one module for each node, with its FIFOs and weights, and one around them all."""
    streams, nodes = dataflow["streams"], dataflow["nodes"]
    ends = {"in": dataflow["input"], "out": dataflow["output"]}
    parts = ["// A network of streams, as fastml_kit.rtl.stitch joined it.\n`timescale 1 ns / 1 ps"]
    waiting, placed, first = iter(queues), list[str](), 0
    for node in nodes:
        own = [next(waiting) for _ in node["inputs"]]
        name = f"{top}_{node['name']}"
        parts.append(_node(node, own, streams, name))
        wired = [*node["inputs"], *node["outputs"]]
        pins = [f".{stream}_{what}({stream}_{what})" for stream in wired for what in _WIRES]
        high = first + len(own) - 1
        watched = (f"        , .high_water(high_water[{16 * high + 15}:{16 * first}])"
                   f", .blocked(blocked[{2 * high + 1}:{2 * first}])")  # fmt: skip
        text = ",\n        ".join([".clk(clk), .rst(rst)", *pins])
        placed.append(
            f"    {name} {node['name']} (\n        {text}\n`ifdef KIT_MONITORS\n{watched}\n"
            "`endif\n    );"
        )
        first += len(own)
    ports = [_ports("in", streams[ends["in"]], inward=True),
             _ports("out", streams[ends["out"]], inward=False)]  # fmt: skip
    parts.append(_head(top, ports, len(queues)))
    for stream, layout in streams.items():
        parts.append(f"    wire [{layout['word_bits'] - 1}:0] {stream}_data;")
        parts.append(f"    wire {stream}_valid, {stream}_ready;")
    for port, stream in ends.items():
        for what in _WIRES:
            pair = (f"{stream}_{what}", f"{port}_{what}")
            to, of = pair if (port == "in") != (what == "ready") else pair[::-1]
            parts.append(f"    assign {to} = {of};")
    return "\n".join([*parts, *placed, "endmodule", ""])


def _node(
    node: Mapping[str, Any], queues: Sequence[Fifo], streams: Mapping[str, Any], name: str
) -> str:
    ports = [_ports(stream, streams[stream], inward=True) for stream in node["inputs"]]
    ports += [_ports(stream, streams[stream], inward=False) for stream in node["outputs"]]
    parts = [f"\n// {node.get('layer', 'between layers')}: {node['op']}"]
    parts += [_head(name, ports, len(queues)), "    wire rst_n = !rst;"]
    parts += [_fifo(queue, k, streams[queue.stream]) for k, queue in enumerate(queues)]
    parts.append(instances.instance(node, [queue.name for queue in queues], streams))
    return "\n".join([*parts, "endmodule"])


_WIRES = ("data", "valid", "ready")


def _ports(name: str, stream: Mapping[str, Any], *, inward: bool) -> str:
    to, of = ("input", "output") if inward else ("output", "input")
    return (
        f"    {to} wire [{stream['word_bits'] - 1}:0] {name}_data,\n"
        f"    {to} wire {name}_valid,\n    {of} wire {name}_ready"
    )


def _head(name: str, ports: Sequence[str], queues: int) -> str:
    return HEAD.format(
        name=name,
        ports=",\n".join(ports),
        water_high=16 * queues - 1,
        blocked_high=2 * queues - 1,
    )


def _fifo(queue: Fifo, number: int, stream: Mapping[str, Any]) -> str:
    fill = max(1, queue.depth.bit_length())
    return ((FIFO if queue.depth else LINK) + MONITORS).format(
        name=queue.name,
        words=stream["words"],
        depth=queue.depth,
        bits=instances.carried(stream),
        high=instances.carried(stream) - 1,
        fill_high=fill - 1,
        holds="" if queue.depth else "1'b0 && ",  # wires are never full: what they lead to is
        source=queue.stream,
        water_high=16 * number + 15,
        water_low=16 * number,
        water_pad=16 - fill,
        blocked_low=2 * number,
        blocked_high=2 * number + 1,
    )
