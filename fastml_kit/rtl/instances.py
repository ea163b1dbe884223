"""The Verilog that instantiates one unit of a stream design: FINN's, or the kit's own."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastml_kit.errors import UnsupportedModel


def instance(node: Mapping[str, Any], feeds: Sequence[str], streams: Mapping[str, Any]) -> str:
    """Return the unit of `node`, reading the queues `feeds` and writing its output streams.

    Raises:
        UnsupportedModel: the kit has no RTL for what the node computes.
    """
    return _KINDS[node["kind"]](node, feeds, streams)


def carried(stream: Mapping[str, Any]) -> int:
    """Return the bits of a word that carry elements; FINN fills it up to whole bytes."""
    return int(stream["elements"]) * int(stream["element_bits"])


def _finn(
    node: Mapping[str, Any], feeds: Sequence[str], streams: Mapping[str, Any], *more: str
) -> str:
    """Instantiate a unit of FINN's, whose ports are padded to whole bytes."""
    (feed,), (out,) = feeds, node["outputs"]
    stream = streams[node["inputs"][0]]
    pad = stream["word_bits"] - carried(stream)
    data = f"{{{pad}'b0, {feed}_data}}" if pad else f"{feed}_data"
    ports = [
        ".ap_clk(clk), .ap_rst_n(rst_n)",
        f".in0_V_TDATA({data}), .in0_V_TVALID({feed}_valid), .in0_V_TREADY({feed}_ready)",
        f".out0_V_TDATA({out}_data), .out0_V_TVALID({out}_valid), .out0_V_TREADY({out}_ready)",
        *more,
    ]
    module = node["module"]
    if node.get("compute") == "lut":
        module += " #(.VERSION(0))"  # see `patches`
    return f"\n    {module} {node['name']} (\n        " + ",\n        ".join(ports) + "\n    );"


#: An AXI-lite port of FINN's that nobody uses.
_IDLE_AXILITE = (
    ".s_axilite_AWVALID(1'b0), .s_axilite_AWADDR('0), .s_axilite_WVALID(1'b0)",
    ".s_axilite_WDATA(32'b0), .s_axilite_WSTRB(4'b0), .s_axilite_BREADY(1'b0)",
    ".s_axilite_ARVALID(1'b0), .s_axilite_ARADDR('0), .s_axilite_RREADY(1'b0)",
    ".s_axilite_AWREADY(), .s_axilite_WREADY(), .s_axilite_BVALID(), .s_axilite_BRESP()",
    ".s_axilite_ARREADY(), .s_axilite_RVALID(), .s_axilite_RDATA(), .s_axilite_RRESP()",
)


#: What yosys calls a read-only memory made of LUTs.
_ROM_STYLES = {"block": "block", "distributed": "logic"}


def _mvau(node: Mapping[str, Any], feeds: Sequence[str], streams: Mapping[str, Any]) -> str:
    name, parameters = node["name"], node["parameters"]
    rows, columns, pe, simd = (int(parameters[key]) for key in ("MH", "MW", "PE", "SIMD"))
    bits = pe * simd * int(node["weight_bits"])
    padded = -(-bits // 8) * 8
    (memory,) = node["memories"]
    weights = f"""
    wire [{padded - 1}:0] {name}_weights;
    wire {name}_weights_valid, {name}_weights_ready;
    kit_rom_stream #(.W({padded}), .DEPTH({rows * columns // (pe * simd)}), .INIT_FILE("{memory}"),
        .RAM_STYLE("{_ROM_STYLES[node["ram_style"]]}")) {name}_memory (
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
    ports.append(f".out_data({name}_data[{carried(out) - 1}:0]), .out_valid({name}_valid), "
                 f".out_ready({name}_ready)")  # fmt: skip
    text = f"\n    {module} #({given}) {node['name']} (\n        " + ",\n        ".join(ports)
    return text + "\n    );" + _zeros(name, out)


def _zeros(name: str, stream: Mapping[str, Any]) -> str:
    """Return what fills a word up to whole bytes."""
    bits, padded = carried(stream), stream["word_bits"]
    return f"\n    assign {name}_data[{padded - 1}:{bits}] = '0;" if padded > bits else ""


def _width(node: Mapping[str, Any], feeds: Sequence[str], streams: Mapping[str, Any]) -> str:
    """Turn words of one width into another's: parts of a whole by the kit, the rest by FINN."""
    taken, given = (carried(streams[node[side][0]]) for side in ("inputs", "outputs"))
    if given > taken and given % taken == 0:
        return _kit(node, feeds, "kit_widen", {"W": taken, "PARTS": given // taken}, streams)
    if taken > given and taken % given == 0:
        return _kit(node, feeds, "kit_narrow", {"W": given, "PARTS": taken // given}, streams)
    return _finn(node, feeds, streams)


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
    bits = carried(streams[node["inputs"][0]])
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


_KINDS = {
    "add": _add,
    "duplicate": _duplicate,
    "mvau": _mvau,
    "padding": _padding,
    "pool": _pool,
    "thresholding": _thresholding,
    "width": _width,
    "swg": _finn,
}
