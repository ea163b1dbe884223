"""A stream that can be stalled, around a pipeline that cannot, as da4ml makes it; see `stream`."""

from collections.abc import Mapping
from typing import Any

#: A pipeline's own top inside `kit_stream_shell`, with streams of whole bytes.
SHELL = """\
// The pipeline {top} as a stream that can be stalled.
`timescale 1 ns / 1 ps
module {top}_stream #(parameter IN = {in_bits}, OUT = {out_bits}) (
    input wire clk, rst, in_valid, out_ready,
    output wire in_ready, out_valid,
    input wire [(IN + 7) / 8 * 8 - 1:0] in_data,
    output wire [(OUT + 7) / 8 * 8 - 1:0] out_data,
    output wire [15:0] high_water,
    output wire [1:0] blocked
);
    wire valid_in, valid_out;
    wire [IN-1:0] data_in;
    wire [OUT-1:0] data_out, answer;
    assign out_data = answer;  // the bits that fill its last byte are 0
    {top} pipeline (.*);
    kit_stream_shell #({latency}, IN, OUT) shell (
        .*, .in_data(in_data[IN-1:0]), .out_data(answer)
    );
endmodule
"""


def shell(interface: Mapping[str, Any]) -> str:
    """Return the Verilog of `<top>_stream`: kit_stream_shell.sv around a da4ml design.

    `interface` is the design's own, as `rtl/interface.json` holds it; that of the stream is
    `shell_interface(interface)`.
    """
    bits = {f"{way}_bits": interface[f"{way}put"]["bits"] for way in ("in", "out")}
    return SHELL.format(top=interface["top"], latency=interface["latency_cycles"], **bits)


def shell_interface(interface: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stream interface of the top that `shell` writes around a da4ml design."""
    return {
        "top": f"{interface['top']}_stream",
        "input": {"layout": interface["input"]},
        "output": {"layout": interface["output"]},
        "fifos": ["answers"],
    }
