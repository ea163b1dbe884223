"""A board's top: the kit's serial shell around a stream core, with constraints, as plain Verilog.

The core has the ports that `fastml_kit.rtl.stream` tells of: a stitched FINN network, or a da4ml
pipeline inside `fastml_kit.rtl.shell`. What is written depends on nothing but the arguments.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastml_kit.boards import constraints
from fastml_kit.boards.protocol import Identity
from fastml_kit.boards.table import Board
from fastml_kit.errors import BadRequest
from fastml_kit.rtl import shell, stream

#: What the shell is made of, in `rtl/hdl`.
SHELL = (
    "kit_uart_rx",
    "kit_uart_tx",
    "kit_frame_rx",
    "kit_frame_tx",
    "kit_batch",
    "kit_uart_shell",
)
STREAMS = "kit_stream_shell.sv"
PLL_SIMULATED = "kit_pll_sim.v"

#: Words of each memory, unless a frame or their size asks for another number.
DEPTH = 512
#: Bytes of a request that are not words: command, number, address.
OVERHEAD = 4
#: A UART that is further off than this may take a bit for its neighbour.
RATE_ERROR = 0.02

TOP = """\
// {title}: {core} behind a serial line of {baud} baud, at {mhz:g} MHz.
`timescale 1 ns / 1 ps
module {top} (
    input wire clk,
    input wire rx,
    output wire tx{ports}
);
{clock}
    // Registers start at 0 when the part is configured: so many cycles of reset, and more until
    // the clock is stable.
    reg [5:0] awake = 0;
    reg rst = 1'b1;
    always @(posedge clock) begin
        if (!stable) awake <= 0;
        else if (!(&awake)) awake <= awake + 1'b1;
        rst <= !(&awake);
    end

    wire core_rst, in_valid, in_ready, out_valid, out_ready, running, broken;
    wire [{in_high}:0] in_data;
    wire [{out_high}:0] out_data;

    {core} core (
        .clk(clock), .rst(core_rst),
        .in_data(in_data), .in_valid(in_valid), .in_ready(in_ready),
        .out_data(out_data), .out_valid(out_valid), .out_ready(out_ready)
    );

    kit_uart_shell #(
        .DIVISOR({divisor}), .SIZE({size}),
        .IN_BYTES({in_bytes}), .IN_WORDS({in_words}),
        .OUT_BYTES({out_bytes}), .OUT_WORDS({out_words}),
        .IN_DEPTH({in_depth}), .OUT_DEPTH({out_depth}), .MOST({most}),
        .IDENTITY_BYTES({identity_bytes}),
        .IDENTITY({identity_bits}'h{identity})
    ) shell (
        .clk(clock), .rst(rst), .rx(rx), .tx(tx),
        .core_rst(core_rst),
        .in_data(in_data), .in_valid(in_valid), .in_ready(in_ready),
        .out_data(out_data), .out_valid(out_valid), .out_ready(out_ready),
        .running(running), .broken(broken)
    );
{outputs}endmodule
"""

DIRECT = """\
    wire clock = clk;
    wire stable = 1'b1;
"""

MULTIPLIED = """\
    wire clock, locked;
    kit_pll pll (.clkin(clk), .clkout0(clock), .locked(locked));
    reg [1:0] seen = 0;  // the lock comes at any time
    always @(posedge clock) seen <= {seen[0], locked};
    wire stable = seen[1];
"""


@dataclass(frozen=True)
class Top:
    """A design for one board: what `write` writes, and what a host must know of it."""

    board: Board
    name: str
    core: tuple[Path, ...]
    interface: Mapping[str, Any]  # the core's
    identity: Identity
    baud: int
    divisor: int  # clock cycles a bit
    clock_mhz: float  # the core's; the board's own unless `pll`
    pll: bool
    files: Mapping[str, str]  # name -> text: top, shell, constraints

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the Verilog files, without the core's and without a clock generator."""
        return tuple(name for name in self.files if name.endswith(".v"))

    def write(self, folder: Path) -> tuple[Path, ...]:
        """Write all files into `folder`; return the Verilog ones, the core's among them."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        return (*self.core, *(folder / name for name in self.sources))


def uart_top(
    board: Board,
    sources: Sequence[Path],
    interface: Mapping[str, Any],
    *,
    clock_mhz: float | None = None,
    baud: int | None = None,
) -> Top:
    """Wrap the stream core that `sources` and its `interface` describe for `board`.

    The core runs at `clock_mhz`, or at the board's own clock.

    Raises:
        BadRequest: the board has no serial line, or cannot have this clock or this rate.
    """
    if board.uart is None or board.shell != "uart":
        raise BadRequest(
            f"{board.name} has no serial line to its logic; its shell is {board.shell}"
        )
    clock_mhz = board.clock.mhz if clock_mhz is None else clock_mhz
    pll = clock_mhz != board.clock.mhz
    if pll and board.family != "ecp5":
        raise BadRequest(
            f"{board.name}: clock_mhz={clock_mhz:g}; without a clock generator, which is written "
            f"for ecp5 only, it is the board's own {board.clock.mhz:g}"
        )
    baud = board.uart.baud if baud is None else baud
    divisor = _divisor(board, clock_mhz, baud)
    (asked, in_words), (answer, out_words) = (
        stream.frame(interface, side) for side in ("input", "output")
    )
    in_bytes, out_bytes = asked.byte_count // in_words, answer.byte_count // out_words
    depths = [max(DEPTH, _power(words)) for words in (in_words, out_words)]
    identity = Identity(
        in_bytes=in_bytes,
        in_words=in_words,
        out_bytes=out_bytes,
        out_words=out_words,
        in_depth=depths[0],
        out_depth=depths[1],
        most_frames=min(depths[0] // in_words, depths[1] // out_words),
        request_bytes=max(256, _power(in_bytes + OVERHEAD)),
        clock_hz=round(clock_mhz * 1e6),
        board=board.name,
        digest=digest(sources, interface),
    )
    name = f"{board.name.replace('-', '_')}_top"
    hdl = files("fastml_kit.rtl") / "hdl"
    texts = {f"{part}.v": (hdl / f"{part}.v").read_text(encoding="utf-8") for part in SHELL}
    texts[f"{name}.v"] = _text(board, name, interface["top"], identity, divisor, clock_mhz, baud)
    texts |= constraints.of(board, name)
    return Top(
        board=board,
        name=name,
        core=tuple(sources),
        interface=interface,
        identity=identity,
        baud=baud,
        divisor=divisor,
        clock_mhz=clock_mhz,
        pll=pll,
        files=texts,
    )


def stream_core(
    sources: Sequence[Path], interface: Mapping[str, Any], folder: Path
) -> tuple[tuple[Path, ...], Mapping[str, Any]]:
    """Return the sources and the interface of a design as a stream core, for `uart_top`.

    A pipeline, as da4ml makes it, gets streams by `rtl.shell`, written into `folder`; a design that
    has them is returned as it is.
    """
    if "bits" not in interface["input"]:
        return tuple(sources), interface
    folder.mkdir(parents=True, exist_ok=True)
    around = shell.shell_interface(interface)
    added = {
        f"{around['top']}.v": shell.shell(interface),
        STREAMS: (files("fastml_kit.rtl") / "hdl" / STREAMS).read_text(encoding="utf-8"),
    }
    for name, text in added.items():
        (folder / name).write_text(text, encoding="utf-8")
    return (*sources, *(folder / name for name in added)), around


def digest(sources: Sequence[Path], interface: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a core: its files, by name and content, and its interface."""
    parts = {path.name: path.read_bytes() for path in sources}
    whole = hashlib.sha256(json.dumps(interface, sort_keys=True).encode())
    for name, content in sorted(parts.items()):
        whole.update(b"\0" + name.encode() + b"\0" + hashlib.sha256(content).digest())
    return whole.hexdigest()


def _divisor(board: Board, clock_mhz: float, baud: int) -> int:
    assert board.uart
    if not 0 < baud <= board.uart.highest_baud:
        raise BadRequest(f"baud={baud}; {board.name} takes up to {board.uart.highest_baud}")
    exact = clock_mhz * 1e6 / baud
    divisor = round(exact)
    if divisor < 4 or abs(divisor / exact - 1) > RATE_ERROR:
        raise BadRequest(
            f"baud={baud} is {exact:.2f} cycles a bit at {clock_mhz:g} MHz; it must be within "
            f"{RATE_ERROR:.0%} of a whole number from 4 on"
        )
    return divisor


def _power(number: int) -> int:
    """Return the smallest power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()


def _text(
    board: Board,
    name: str,
    core: str,
    identity: Identity,
    divisor: int,
    clock_mhz: float,
    baud: int,
) -> str:
    packed = identity.pack()
    ports, outputs = "", ""
    if board.leds:
        ports += f",\n    output wire [{len(board.leds) - 1}:0] led"
        lights = ["beat[25]", "running", "broken"][: len(board.leds)]
        outputs += (
            "\n    // alive, running, the last frame was broken\n"
            "    reg [25:0] beat = 0;\n"
            "    always @(posedge clock) beat <= beat + 1'b1;\n"
            f"    assign led = {{{', '.join(reversed(lights))}}};\n"
        )
    for port in board.high:
        ports += f",\n    output wire {port}"
        outputs += f"    assign {port} = 1'b1;\n"
    return TOP.format(
        title=board.title,
        core=core,
        baud=baud,
        mhz=clock_mhz,
        top=name,
        ports=ports,
        clock=DIRECT if clock_mhz == board.clock.mhz else MULTIPLIED,
        outputs=outputs,
        divisor=divisor,
        size=identity.request_bytes,
        in_high=8 * identity.in_bytes - 1,
        out_high=8 * identity.out_bytes - 1,
        in_bytes=identity.in_bytes,
        in_words=identity.in_words,
        out_bytes=identity.out_bytes,
        out_words=identity.out_words,
        in_depth=identity.in_depth,
        out_depth=identity.out_depth,
        most=identity.most_frames,
        identity_bytes=len(packed),
        identity_bits=8 * len(packed),
        identity=packed[::-1].hex(),
    )
