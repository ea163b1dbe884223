"""The serial shell and its driver: exact answers, and from every fault a way back in time."""

import os
import random
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from fastml_kit.boards import protocol, table, virtual
from fastml_kit.boards.protocol import Answer, Command, Identity
from fastml_kit.boards.serial import SerialBoard
from fastml_kit.boards.top import Top
from fastml_kit.errors import BadRequest, BoardError, BuildFailed
from fastml_kit.graph import reference
from fastml_kit.tests import boardbench, programs
from fastml_kit.tests.boardbench import INTERFACE, MOST, Model, Relay, sums, sums_top

BAUD = 1_000_000
Built = tuple[Path, Top]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("bench")
    top = sums_top(folder)
    return virtual.build(top, folder / "virtual", optimize=False)[0], top


@pytest.fixture
def port(built: Built) -> Iterator[str]:
    binary, top = built
    with virtual.VirtualBoard(binary, top) as board:
        yield board.port


def frames(samples: int, seed: int = 0) -> np.ndarray:
    """Return random inputs, END and ESCAPE among their bytes, and none that hangs the core."""
    values = np.random.default_rng(seed).integers(0, 256, (samples, 6))
    values[:, 0] = np.minimum(values[:, 0], 254)
    values[0] = [protocol.END, protocol.ESCAPE] * 3
    return values


def connect(port: str, **request: float) -> SerialBoard:
    return SerialBoard(port, baud=BAUD, **{"timeout_s": 1.0, **request})  # type: ignore[arg-type]


@given(body=st.binary(max_size=40), cut=st.integers(0, 100))
def test_a_frame_comes_out_as_it_went_in_however_it_arrives(body: bytes, cut: int) -> None:
    wire, unwrapper = protocol.wrap(body), protocol.Unwrapper()
    came = [*unwrapper.feed(wire[:cut]), *unwrapper.feed(wire[cut:])]
    assert came == ([body] if body else [])
    assert protocol.END not in wire[1:-1]


@given(body=st.binary(min_size=1, max_size=40), at=st.integers(0), bit=st.integers(0, 7))
def test_a_frame_with_one_wrong_bit_never_comes_out(body: bytes, at: int, bit: int) -> None:
    wire = bytearray(protocol.wrap(body))
    wire[at % len(wire)] ^= 1 << bit
    unwrapper = protocol.Unwrapper()
    came = list(unwrapper.feed(bytes(wire) + protocol.wrap(b"next")))
    assert came[-1] == b"next"
    # An END at the beginning or the end that is lost costs nothing, or joins two frames.
    assert came[:-1] in ([], [body])


def test_an_identity_is_read_back_and_what_is_none_is_refused() -> None:
    identity = Identity(2, 3, 4, 5, 6, 7, 8, 9, 25_000_000, "board", "ab" * 32)
    assert Identity.unpack(identity.pack()) == identity
    with pytest.raises(BadRequest, match="speaks version 9"):
        Identity.unpack(identity.pack()[:4] + b"\x09" + identity.pack()[5:])
    with pytest.raises(BadRequest, match="are no identity"):
        Identity.unpack(b"something else")
    with pytest.raises(BadRequest, match="70000 does not fit"):
        Identity(70_000, 3, 4, 5, 6, 7, 8, 9, 1, "board", "ab" * 32).pack()


def test_batches_of_every_size_are_answered_exactly(port: str, built: Built) -> None:
    with connect(port) as board:
        assert board.identity == built[1].identity
        board.expect(board="bench", digest=built[1].identity.digest)
        for samples in (1, 2, MOST, 2 * MOST + 5):
            values = frames(samples, samples)
            ran = board.infer(values, INTERFACE)
            assert np.array_equal(ran.values, sums(values))
            # Three cycles to take a frame, two to give its answer, and none in between.
            assert ran.latency_cycles == 4
            assert ran.interval_cycles == (5 if samples > 1 else None)
            assert ran.repeated == 0
        status = board.status()
        assert (status.broken, status.dropped, status.answers) == (0, 0, 5)


def test_many_rounds_are_counted_by_the_board(port: str) -> None:
    values = frames(3)
    with connect(port) as board:
        ran = board.infer(values, INTERFACE, rounds=1000)
        assert np.array_equal(ran.values, sums(values))
        assert ran.cycles == 4 + 2999 * 5
        with pytest.raises(BadRequest, match="rounds=0"):
            board.infer(values, INTERFACE, rounds=0)


def test_another_boards_or_designs_bundle_is_refused(port: str) -> None:
    with connect(port) as board:
        with pytest.raises(BoardError, match="is a bench, and this design is for a ulx3s"):
            board.expect(board="ulx3s-85f")
        with pytest.raises(BoardError, match=r"holds the design \w{12}, not 0{12}"):
            board.expect(digest="0" * 64)
        wider = {**INTERFACE, "input": {**INTERFACE["input"], "words": 4, "shape": [8]}}
        with pytest.raises(BadRequest, match=r"takes 6 bytes in 3 words.*another design's"):
            board.infer(np.zeros((1, 8)), wider)
        longer = {**INTERFACE, "output": {**INTERFACE["output"], "words": 3, "shape": [3]}}
        with pytest.raises(BadRequest, match=r"gives 4 bytes in 2 words.*says 6 in 3"):
            board.infer(np.zeros((1, 6)), longer)
        with pytest.raises(BadRequest, match=r"element 0 is 0\.5"):
            board.infer(np.full((1, 6), 0.5), INTERFACE)


def test_a_core_that_hangs_is_told_and_reset_and_the_next_try_works(port: str) -> None:
    values = frames(4)
    stuck = values.copy()
    stuck[2, :2] = 255
    with connect(port) as board:
        with pytest.raises(BoardError, match="stuck after 2 of 4 answers"):
            board.infer(stuck, INTERFACE)
        assert np.array_equal(board.infer(values, INTERFACE).values, sums(values))


def test_a_host_that_died_leaves_a_board_that_the_next_one_can_use(port: str) -> None:
    with connect(port) as board:
        board.infer(frames(2), INTERFACE)
        board._link.ask(Command.RUN, struct.pack("<HI", 2, 2**31))  # then it dies
        assert board.status().running
        with pytest.raises(BoardError, match="refused load: busy"):
            board._load(bytes(12))
    with connect(port) as board:
        assert not board.status().running
        assert np.array_equal(board.infer(frames(5), INTERFACE).values, sums(frames(5)))


def test_a_second_client_is_turned_away_while_the_first_is_there(port: str) -> None:
    with connect(port) as first:
        with pytest.raises(BoardError, match=r"cannot be opened.*another program"):
            connect(port)
        assert first.status().broken == 0
    connect(port).close()


def test_a_wrong_rate_ends_in_an_error_in_time_and_the_right_one_then_works(port: str) -> None:
    start = time.monotonic()
    with pytest.raises(BoardError, match="gave no answer to abort, asked 2 times"):
        SerialBoard(port, baud=115_200, timeout_s=0.5, retries=1)
    assert time.monotonic() - start < 10
    with connect(port) as board:
        assert board.identity.board == "bench"


def test_a_board_that_never_answers_ends_in_an_error_in_time() -> None:
    with Relay(None, lambda way, data: b"") as line:
        start = time.monotonic()
        with pytest.raises(BoardError, match=r"asked 3 times with 0\.3 s of patience; is it"):
            SerialBoard(line.port, baud=BAUD, timeout_s=0.3, retries=2)
        assert 0.9 < time.monotonic() - start < 5


def test_something_else_than_our_board_ends_in_an_error() -> None:
    """A loop-back plug, and a device that sends frames of its own."""

    def echo(way: str, data: bytes) -> bytes:
        os.write(line._host, data + protocol.wrap(b"x"))
        return b""

    with (
        Relay(None, echo) as line,
        pytest.raises(BoardError, match="gave no answer to abort"),
    ):
        SerialBoard(line.port, baud=BAUD, timeout_s=0.3, retries=1)


def test_a_device_that_never_stops_talking_ends_in_an_error_in_time() -> None:
    with Relay(None, lambda way, data: b"") as line:
        over = threading.Event()

        def talk() -> None:
            while not over.wait(0.02):
                os.write(line._host, b"hello\xc0")

        talker = threading.Thread(target=talk)
        talker.start()
        start = time.monotonic()
        with pytest.raises(BoardError, match=r"broken frames came; is 1000000 baud its rate\?"):
            SerialBoard(line.port, baud=BAUD, timeout_s=0.1, retries=1)
        over.set()
        talker.join()
        assert time.monotonic() - start < 10


def test_bytes_without_an_end_are_not_kept_for_ever() -> None:
    unwrapper = protocol.Unwrapper()
    for _ in range(20):
        assert not list(unwrapper.feed(bytes(100_000)))
    assert len(unwrapper._held) <= protocol.LONGEST
    assert unwrapper.broken == 1
    assert list(unwrapper.feed(protocol.wrap(b"next"))) == [b"next"]


def test_a_port_that_is_not_there_is_an_error() -> None:
    with pytest.raises(BoardError, match=r"/dev/nowhere cannot be opened"):
        connect("/dev/nowhere")


def test_a_line_cut_in_the_middle_is_an_error_and_the_next_try_works(port: str) -> None:
    passed = 0

    def spoil(way: str, data: bytes) -> bytes:
        nonlocal passed
        passed += len(data)
        return data if passed < 600 else b""

    with Relay(port, spoil) as line, connect(line.port, timeout_s=0.3, retries=1) as board:
        with pytest.raises(BoardError, match="gave no answer to load"):
            board.infer(frames(MOST), INTERFACE)
        line.cut()
        with pytest.raises(BoardError, match="was lost"):
            board.status()
    with connect(port) as board:
        assert np.array_equal(board.infer(frames(9), INTERFACE).values, sums(frames(9)))


@pytest.mark.parametrize("way_to_spoil", ["to", "from", "both"])
def test_answers_stay_exact_on_a_noisy_line(way_to_spoil: str, port: str) -> None:
    """One byte in 400 is changed, lost or doubled, in one direction or both."""
    rng = random.Random(way_to_spoil)

    def spoil(way: str, data: bytes) -> bytes:
        if way_to_spoil not in (way, "both"):
            return data
        out = bytearray()
        for byte in data:
            fault = rng.random() * 400
            if fault < 0.4:
                byte ^= 1 << rng.randrange(8)
            if fault < 0.7 or fault >= 1:
                out.append(byte)
            if 0.7 <= fault < 1:
                out += bytes([byte, byte])
        return bytes(out)

    values = frames(2 * MOST, 7)
    with Relay(port, spoil) as line, connect(line.port, timeout_s=0.3, retries=20) as board:
        ran = board.infer(values, INTERFACE)
        assert np.array_equal(ran.values, sums(values))
        assert ran.repeated > 0


class Wire:
    """A port with no driver: raw bytes out, replies in."""

    def __init__(self, port: str) -> None:
        self.port = serial.Serial(port, BAUD, timeout=0.02, exclusive=True)
        self.unwrapper = protocol.Unwrapper()

    def replies(self, wanted: int, patience: float = 2.0) -> list[bytes]:
        found: list[bytes] = []
        heard = time.monotonic()
        while len(found) < wanted and time.monotonic() - heard < patience:
            if received := self.port.read(max(1, self.port.in_waiting)):
                heard = time.monotonic()
                found += self.unwrapper.feed(received)
        return found

    def ask(self, body: bytes) -> bytes:
        self.port.write(protocol.wrap(body))
        (reply,) = self.replies(1)
        return reply


def arguments(rng: random.Random, code: int) -> bytes:
    """Return arguments that are often right, and often just not."""
    at = rng.choice([0, 1, 255, 500, 510, 511, 512, 513, 65535, rng.randrange(600)])
    match code:
        case Command.LOAD:
            special = [protocol.END, protocol.ESCAPE, rng.randrange(255)]
            right = struct.pack("<H", at) + bytes(rng.choices(special, k=rng.randrange(40)))
        case Command.RUN:
            count = rng.choice([0, 1, 3, MOST, MOST + 1, 65535])
            right = struct.pack("<HI", count, rng.choice([0, 1, 2]))
        case Command.READ:
            right = struct.pack("<HH", at, rng.choice([0, 1, 2, 12, 513]))
        case _:
            right = b""
    wrong = [right[:-1], right + b"\0", b"", rng.randbytes(rng.randrange(250))]
    return right if rng.random() < 0.8 else rng.choice(wrong)


def test_the_shell_answers_whole_frames_as_its_model_does(port: str) -> None:
    """Right requests, wrong ones and unknown ones, at random: each reply is the model's."""
    rng, model, wire = random.Random(1), Model(), Wire(port)
    for start in range(0, 512, 64):  # memories begin with anything
        wire.ask(bytes([Command.LOAD, 0]) + struct.pack("<H", start) + bytes(128))
        model.reply(bytes([Command.LOAD, 0]) + struct.pack("<H", start) + bytes(128))
    first = bytes([Command.RUN, 0]) + struct.pack("<HI", MOST, 1)
    wire.ask(first)
    model.reply(first)
    codes: list[int] = [*Command] * 4 + [0, 7, 127, 128, 255]
    seen = set()
    for number in range(600):
        code = rng.choice(codes)
        body = bytes([code, number % 256]) + arguments(rng, code)
        reply = wire.ask(body)
        status, data = model.reply(body)
        assert reply[:3] == bytes([code & 0x7F | 0x80, number % 256, status]), (number, body)
        # What no run has written may hold anything.
        told = code != Command.READ or not data or sum(struct.unpack("<HH", body[2:])) <= 2 * MOST
        if data is not None and told:
            assert reply[3:] == data, (number, body)
        seen.add((code, status))
        if code == Command.RUN and status == Answer.DONE:
            while (now := protocol.Status.unpack(wire.ask(bytes([Command.STATUS, 0]))[3:])).running:
                pass
            assert now.answers == model.answers
    assert seen >= {(code, status) for code in (Command.LOAD, Command.RUN, Command.READ)
                    for status in (Answer.DONE, Answer.BAD_LENGTH, Answer.BAD_RANGE)}  # fmt: skip
    wire.port.close()


def broken(rng: random.Random) -> tuple[bytes, bool]:
    """Return bytes that are no frame, and whether the shell must complain of them."""
    body = rng.randbytes(rng.randrange(1, 40))
    wire = protocol.wrap(body)
    match rng.randrange(7):
        case 0:  # a bit of the body or of the CRC
            place = rng.randrange(1, len(wire) - 1)
            changed = wire[place] ^ 1 << rng.randrange(8)
            if changed in (protocol.END, protocol.ESCAPE) or protocol.ESCAPE in wire:
                return b"", False
            return wire[:place] + bytes([changed]) + wire[place + 1 :], True
        case 1:  # cut short
            return wire[: rng.randrange(2, len(wire) - 1)] + bytes([protocol.END]), True
        case 2:  # too short to hold anything
            return bytes([protocol.END]) + body[:4].replace(b"\xc0", b"").replace(b"\xdb", b"") + (
                bytes([1, protocol.END])
            ), True
        case 3:  # too long
            return protocol.wrap(rng.randbytes(257 + rng.randrange(400))), True
        case 4:  # an escape that means nothing
            return bytes([protocol.END, 1, protocol.ESCAPE, 0x11, protocol.END]), True
        case 5:  # an escape without its second byte
            return bytes([protocol.END, 1, 2, protocol.ESCAPE, protocol.END]), True
        case _:  # nothing at all
            return bytes([protocol.END] * rng.randrange(1, 9)), False


def test_after_any_broken_frame_the_next_one_works(port: str) -> None:
    rng, wire, complaints = random.Random(2), Wire(port), 0
    asked = bytes([Command.STATUS, 77])
    for trial in range(250):
        spoilt, complain = broken(rng)
        wire.port.write(spoilt + protocol.wrap(asked))
        found = wire.replies(1 + complain)
        complaints += complain
        wanted = [bytes([protocol.REPLY, 0, Answer.BROKEN])] * complain
        wanted.append(bytes([Command.STATUS | protocol.REPLY, 77, 0]))
        assert [reply[:3] for reply in found] == wanted, (trial, spoilt, found)
    status = protocol.Status.unpack(wire.ask(asked)[3:])
    assert (status.broken, status.dropped) == (complaints, 0)
    assert wire.unwrapper.broken == 0
    wire.port.close()


def test_noise_of_any_kind_never_hangs_the_shell(port: str) -> None:
    """Random bytes, many of them ENDs and ESCAPEs, without a pause for replies."""
    rng, wire = random.Random(3), Wire(port)
    for _ in range(20):
        likely = [protocol.END, protocol.ESCAPE, 0xDC, 0xDD, *range(8)]
        noise = bytes(
            rng.choice(likely) if rng.random() < 0.5 else rng.randrange(256)
            for _ in range(rng.randrange(1, 700))
        )
        wire.port.write(noise + protocol.wrap(bytes([Command.ABORT, 200])))
        found = wire.replies(10_000, patience=0.3)
        assert found[-1] == bytes([Command.ABORT | protocol.REPLY, 200, 0])
    wire.port.close()
    with connect(port) as board:
        assert np.array_equal(board.infer(frames(20), INTERFACE).values, sums(frames(20)))


def test_frames_without_room_are_dropped_and_counted(port: str) -> None:
    """A host that asks for more than the line can answer loses requests, whole ones."""
    wire = Wire(port)
    wire.port.write(protocol.wrap(bytes([Command.IDENTIFY, 1])) * 30)
    found = wire.replies(30, patience=0.5)
    status = protocol.Status.unpack(wire.ask(bytes([Command.STATUS, 2]))[3:])
    assert 0 < status.dropped == 30 - len(found)
    assert status.broken == 0
    wire.port.close()


def test_a_board_that_is_unplugged_is_an_error(built: Built) -> None:
    binary, top = built
    with virtual.VirtualBoard(binary, top) as board, connect(board.port) as driver:
        board.kill()
        with pytest.raises(BoardError, match=r"was lost|gave no answer"):
            driver.infer(frames(5), INTERFACE)


def test_a_virtual_board_ends_with_the_program_that_began_it(built: Built, tmp_path: Path) -> None:
    binary, _ = built
    program = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([{str(binary)!r}, 'clock_hz=5e6', 'seed=0'],\n"
        "    stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    for _ in range(100):
        state = Path(f"/proc/{done.stdout.strip()}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    os.kill(int(done.stdout), 9)
    pytest.fail("the simulation outlived its program")


def test_a_virtual_board_that_cannot_start_says_why(built: Built, tmp_path: Path) -> None:
    fake = tmp_path / "simulator"
    fake.write_text("#!/bin/sh\necho no terminals left >&2\nexit 2\n")
    fake.chmod(0o755)
    with (
        pytest.raises(BuildFailed, match="bench did not start: no terminals left"),
        virtual.VirtualBoard(fake, built[1]),
    ):
        pytest.fail("it started")


def test_a_da4ml_network_on_the_arty_is_exact_at_its_own_rate(tmp_path: Path) -> None:
    """A whole board's top as shipped: 100 MHz, 1 Mbaud, 100 cycles a bit."""
    program = programs.mlp((6, 5, 3))
    top = boardbench.da4ml_top(table.get("arty-a7-100t"), program, tmp_path)
    assert (top.divisor, top.pll) == (100, False)
    binary, _ = virtual.build(top, tmp_path / "virtual", optimize=False)
    values = programs.inputs(program, 60)
    with virtual.VirtualBoard(binary, top) as board, connect(board.port) as driver:
        ran = driver.infer(values, top.interface)
    assert np.array_equal(ran.values, reference.run(program, values))
    assert ran.interval_cycles == 1
    assert board.cycles and board.cycles > 60 * 4 * 10 * 100


def test_a_clock_generator_is_simulated_as_one(tmp_path: Path) -> None:
    (tmp_path / "sums.v").write_text(boardbench.CORE)
    top = boardbench.uart_top(
        table.get("ulx3s-85f"), [tmp_path / "sums.v"], INTERFACE, clock_mhz=100
    )
    assert top.pll and top.divisor == 100
    binary, _ = virtual.build(top, tmp_path / "virtual", optimize=False)
    with virtual.VirtualBoard(binary, top) as board, connect(board.port) as driver:
        assert driver.identity.clock_hz == 100_000_000
        assert np.array_equal(driver.infer(frames(3), INTERFACE).values, sums(frames(3)))
