"""A board and a core that tests can afford, a model of the shell, and a line with faults."""

import os
import select
import struct
import termios
import threading
import tty
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fastml_kit.backends.base import BuildRequest
from fastml_kit.backends.da4ml_backend import Da4mlBackend, plan_program
from fastml_kit.boards import table
from fastml_kit.boards.protocol import Answer, Command
from fastml_kit.boards.top import Top, stream_core, uart_top
from fastml_kit.graph.program import Program

#: Five cycles a bit: a byte takes a fifth of the cycles that it does at 25 MHz.
BOARD = """\
title: A board for tests
part: none-1
family: xc7
shell: uart
totals: {lut: 100, ff: 100, dsp: 0, bram36: 1}
clock: {mhz: 5, pin: A1}
uart: {rx: A2, tx: A3, baud: 1000000, highest_baud: 1000000}
leds: [B1, B2, B3]
high: {hold: C1}
io: LVCMOS33
sources: {part: x, totals: x, clock: x, uart: x, leds: x, high: x, io: x}
tested: []
untested: [everything]
"""

#: Three words of two bytes in; two words of two bytes out: the sum and the exclusive or of all six.
#: A frame that begins with 255, 255 is never answered.
CORE = """\
module sums (
    input wire clk, rst,
    input wire [15:0] in_data, input wire in_valid, output wire in_ready,
    output wire [15:0] out_data, output wire out_valid, input wire out_ready
);
    reg [1:0] taken;  // words of this frame; 3: the answer goes out
    reg second, stuck;
    reg [15:0] sum, parity;
    wire [15:0] pair = {8'd0, in_data[7:0]} + {8'd0, in_data[15:8]};
    wire [15:0] odd = {8'd0, in_data[7:0] ^ in_data[15:8]};
    assign in_ready = taken != 3 && !stuck;
    assign out_valid = taken == 3;
    assign out_data = second ? parity : sum;
    always @(posedge clk) begin
        if (in_valid && in_ready) begin
            taken <= taken + 1;
            sum <= taken == 0 ? pair : sum + pair;
            parity <= taken == 0 ? odd : parity ^ odd;
            if (taken == 0 && in_data == 16'hffff) stuck <= 1;
        end
        if (out_valid && out_ready) begin
            second <= !second;
            if (second) taken <= 0;
        end
        if (rst) begin
            taken <= 0;
            second <= 0;
            stuck <= 0;
        end
    end
endmodule
"""
INTERFACE: dict[str, Any] = {
    "top": "sums",
    "input": {"word_bits": 16, "words": 3, "elements": 2, "element_bits": 8, "signed": False,
              "frac": 0, "shape": [6]},
    "output": {"word_bits": 16, "words": 2, "elements": 1, "element_bits": 16, "signed": False,
               "frac": 0, "shape": [2]},
}  # fmt: skip
#: Frames of the memories above: 512 words of input, three a frame.
MOST = 170


def board(folder: Path) -> table.Board:
    """Return the board for tests, read from a file as a user's own would be."""
    path = folder / "bench.yaml"
    path.write_text(BOARD)
    return table.get(str(path))


def sums_top(folder: Path, **request: Any) -> Top:
    """Return the top for the core above."""
    (folder / "sums.v").write_text(CORE)
    return uart_top(board(folder), [folder / "sums.v"], INTERFACE, **request)


def sums(values: np.ndarray) -> np.ndarray:
    """Return what the core answers to `values`, (samples, 6)."""
    whole = values.astype(np.int64)
    return np.stack([whole.sum(axis=1), np.bitwise_xor.reduce(whole, axis=1)], axis=1)


def da4ml_top(chosen: table.Board, program: Program, folder: Path, **request: Any) -> Top:
    """Return the top for a da4ml pipeline of `program`."""
    plan = plan_program(program, Path(__file__), BuildRequest())
    built = Da4mlBackend().build(plan, folder, until="rtl")
    core = stream_core(built.sources, built.interface, folder)
    return uart_top(chosen, *core, **request)


class Model:
    """What the shell around `sums` must answer to any frame whose CRC is right."""

    def __init__(self) -> None:
        self.questions, self.results = np.zeros((512, 2), np.uint8), np.zeros((512, 2), np.uint8)
        self.answers = 0

    def reply(self, body: bytes) -> tuple[int, bytes | None]:
        """Return the status of the reply to `body`, and its data if they can be told."""
        code, arguments = body[0], body[2:]
        if code not in list(Command):
            return Answer.NO_COMMAND, b""
        status, data = getattr(self, f"_{Command(code).name.lower()}")(arguments)
        return status, data if status == Answer.DONE else b""

    def _identify(self, arguments: bytes) -> tuple[int, None]:
        return Answer.BAD_LENGTH if arguments else Answer.DONE, None

    _status = _identify

    def _abort(self, arguments: bytes) -> tuple[int, bytes]:
        if arguments:
            return Answer.BAD_LENGTH, b""
        self.answers = 0
        return Answer.DONE, b""

    def _load(self, arguments: bytes) -> tuple[int, bytes]:
        if len(arguments) < 3:
            return Answer.BAD_LENGTH, b""
        at, data = int.from_bytes(arguments[:2], "little"), arguments[2:]
        if at >= 512:
            return Answer.BAD_RANGE, b""
        while data:
            if at == 512:
                return Answer.BAD_RANGE, b""
            if len(data) < 2:
                return Answer.BAD_LENGTH, b""
            self.questions[at] = list(data[:2])
            at, data = at + 1, data[2:]
        return Answer.DONE, b""

    def _run(self, arguments: bytes) -> tuple[int, bytes]:
        if len(arguments) != 6:
            return Answer.BAD_LENGTH, b""
        frames, rounds = struct.unpack("<HI", arguments)
        if not 1 <= frames <= MOST or not rounds:
            return Answer.BAD_RANGE, b""
        values = self.questions[: 3 * frames].reshape(frames, 6)
        self.results[: 2 * frames] = sums(values).astype("<u2").view(np.uint8).reshape(-1, 2)
        self.answers = frames * rounds
        return Answer.DONE, b""

    def _read(self, arguments: bytes) -> tuple[int, bytes]:
        if len(arguments) != 4:
            return Answer.BAD_LENGTH, b""
        at, count = struct.unpack("<HH", arguments)
        if not count or at + count > 512:
            return Answer.BAD_RANGE, b""
        return Answer.DONE, self.results[at : at + count].tobytes()


class Relay:
    """A line between a driver and a board's port that may spoil what passes; `port` is its end.

    `spoil` gets what goes one way, "to" the board or "from" it, and returns what arrives.
    """

    def __init__(self, port: str | None, spoil: Callable[[str, bytes], bytes]) -> None:
        self._spoil, self._going = spoil, True
        self._host, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._board = os.open(port, os.O_RDWR | os.O_NOCTTY) if port else None
        ways = [("to", self._host, self._board), ("from", self._board, self._host)]
        self._threads = [
            threading.Thread(target=self._carry, args=way, daemon=True)
            for way in ways
            if way[1] is not None
        ]
        if self._board is not None:
            settings = termios.tcgetattr(self._board)
            settings[4] = settings[5] = termios.B1000000  # as a driver would
            termios.tcsetattr(self._board, termios.TCSANOW, settings)

    def __enter__(self) -> "Relay":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cut()

    def cut(self) -> None:
        """Take the line away, on the driver's side too."""
        if self._going:
            self._going = False
            for end in (self._slave, self._host, self._board):
                if end is not None:
                    os.close(end)

    def _carry(self, way: str, source: int, target: int | None) -> None:
        while self._going:
            try:
                if not select.select([source], [], [], 0.05)[0]:
                    continue
                data = self._spoil(way, os.read(source, 4096))
                if target is not None and data:
                    os.write(target, data)
            except (OSError, ValueError):
                return
