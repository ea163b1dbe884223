"""What goes over the serial line: frames, requests, replies. `rtl/hdl/kit_uart_shell.v` tells more.

A frame is SLIP (RFC 1055) around bytes and their CRC-32, lowest byte first. Whatever came before,
the byte END begins anew; so no broken frame costs the next one.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum

from fastml_kit.errors import BadRequest

END, ESCAPE, ESCAPED_END, ESCAPED_ESCAPE = 0xC0, 0xDB, 0xDC, 0xDD
CRC_BYTES = 4
#: Command, sequence number and status before a reply's data.
HEAD = 3
REPLY = 0x80
#: Bytes without an END after which nothing of them is kept: no reply is half as long.
LONGEST = 1 << 20
MAGIC = b"FMLK"
VERSION = 1


class Command(IntEnum):
    """What a host can ask."""

    IDENTIFY = 1
    LOAD = 2
    RUN = 3
    STATUS = 4
    READ = 5
    ABORT = 6


class Answer(IntEnum):
    """How a board can answer."""

    DONE = 0
    NO_COMMAND = 1
    BAD_LENGTH = 2
    BAD_RANGE = 3
    BUSY = 4
    BROKEN = 5


def wrap(body: bytes) -> bytes:
    """Return the frame that carries `body`."""
    whole = body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")
    escaped = whole.replace(bytes([ESCAPE]), bytes([ESCAPE, ESCAPED_ESCAPE]))
    escaped = escaped.replace(bytes([END]), bytes([ESCAPE, ESCAPED_END]))
    return bytes([END]) + escaped + bytes([END])


class Unwrapper:
    """Bytes as they come in, frames out; what is broken is counted and left out."""

    def __init__(self) -> None:
        self.broken = 0
        self._held = b""

    def feed(self, received: bytes) -> Iterator[bytes]:
        """Yield the body of every frame that `received` completes."""
        *whole, self._held = (self._held + received).split(bytes([END]))
        for frame in filter(None, whole):
            body = unescape(frame)
            if body is None or len(body) <= CRC_BYTES or not _intact(body):
                self.broken += 1
            else:
                yield body[:-CRC_BYTES]
        if len(self._held) > LONGEST:
            self._held = b""
            self.broken += 1


def unescape(frame: bytes) -> bytes | None:
    """Return what stands between two ENDs without its escapes; None where one is wrong."""
    first, *parts = frame.split(bytes([ESCAPE]))
    body = bytearray(first)
    meaning = {ESCAPED_END: END, ESCAPED_ESCAPE: ESCAPE}
    for part in parts:
        if not part or part[0] not in meaning:
            return None
        body.append(meaning[part[0]])
        body += part[1:]
    return bytes(body)


def _intact(body: bytes) -> bool:
    return zlib.crc32(body[:-CRC_BYTES]) == int.from_bytes(body[-CRC_BYTES:], "little")


@dataclass(frozen=True)
class Identity:
    """What a board says of itself: how its core's words and memories are made, and which it is.

    Sizes are in bytes a word and words a frame of the core's streams; depths in words. `digest`
    is the SHA-256 of the core and its interface.
    """

    in_bytes: int
    in_words: int
    out_bytes: int
    out_words: int
    in_depth: int
    out_depth: int
    most_frames: int  # of one run
    request_bytes: int  # of one request, at most
    clock_hz: int
    board: str
    digest: str

    FORMAT = "<4sB8HI16s32s"

    def pack(self) -> bytes:
        """Return the bytes that the board's logic holds.

        Raises:
            BadRequest: a number does not fit into its place.
        """
        numbers = [getattr(self, field.name) for field in fields(self)[:8]]
        if too_large := [number for number in numbers if not 0 < number < 2**16]:
            raise BadRequest(f"{too_large[0]} does not fit between 1 and {2**16 - 1}: {self}")
        name = self.board.encode()[:16]
        digest = bytes.fromhex(self.digest)
        return struct.pack(self.FORMAT, MAGIC, VERSION, *numbers, self.clock_hz, name, digest)

    @classmethod
    def unpack(cls, data: bytes) -> "Identity":
        """Read what `pack` wrote.

        Raises:
            BadRequest: it is something else; says what.
        """
        if len(data) != struct.calcsize(cls.FORMAT) or not data.startswith(MAGIC):
            raise BadRequest(f"{len(data)} bytes, beginning with {data[:8]!r}, are no identity")
        _, version, *numbers, name, digest = struct.unpack(cls.FORMAT, data)
        told = {field.name: number for field, number in zip(fields(cls), numbers, strict=False)}
        if version != VERSION:
            raise BadRequest(f"the board speaks version {version}, this driver {VERSION}")
        board = name.rstrip(b"\0").decode("ascii", "replace")
        return cls(**told, board=board, digest=digest.hex())


@dataclass(frozen=True)
class Status:
    """How a run is doing, or went, and what the line has seen since the board's reset."""

    running: bool
    broken: int  # frames that came with a wrong CRC, a wrong escape or too long
    dropped: int  # whole frames for which there was no room
    answers: int  # frames answered in this run
    first_cycles: int  # from the first word in to the last word of the first answer
    cycles: int  # from the first word in to the last word of the last answer

    FORMAT = "<BHHIIIH"

    @classmethod
    def unpack(cls, data: bytes) -> "Status":
        """Read a board's reply.

        Raises:
            BadRequest: it has another length.
        """
        if len(data) != struct.calcsize(cls.FORMAT):
            raise BadRequest(f"{len(data)} bytes are no status")
        running, broken, dropped, answers, first, low, high = struct.unpack(cls.FORMAT, data)
        return cls(bool(running), broken, dropped, answers, first, low | high << 32)


def request(command: int, number: int, arguments: bytes = b"") -> bytes:
    """Return the frame of a request."""
    return wrap(bytes([command, number]) + arguments)
