"""Talking to a board over its serial line, real or virtual: load inputs, run, read answers.

Every request is repeated when its answer does not come or a frame arrives broken; what still fails
ends in one clear error within a stated time. A board that an earlier host left busy is reset first.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastml_kit.boards.link import Link
from fastml_kit.boards.protocol import Command, Identity, Status
from fastml_kit.errors import BadRequest, BoardError
from fastml_kit.rtl import stream

#: Bytes of answers asked for at a time: a broken reply costs no more than these.
CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Inference:
    """What a board answered, and its own count of cycles: nothing of the line is in it."""

    values: NDArray[np.float64]  # (samples, *output shape)
    latency_cycles: int  # first word in to last word out, of a frame that came to an idle core
    interval_cycles: float | None  # between two frames' answers; None where each came alone
    cycles: int  # of all runs together
    seconds: float  # on the host's clock, all that came before and after included
    repeated: int  # requests that had to be sent again

    @property
    def samples(self) -> int:
        """How many frames were answered."""
        return len(self.values)


class SerialBoard:
    """A board whose logic has the kit's serial shell. Use it as a context, or `close` it."""

    def __init__(self, port: str, *, baud: int, timeout_s: float = 2.0, retries: int = 3) -> None:
        """Open `port` for this host alone, and make the board ready.

        A reply counts as missing after `timeout_s` of silence; a request is then sent again, up to
        `retries` times.

        Raises:
            BoardError: the port cannot be had, or nothing there answers as our boards do.
        """
        self._link = Link(port, baud=baud, timeout_s=timeout_s, retries=retries)
        self.port = port
        try:
            self._link.ask(Command.ABORT)
            answer = self._link.ask(Command.IDENTIFY)
            try:
                self.identity = Identity.unpack(answer)
            except BadRequest as error:
                raise BoardError(f"{port}: {error}") from error
        except BaseException:
            self._link.close()
            raise

    def __enter__(self) -> "SerialBoard":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others have the port."""
        self._link.close()

    def expect(self, *, board: str | None = None, digest: str | None = None) -> None:
        """Refuse a board that is another, or holds another design.

        Raises:
            BoardError: says what is there, and what was asked for.
        """
        if board is not None and self.identity.board != board[:16]:
            raise BoardError(
                f"{self.port} is a {self.identity.board}, and this design is for a {board}; "
                "load the design that was made for it"
            )
        if digest is not None and self.identity.digest != digest:
            raise BoardError(
                f"{self.port} holds the design {self.identity.digest[:12]}, not {digest[:12]}; "
                "load the board with this design's bitstream"
            )

    def status(self) -> Status:
        """Return how the last run went or is doing."""
        return Status.unpack(self._link.ask(Command.STATUS))

    def abort(self) -> None:
        """End whatever runs, and reset the core."""
        self._link.ask(Command.ABORT)

    def infer(
        self, values: ArrayLike, interface: Mapping[str, Any], *, rounds: int = 1
    ) -> Inference:
        """Run `values`, (samples, *input shape), through the board, in as few runs as it can.

        `interface` is the core's, of which the board holds the digest only. With more `rounds`, the
        board runs each of its batches so often, and gives the last round's answers.

        Raises:
            BadRequest: a value is not on its input's grid, or the interface is another core's.
            BoardError: the board did not answer, or its core got stuck.
        """
        (asked, in_words), (answer, out_words) = (
            stream.frame(interface, side) for side in ("input", "output")
        )
        for way, word, size, count in (
            ("takes", asked, self.identity.in_bytes, self.identity.in_words),
            ("gives", answer, self.identity.out_bytes, self.identity.out_words),
        ):
            said = in_words if word is asked else out_words
            if (size * count, count) != (word.byte_count, said):
                raise BadRequest(
                    f"the board {way} {size * count} bytes in {count} words a frame, the interface "
                    f"says {word.byte_count} in {said}: this is another design's interface"
                )
        words = asked.pack(values)
        if not len(words):
            raise BadRequest("no values to run; give at least one sample")
        if not 1 <= rounds <= 2**32 // self.identity.most_frames:
            raise BadRequest(f"rounds={rounds}; at least 1, and no more than the board can count")
        start, repeated = time.perf_counter(), self._link.repeated
        most, rows, ran = self.identity.most_frames, [], []
        for first in range(0, len(words), most):
            batch = words[first : first + most]
            self._load(batch.tobytes())
            ran.append(self._run(len(batch), rounds))
            read = self._read(len(batch) * out_words)
            rows.append(np.frombuffer(read, np.uint8).reshape(len(batch), answer.byte_count))
        seconds = time.perf_counter() - start
        gaps = sum(status.answers - 1 for status in ran)
        between = sum(status.cycles - status.first_cycles for status in ran)
        offset = interface["output"].get("offset", np.zeros(answer.shape))
        return Inference(
            values=answer.unpack(np.concatenate(rows)) + np.reshape(offset, answer.shape),
            latency_cycles=max(status.first_cycles for status in ran),
            interval_cycles=between / gaps if gaps else None,
            cycles=sum(status.cycles for status in ran),
            seconds=seconds,
            repeated=self._link.repeated - repeated,
        )

    def _load(self, data: bytes) -> None:
        """Write words of the core's input from address 0 on."""
        size = self.identity.in_bytes
        each = (self.identity.request_bytes - 4) // size
        arguments = []
        for word in range(0, len(data) // size, each):
            part = data[word * size : (word + each) * size]
            arguments.append(word.to_bytes(2, "little") + part)
        self._link.ask_all(Command.LOAD, arguments)

    def _run(self, frames: int, rounds: int) -> Status:
        """Run what was loaded, and wait as long as answers keep coming."""
        arguments = frames.to_bytes(2, "little") + rounds.to_bytes(4, "little")
        self._link.start(Command.RUN, arguments, undo=Command.ABORT)
        seen, since, pause = -1, time.monotonic(), 0.0
        while (status := self.status()).running:
            if status.answers != seen:
                seen, since = status.answers, time.monotonic()
            elif time.monotonic() - since > self._link.timeout_s:
                self.abort()
                raise BoardError(
                    f"{self.port}: the core is stuck after {seen} of {frames * rounds} answers "
                    f"(no more within {self._link.timeout_s:g} s); it was reset"
                )
            time.sleep(pause)
            pause = min(0.05, pause + 0.001)
        if status.answers != frames * rounds:
            raise BoardError(
                f"{self.port}: the board stopped after {status.answers} of {frames * rounds} "
                "answers; was it reset, or used by another host?"
            )
        return status

    def _read(self, words: int) -> bytes:
        """Read `words` words of answers from address 0 on."""
        each = max(1, CHUNK // self.identity.out_bytes)
        parts = [(at, min(each, words - at)) for at in range(0, words, each)]
        # One at a time: these replies are longer than their requests, which would be dropped.
        replies = [
            self._link.ask(Command.READ, at.to_bytes(2, "little") + count.to_bytes(2, "little"))
            for at, count in parts
        ]
        for (_, count), reply in zip(parts, replies, strict=True):
            if len(reply) != count * self.identity.out_bytes:
                raise BoardError(f"{self.port}: {len(reply)} bytes came for {count} words")
        return b"".join(replies)
