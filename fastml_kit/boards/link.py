"""Requests and replies over a serial port: sent again until answered, or given up in time."""

import time
from collections.abc import Sequence

from fastml_kit import tools
from fastml_kit.boards import protocol
from fastml_kit.boards.protocol import Answer, Command
from fastml_kit.errors import BoardError

#: Requests on their way at once. Their answers are shorter than they are, so none waits for long.
WINDOW = 8
#: Times its patience that a line may be busy without a reply coming of it.
CHATTER = 10
#: Seconds of silence after a broken frame, after which what is unanswered is sent again.
SETTLE_S = 0.2


class Link:
    """A serial port with our boards' protocol on it. `repeated` counts what was sent again."""

    def __init__(self, port: str, *, baud: int, timeout_s: float, retries: int) -> None:
        """Open `port`.

        Raises:
            BoardError: it is not there, not ours to open, or another program's.
            ToolNotFound: the pyserial package is missing.
        """
        tools.require("pyserial")
        import serial

        self.port, self.timeout_s, self.retries, self.repeated = port, timeout_s, retries, 0
        self._baud, self._number, self._unwrapper = baud, 0, protocol.Unwrapper()
        try:
            self._serial = serial.Serial(
                port, baud, timeout=0.02, write_timeout=max(10.0, timeout_s), exclusive=True
            )
            self._serial.reset_input_buffer()
        except (OSError, ValueError) as error:  # SerialException is an OSError
            hint = "is the board plugged in, and does another program hold the port?"
            raise BoardError(f"{port} cannot be opened: {error}; {hint}") from error

    def close(self) -> None:
        """Close the port."""
        self._serial.close()

    def ask(self, command: Command, arguments: bytes = b"") -> bytes:
        """Send one request; return the data of its reply.

        Raises:
            BoardError: no answer came, or the board refused; says what it said.
        """
        return self.ask_all(command, [arguments])[0]

    def ask_all(
        self, command: Command, arguments: Sequence[bytes], *, retries: int | None = None
    ) -> list[bytes]:
        """Send a request for each of `arguments`, some ahead of their answers; return the replies.

        Raises:
            BoardError: as `ask`.
        """
        retries = self.retries if retries is None else retries
        replies: dict[int, bytes] = {}
        pending: dict[int, int] = {}  # number on the line -> index
        ahead, tries, limit = 0, 0, self.timeout_s
        heard = moved = time.monotonic()  # when bytes came, and when a reply or a new try began
        while len(replies) < len(arguments):
            while ahead < len(arguments) and len(pending) < WINDOW:
                self._send(command, arguments[ahead], pending, ahead)
                ahead += 1
            received = self._receive()
            if received:
                heard = time.monotonic()
            for reply in self._unwrapper.feed(received):
                if len(reply) < protocol.HEAD:
                    continue  # none of our boards sends such a frame
                code, number, status = reply[: protocol.HEAD]
                if status == Answer.BROKEN:
                    limit = SETTLE_S
                elif number in pending and code == command | protocol.REPLY:
                    index = pending.pop(number)
                    replies[index] = self._checked(command, status, reply[protocol.HEAD :])
                    tries, moved = 0, time.monotonic()
            now = time.monotonic()
            if now - heard > limit or now - moved > CHATTER * self.timeout_s:
                if tries == retries:
                    raise BoardError(self._silence(command, tries))
                tries, limit = tries + 1, self.timeout_s
                again = list(pending.values())
                pending.clear()
                for index in again:
                    self._send(command, arguments[index], pending, index)
                self.repeated += len(again)
                heard = moved = time.monotonic()
        return [replies[index] for index in range(len(arguments))]

    def start(self, command: Command, arguments: bytes, *, undo: Command) -> None:
        """Send a request that must not be taken twice: before it is sent again, `undo` is."""
        for attempt in range(self.retries + 1):
            try:
                self.ask_all(command, [arguments], retries=0)
            except BoardError:
                if attempt == self.retries:
                    raise
                self.ask(undo)
                self.repeated += 1
            else:
                return

    def _send(
        self, command: Command, arguments: bytes, pending: dict[int, int], index: int
    ) -> None:
        self._number = (self._number + 1) % 256
        pending[self._number] = index
        frame = protocol.request(command, self._number, arguments)
        try:
            self._serial.write(frame)
        except OSError as error:
            raise BoardError(f"{self.port} was lost while sending: {error}") from error

    def _receive(self) -> bytes:
        try:
            return bytes(self._serial.read(max(1, self._serial.in_waiting)))
        except (OSError, TypeError) as error:  # pyserial reads from None once it is closed
            raise BoardError(f"{self.port} was lost while waiting: {error}") from error

    def _checked(self, command: Command, status: int, data: bytes) -> bytes:
        if status == Answer.DONE:
            return data
        known = status in Answer.__members__.values()
        said = Answer(status).name.lower().replace("_", " ") if known else f"status {status}"
        raise BoardError(f"{self.port} refused {command.name.lower()}: {said}")

    def _silence(self, command: Command, tries: int) -> str:
        broken = self._unwrapper.broken
        noise = f" ({broken} broken frames came; is {self._baud} baud its rate?)" if broken else ""
        return (
            f"{self.port} gave no answer to {command.name.lower()}, asked {tries + 1} times with "
            f"{self.timeout_s:g} s of patience{noise}; is it powered, and loaded with this design?"
        )
