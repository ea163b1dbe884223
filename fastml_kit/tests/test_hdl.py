"""Our stream modules: each against a Python model under random stalls, and through yosys."""

import itertools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastml_kit.errors import BuildFailed
from fastml_kit.rtl import patches
from fastml_kit.rtl.process import run_logged
from fastml_kit.rtl.synthesize import count
from fastml_kit.tests.hdlbench import Bench, Run

HDL = Path(str(files("fastml_kit.rtl"))) / "hdl"
FINN = Path(str(files("finn"))) / "finn-rtllib"
SOURCES = [path for path in sorted(HDL.glob("kit_*.sv")) if path.stem != "kit_stream_shell"]
STALLS = [(0.0, 0.0), (0.5, 0.5), (0.1, 0.8), (0.8, 0.1)]


def packed(elements: Iterable[int], bits: int) -> int:
    """One word of `elements`, element 0 in the lowest bits, two's complement if negative."""
    return sum((int(x) & ((1 << bits) - 1)) << (bits * i) for i, x in enumerate(elements))


def unpacked(word: int, count: int, bits: int, signed: bool) -> list[int]:
    """The inverse of `packed`."""
    codes = [word >> (bits * i) & ((1 << bits) - 1) for i in range(count)]
    return [x - (1 << bits) if signed and x >> (bits - 1) else x for x in codes]


def codes(bits: int, signed: bool) -> range:
    """Every code of `bits` bits."""
    return range(-(1 << (bits - 1)), 1 << (bits - 1)) if signed else range(1 << bits)


def drawn(
    rng: np.random.Generator, bits: int, signed: bool, size: int | tuple[int, ...]
) -> NDArray[np.int64]:
    span = codes(bits, signed)
    return rng.integers(span.start, span.stop, size=size)


@dataclass(frozen=True)
class Pool:
    pe: int
    bits: int
    signed: bool
    window: int


@dataclass(frozen=True)
class Label:
    pe: int
    bits: int
    signed: bool
    labels: int


@dataclass(frozen=True)
class Core:
    """A matrix-vector core; `words` is how many words its dot products have."""

    pe: int
    simd: int
    w: int
    a: int
    signed: bool
    words: int
    accu: int = 24

    @property
    def latency(self) -> int:
        """The cycles that the module's head announces."""
        groups = -(-self.simd // 8)
        return 3 + (groups - 1).bit_length() + (self.w - 1).bit_length()


# depth, whether in block memory
FIFOS = [(2, 0), (3, 0), (5, 0), (32, 0), (3, 1), (6, 1), (600, 1)]
FIFO_BITS = 13
POOLS = [
    Pool(2, 3, False, 2),
    Pool(2, 3, True, 2),
    Pool(3, 5, True, 9),
    Pool(1, 8, False, 4),
    Pool(1, 1, False, 1),
]
LABELS = [
    Label(1, 2, False, 3),
    Label(2, 2, True, 4),
    Label(5, 6, True, 10),
    Label(3, 4, False, 3),
    Label(1, 7, True, 12),
]
CORES = [
    Core(1, 1, 2, 2, False, 1),
    Core(1, 1, 3, 3, True, 1),
    Core(1, 2, 2, 2, True, 1),
    Core(1, 2, 3, 3, False, 1),
    Core(3, 5, 3, 3, False, 4),
    Core(2, 9, 4, 3, True, 3),
    Core(3, 17, 2, 4, False, 2),
    Core(2, 8, 5, 8, True, 5),
    Core(1, 12, 6, 2, False, 3),
    Core(2, 3, 8, 8, False, 7, accu=20),
]
ADD = {"PE": 3, "BITS0": 3, "SIGNED0": 1, "SHIFT0": 1, "BITS1": 2, "SIGNED1": 0, "SHIFT1": 2}
ADD_BITS = 6
ROMS = [(11, 7, "auto"), (5, 1, "distributed"), (20, 300, "block")]
#: matrix width and height, PE, SIMD: dot products of 1, 4, 24 and 3 cycles, so that many, some or
#: no answers still come after the unit is stopped
UNITS = [(8, 4, 4, 8), (24, 6, 3, 6), (24, 4, 2, 1), (24, 6, 6, 8)]
PARTS = [2, 3, 4, 5]  # of a word, in the width converters
PART_BITS = 5


def rom_words(bits: int, depth: int) -> list[int]:
    return [int(x) for x in drawn(np.random.default_rng(depth), bits, False, depth)]


def mvu_axi(folder: Path) -> Path:
    """FINN's matrix-vector unit, with our core in place of its own."""
    text = (FINN / "mvu" / "mvu_vvu_axi.sv").read_text(encoding="utf-8")
    path = folder / "mvu_vvu_axi.sv"
    path.write_text(patches.apply(path.name, text), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Built:
    bench: Bench
    binary: Path

    def run(
        self,
        words: Mapping[str, Sequence[int]],
        counts: Mapping[str, int],
        stalls: tuple[float, float] = (0.0, 0.0),
        **others: Any,
    ) -> Run:
        return self.bench.run(
            self.binary, words, counts, stall_in=stalls[0], stall_out=stalls[1], **others
        )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """All modules, in one simulator."""
    folder = tmp_path_factory.mktemp("hdl")
    bench = Bench()
    for depth, block in FIFOS:
        name = f"fifo{depth}{'b' * block}"
        bench.instance(
            "kit_fifo",
            {"W": FIFO_BITS, "DEPTH": depth, "BLOCK": block},
            bench.source(name, FIFO_BITS),
            bench.sink(name + "_out", FIFO_BITS),
            f".high_water({bench.probe(depth.bit_length())})",
        )
    for i, p in enumerate(POOLS):
        bench.instance(
            "kit_max_pool",
            {"PE": p.pe, "BITS": p.bits, "SIGNED": int(p.signed), "WINDOW": p.window},
            bench.source(f"pool{i}", p.pe * p.bits),
            bench.sink(f"pool{i}_out", p.pe * p.bits),
        )
    for i, label in enumerate(LABELS):
        parameters = {"PE": label.pe, "BITS": label.bits, "SIGNED": int(label.signed)}
        bench.instance(
            "kit_label_select",
            {**parameters, "LABELS": label.labels, "OUT_BITS": 8},
            bench.source(f"label{i}", label.pe * label.bits),
            bench.sink(f"label{i}_out", 8),
        )
    pe = ADD["PE"]
    bench.instance(
        "kit_add_streams",
        {**ADD, "OUT_BITS": ADD_BITS},
        bench.source("add0", pe * ADD["BITS0"]).replace(".in_", ".in0_"),
        bench.source("add1", pe * ADD["BITS1"]).replace(".in_", ".in1_"),
        bench.sink("add_out", pe * ADD_BITS),
    )
    add_copies(bench)
    for i, (bits, depth, style) in enumerate(ROMS):
        write_hex(folder / f"rom{i}.dat", rom_words(bits, depth))
        rom = {"W": bits, "DEPTH": depth, "INIT_FILE": f'"rom{i}.dat"', "RAM_STYLE": f'"{style}"'}
        bench.instance("kit_rom_stream", rom, bench.sink(f"rom{i}", bits))
    for parts in PARTS:
        given = {"W": PART_BITS, "PARTS": parts}
        ways = (("narrow", parts, 1), ("widen", 1, parts))
        for name, taken, made in ways:
            ports = (bench.source(f"{name}{parts}", taken * PART_BITS),
                     bench.sink(f"{name}{parts}_out", made * PART_BITS))  # fmt: skip
            bench.instance(f"kit_{name}", given, *ports)
    for i, core in enumerate(CORES):
        add_core(bench, i, core)
    for i, unit in enumerate(UNITS):
        add_unit(bench, i, *unit)
    sources = [*SOURCES, mvu_axi(folder)]
    binary = bench.build([*sources, FINN / "mvu" / "replay_buffer.sv"], folder)
    return Built(bench, binary)


def write_hex(path: Path, words: Sequence[int]) -> None:
    path.write_text("".join(f"{word:x}\n" for word in words), encoding="utf-8")


def add_copies(bench: Bench) -> None:
    """A fork to three receivers: its outputs share the word, and are a vector otherwise."""
    sinks = [bench.sink(f"copy{i}", 9) for i in range(3)]
    bench.instances.append(
        "logic [8:0] copied; logic [2:0] copied_valid, copied_ready;\n    "
        "kit_duplicate_streams #(.W(9), .COPIES(3)) fork_ (.clk, .rst, "
        f"{bench.source('copied', 9)}, .out_data(copied), .out_valid(copied_valid), "
        ".out_ready(copied_ready));"
    )
    for i, sink in enumerate(sinks):
        data, valid, ready = (part.split("(")[1].rstrip(")") for part in sink.split(", "))
        bench.instances.append(
            f"assign {data} = copied; assign {valid} = copied_valid[{i}]; "
            f"assign copied_ready[{i}] = {ready};"
        )


def add_core(bench: Bench, i: int, c: Core) -> None:
    """A core has no back-pressure: it takes a word in any cycle, and its answer must be taken."""
    weights, activations = c.pe * c.simd * c.w, c.simd * c.a
    source = bench.source(f"core{i}", 1 + weights + activations)
    data, valid, ready = (part.split("(")[1].rstrip(")") for part in source.split(", "))
    base = data.split("[")[1].split("+:")[0]
    sink = bench.sink(f"core{i}_out", c.pe * c.accu)
    sink = sink.replace(".out_data", ".p").replace(".out_valid", ".vld").split(", .out_ready")[0]
    parameters = {"PE": c.pe, "SIMD": c.simd, "WEIGHT_WIDTH": c.w, "ACTIVATION_WIDTH": c.a}
    parameters |= {"ACCU_WIDTH": c.accu, "SIGNED_ACTIVATIONS": int(c.signed)}
    bench.instance(
        "kit_lut_mvu",
        parameters,
        f".en(1'b1), .zero(!{valid}), .last(in_data[{base}])",
        f".w(in_data[{base}+1+:{weights}]), .a(in_data[{base}+{1 + weights}+:{activations}])",
        sink,
    )
    bench.instances.append(f"assign {ready} = 1'b1;")


def add_unit(bench: Bench, i: int, mw: int, mh: int, pe: int, simd: int) -> None:
    """A whole unit of FINN's, 3-bit weights and activations, with our core."""
    parameters = {"IS_MVU": 1, "VERSION": 0, "MW": mw, "MH": mh, "PE": pe, "SIMD": simd}
    parameters |= {"ACTIVATION_WIDTH": 3, "WEIGHT_WIDTH": 3, "ACCU_WIDTH": 16}
    ports = []
    for name, side, bits in (("input", "in", simd * 3), ("weights", "in", pe * simd * 3)):
        port = bench.source(f"unit{i}_{name}", (bits + 7) // 8 * 8)
        for ours, theirs in {"data": "tdata", "valid": "tvalid", "ready": "tready"}.items():
            port = port.replace(f".{side}_{ours}(", f".s_axis_{name}_{theirs}(")
        ports.append(port)
    port = bench.sink(f"unit{i}_out", pe * 16)
    for ours, theirs in {"data": "tdata", "valid": "tvalid", "ready": "tready"}.items():
        port = port.replace(f".out_{ours}(", f".m_axis_output_{theirs}(")
    clocking = ".ap_clk(clk), .ap_clk2x(1'b0), .ap_rst_n(!rst)"
    bench.instance("mvu_vvu_axi", parameters, *ports, port, clocking=clocking)


# The queue


@pytest.mark.parametrize("stalls", [*STALLS, (0.0, 0.95)])
@pytest.mark.parametrize(("depth", "block"), FIFOS)
def test_a_fifo_keeps_every_word_in_order_and_knows_its_largest_fill(
    built: Built, depth: int, block: int, stalls: tuple[float, float]
) -> None:
    name = f"fifo{depth}{'b' * block}"
    words = rom_words(FIFO_BITS, 1500)
    run = built.run({name: words}, {name + "_out": len(words)}, stalls, seed=depth)
    assert run.words[name + "_out"] == words
    assert run.probe[FIFOS.index((depth, block))] == run.largest_fill(name, name + "_out")


@pytest.mark.parametrize(("depth", "block"), FIFOS)
def test_a_fifo_moves_a_word_in_every_cycle_at_any_depth(
    built: Built, depth: int, block: int
) -> None:
    name = f"fifo{depth}{'b' * block}"
    run = built.run({name: rom_words(FIFO_BITS, 300)}, {name + "_out": 300})
    for stream in (name, name + "_out"):
        assert run.cycles[stream][-1] - run.cycles[stream][0] == 299
    assert run.cycles[name + "_out"][0] - run.cycles[name][0] == 1 + block


@pytest.mark.parametrize(("depth", "block"), FIFOS)
def test_a_fifo_holds_exactly_its_depth(built: Built, depth: int, block: int) -> None:
    name = f"fifo{depth}{'b' * block}"
    run = built.run(
        {name: rom_words(FIFO_BITS, depth)}, {name + "_out": 0}, endless=[name + "_out"]
    )
    assert run.probe[FIFOS.index((depth, block))] == depth
    with pytest.raises(BuildFailed, match="nothing moved"):
        built.run(
            {name: rom_words(FIFO_BITS, depth + 1)}, {name + "_out": 0}, endless=[name + "_out"]
        )


# Width converters


@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("parts", PARTS)
def test_a_word_becomes_its_parts_and_parts_become_a_word(
    built: Built, parts: int, stalls: tuple[float, float]
) -> None:
    narrow = rom_words(PART_BITS, 120 * parts)
    wide = [packed(narrow[at : at + parts], PART_BITS) for at in range(0, len(narrow), parts)]
    for name, taken, made in (("narrow", wide, narrow), ("widen", narrow, wide)):
        stream = f"{name}{parts}"
        run = built.run({stream: taken}, {f"{stream}_out": len(made)}, stalls, seed=parts)
        assert run.words[f"{stream}_out"] == made
        if stalls == (0.0, 0.0):  # a part in every cycle, and no more cycles than needed
            first, last = run.cycles[stream], run.cycles[f"{stream}_out"]
            parted = last if name == "narrow" else first
            assert np.ptp(parted) == len(narrow) - 1
            late = parts - 1 if name == "narrow" else -1  # taken with its last part, given after
            assert first[0 if name == "narrow" else parts - 1] - last[0] == late


# FINN's nodes


@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("i", range(len(POOLS)))
def test_max_pool_gives_each_channels_largest(
    built: Built, i: int, stalls: tuple[float, float]
) -> None:
    p = POOLS[i]
    rng = np.random.default_rng(i)
    if p.window == 2:  # every pair of codes, in every channel, at its own time
        pairs = np.array(list(itertools.product(codes(p.bits, p.signed), repeat=2)))
        x = np.stack([rng.permutation(pairs) for _ in range(p.pe)], axis=-1)
    else:
        x = drawn(rng, p.bits, p.signed, (100, p.window, p.pe))
    words = [packed(row, p.bits) for row in x.reshape(-1, p.pe)]
    run = built.run({f"pool{i}": words}, {f"pool{i}_out": len(x)}, stalls, seed=i)
    got = [unpacked(word, p.pe, p.bits, p.signed) for word in run.words[f"pool{i}_out"]]
    np.testing.assert_array_equal(got, x.max(axis=1))
    if stalls == (0.0, 0.0):
        assert np.ptp(run.cycles[f"pool{i}"]) == len(words) - 1


@pytest.mark.parametrize("stalls", STALLS)
def test_add_streams_adds_every_pair_of_codes(built: Built, stalls: tuple[float, float]) -> None:
    pe = ADD["PE"]
    pairs = np.array(list(itertools.product(codes(ADD["BITS0"], True), codes(ADD["BITS1"], False))))
    rng = np.random.default_rng(5)
    x = np.stack([rng.permutation(pairs) for _ in range(pe)], axis=-1)
    words = {
        "add0": [packed(row, ADD["BITS0"]) for row in x[:, 0]],
        "add1": [packed(row, ADD["BITS1"]) for row in x[:, 1]],
    }
    run = built.run(words, {"add_out": len(x)}, stalls, seed=3)
    got = [unpacked(word, pe, ADD_BITS, True) for word in run.words["add_out"]]
    np.testing.assert_array_equal(got, (x[:, 0] << ADD["SHIFT0"]) + (x[:, 1] << ADD["SHIFT1"]))
    if stalls == (0.0, 0.0):
        assert np.ptp(run.cycles["add_out"]) == len(x) - 1


@pytest.mark.parametrize("stalls", STALLS)
def test_duplicate_streams_gives_each_receiver_every_word_once(
    built: Built, stalls: tuple[float, float]
) -> None:
    words = rom_words(9, 400)
    counts = {f"copy{i}": len(words) for i in range(3)}
    run = built.run({"copied": words}, counts, stalls, seed=11)
    for name in counts:
        assert run.words[name] == words
    if stalls == (0.0, 0.0):
        assert np.ptp(run.cycles["copied"]) == len(words) - 1


def test_a_receiver_of_a_copy_does_not_wait_for_the_others(built: Built) -> None:
    counts = {"copy0": 1, "copy1": 0, "copy2": 1}
    run = built.run({"copied": []}, {"copy1": 0}, endless=["copy1"])
    assert not any(run.words[name] for name in counts)
    with pytest.raises(BuildFailed, match="out"):  # the input stays, and so the run never ends
        built.run({"copied": [7]}, counts, endless=["copy1"])
    log = (built.binary.parent.parent / "run.log").read_text(encoding="utf-8").splitlines()
    first = list(built.bench.outputs).index("copy0")
    assert [line for line in log if line.startswith("out")][first : first + 3] == [
        f"out {first}: 1 of 1",
        f"out {first + 1}: 0 of 0",
        f"out {first + 2}: 1 of 1",
    ]


@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("i", range(len(LABELS)))
def test_label_select_is_argmax_and_takes_the_first_among_equals(
    built: Built, i: int, stalls: tuple[float, float]
) -> None:
    label = LABELS[i]
    if label.bits == 2:  # every frame there is
        x = np.array(list(itertools.product(codes(2, label.signed), repeat=label.labels)))
    else:
        rng = np.random.default_rng(i)
        x = drawn(rng, label.bits, label.signed, (200, label.labels))
        x[::2] >>= label.bits - 3  # few values, so that many are equal
    words = [packed(row, label.bits) for row in x.reshape(-1, label.pe)]
    run = built.run({f"label{i}": words}, {f"label{i}_out": len(x)}, stalls, seed=i)
    np.testing.assert_array_equal(run.words[f"label{i}_out"], x.argmax(axis=1))
    if stalls == (0.0, 0.0):
        assert np.ptp(run.cycles[f"label{i}"]) == len(words) - 1


# Weights


@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("i", range(len(ROMS)))
def test_a_rom_stream_repeats_its_file_from_word_0(
    built: Built, i: int, stalls: tuple[float, float]
) -> None:
    bits, depth, _ = ROMS[i]
    words = rom_words(bits, depth)
    count = 3 * depth + 50
    run = built.run({}, {f"rom{i}": count}, stalls, endless=[f"rom{i}"], seed=i)
    assert run.words[f"rom{i}"] == [words[k % depth] for k in range(count)]
    if not stalls[1]:
        assert np.ptp(run.cycles[f"rom{i}"]) == count - 1


# The matrix-vector core


def core_case(c: Core) -> tuple[list[int], NDArray[np.int64], NDArray[np.int64]]:
    """The core's words, and its weights (dots, words, pe, simd) and activations."""
    rng = np.random.default_rng(c.simd)
    if c.simd * (c.w + c.a) <= 12:  # every pair of vectors
        every = [codes(c.w, True)] * c.simd + [codes(c.a, c.signed)] * c.simd
        both = rng.permutation(np.array(list(itertools.product(*every))))
        w, a = both[:, None, None, : c.simd], both[:, None, c.simd :]
    else:
        w = drawn(rng, c.w, True, (150, c.words, c.pe, c.simd))
        a = drawn(rng, c.a, c.signed, (150, c.words, c.simd))
        w[0], a[0] = -(1 << (c.w - 1)), codes(c.a, c.signed)[-1]  # the largest sums there are
        w[1], a[1] = -(1 << (c.w - 1)), codes(c.a, c.signed)[0]
        w[2], a[2] = (1 << (c.w - 1)) - 1, codes(c.a, c.signed)[-1]
    words = [
        int(k == c.words - 1)
        | packed(w[d, k].ravel(), c.w) << 1
        | packed(a[d, k], c.a) << (1 + c.pe * c.simd * c.w)
        for d in range(len(w))
        for k in range(c.words)
    ]
    return words, w, a


@pytest.mark.parametrize("stall", [0.0, 0.6])
@pytest.mark.parametrize("i", range(len(CORES)))
def test_the_lut_core_gives_the_dot_products(built: Built, i: int, stall: float) -> None:
    c = CORES[i]
    words, w, a = core_case(c)
    name = f"core{i}"
    run = built.run(
        {name: words}, {name + "_out": len(w)}, (stall, 0.0), never_stalled=[name + "_out"], seed=i
    )
    got = [unpacked(word, c.pe, c.accu, True) for word in run.words[name + "_out"]]
    half = 1 << (c.accu - 1)  # the last core's accumulator is too narrow for some, and wraps
    np.testing.assert_array_equal(got, (np.einsum("dkps,dks->dp", w, a) + half) % (2 * half) - half)
    ends = run.cycles[name][c.words - 1 :: c.words]
    assert set(run.cycles[name + "_out"] - ends) == {c.latency}


@pytest.mark.parametrize("stalls", [*STALLS, (0.0, 0.5), (0.0, 0.97)])
@pytest.mark.parametrize("i", range(len(UNITS)))
def test_finns_matrix_vector_unit_runs_on_our_core_under_back_pressure(
    built: Built, i: int, stalls: tuple[float, float]
) -> None:
    mw, mh, pe, simd = UNITS[i]
    rng = np.random.default_rng(i)
    vectors = 60
    w = drawn(rng, 3, True, (mh // pe, pe, mw // simd, simd)).transpose(0, 2, 1, 3)
    a = drawn(rng, 3, False, (vectors, mw))
    words = {
        f"unit{i}_input": [packed(row, 3) for row in a.reshape(-1, simd)],
        f"unit{i}_weights": [
            packed(w[nf, sf].ravel(), 3)
            for _ in range(vectors)
            for nf in range(mh // pe)
            for sf in range(mw // simd)
        ],
    }
    count = vectors * mh // pe
    run = built.run(words, {f"unit{i}_out": count}, stalls, seed=i)
    got = [unpacked(word, pe, 16, True) for word in run.words[f"unit{i}_out"]]
    matrix = w.transpose(0, 2, 1, 3).reshape(mh, mw)
    np.testing.assert_array_equal(np.reshape(got, (vectors, mh)), a @ matrix.T)
    if stalls == (0.0, 0.0):
        span = np.ptp(run.cycles[f"unit{i}_weights"])
        assert span == len(words[f"unit{i}_weights"]) - 1  # it never waits for itself


# Synthesis

#: name -> top module and its parameters
MAPPED: dict[str, tuple[str, dict[str, int | str]]] = {
    "fifo of 32": ("kit_fifo", {"W": 8, "DEPTH": 32}),
    "fifo of 1024": ("kit_fifo", {"W": 18, "DEPTH": 1024}),
    "pool": ("kit_max_pool", {"PE": 2, "BITS": 3, "WINDOW": 4}),
    "add": ("kit_add_streams", {"PE": 2, "BITS0": 4, "BITS1": 4, "OUT_BITS": 5}),
    "duplicate": ("kit_duplicate_streams", {"W": 8, "COPIES": 2}),
    "label": ("kit_label_select", {"PE": 2, "BITS": 4, "LABELS": 10}),
    "rom": ("kit_rom_stream", {"W": 36, "DEPTH": 512, "INIT_FILE": '"rom.dat"'}),
    "narrow": ("kit_narrow", {"W": 24, "PARTS": 4}),
    "widen": ("kit_widen", {"W": 24, "PARTS": 4}),
    "answers": ("kit_mvu_queue", {"W": 96, "IN_FLIGHT": 8, "WORDS": 9}),
    "more answers": ("kit_mvu_queue", {"W": 96, "IN_FLIGHT": 8, "WORDS": 2}),
    "core": (
        "kit_lut_mvu",
        {"PE": 2, "SIMD": 8, "WEIGHT_WIDTH": 3, "ACTIVATION_WIDTH": 3, "ACCU_WIDTH": 12},
    ),
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """What yosys maps each module to on xc7, read by its slang front end."""
    folder = tmp_path_factory.mktemp("yosys")
    write_roms(folder)
    return {name: synthesized(folder, name) for name in MAPPED}


def write_roms(folder: Path) -> None:
    write_hex(folder / "rom.dat", rom_words(36, 512))


def reading(name: str) -> list[str]:
    """The passes that read a module and check it, before anything is mapped."""
    top, parameters = MAPPED[name]
    given = " ".join(f"-G {key}={value}" for key, value in parameters.items())
    sources = " ".join(str(path) for path in SOURCES)
    return [
        f"read_slang --top {top} {given} {sources}",
        f"hierarchy -check -top {top}",
        "proc",
        "check -assert",
        "select -assert-none t:$dlatch t:$adlatch t:$dlatchsr",
    ]


def yosys(folder: Path, *passes: str) -> None:
    """Run `passes` in a process of its own, which yosys leaves full of what it read."""
    program = (
        "from pyosys import libyosys as yosys\n"
        "design = yosys.Design()\n"
        f"for line in {passes!r}:\n"
        "    yosys.run_pass(line, design)\n"
    )
    run_logged([sys.executable, "-c", program], folder=folder, log=folder / "yosys.log")


def synthesized(folder: Path, name: str) -> dict[str, int]:
    """Map a module of the table, and return its cells."""
    yosys(
        folder,
        *reading(name),
        f"synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -abc9 -top {MAPPED[name][0]}",
        "check -assert",
        "tee -q -o cells.json stat -json",
    )
    report = json.loads((folder / "cells.json").read_text(encoding="utf-8"))
    found: dict[str, int] = report["design"]["num_cells_by_type"]
    return found


def test_yosys_reads_every_module_and_infers_no_latch(tmp_path: Path) -> None:
    write_roms(tmp_path)
    yosys(tmp_path, *(line for name in MAPPED for line in (*reading(name), "design -reset")))


def test_a_queue_of_32_bytes_takes_lut_memory_and_not_256_flip_flops(tmp_path: Path) -> None:
    found = synthesized(tmp_path, "fifo of 32")
    used = count(found, "xc7")
    assert used.bram36 == 0
    assert used.ff is not None
    assert used.ff < 32  # addresses and counters, of 5 and 6 bits
    assert {"RAM32M", "RAM32X1D"} & set(found)


@pytest.mark.slow
def test_every_module_synthesizes_to_cells_that_we_count_and_none_is_a_latch(
    cells: dict[str, dict[str, int]],
) -> None:
    for name, found in cells.items():
        assert count(found, "xc7").dsp == 0, name
        assert not {"LDCE", "LDPE"} & set(found), name


@pytest.mark.slow
def test_a_large_fifo_is_block_memory(cells: dict[str, dict[str, int]]) -> None:
    assert count(cells["fifo of 1024"], "xc7").bram36 == 0.5


@pytest.mark.slow
def test_weights_are_a_memory_and_its_output_register(cells: dict[str, dict[str, int]]) -> None:
    assert count(cells["rom"], "xc7").bram36 == 0.5
    assert count(cells["rom"], "xc7").ff == 9 + 1  # the address, and valid


@pytest.mark.slow
def test_the_core_needs_no_dsp_block_and_few_luts(cells: dict[str, dict[str, int]]) -> None:
    used = count(cells["core"], "xc7")
    assert used.dsp == 0
    assert used.lut is not None
    assert used.lut < 15 * 2 * 8  # a table a product and an adder tree take 19 a product
