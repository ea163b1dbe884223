"""Stream simulation: exact under stalls, measured, and every broken promise is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastml_kit.backends.base import BuildRequest, BuildResult
from fastml_kit.backends.da4ml_backend import Da4mlBackend, plan_program
from fastml_kit.errors import BadRequest, BuildFailed
from fastml_kit.graph import reference
from fastml_kit.graph.program import Program
from fastml_kit.rtl import shell, stream
from fastml_kit.tests.programs import inputs, mlp

#: A FIFO whose depth is an input, with the monitors that a stitched design brings.
FIFO = """
module fifo #(parameter W = 16) (
    input clk, input rst, input [3:0] depth,
    input [W-1:0] in_data, input in_valid, output in_ready,
    output [W-1:0] out_data, output out_valid, input out_ready,
    output reg [15:0] high_water, output [1:0] blocked
);
    reg [W-1:0] store[0:15];
    reg [3:0] head, tail;
    reg [4:0] fill;
    assign in_ready = fill < depth;
    assign out_valid = fill != 0;
    assign out_data = store[tail];
    assign blocked = {out_valid && !out_ready, in_valid && !in_ready};
    wire [4:0] next = fill + (in_valid && in_ready) - (out_valid && out_ready);
    always @(posedge clk)
        if (rst) {head, tail, fill, high_water} <= 0;
        else begin
            if (in_valid && in_ready) begin store[head] <= in_data; head <= head + 1; end
            if (out_valid && out_ready) tail <= tail + 1;
            fill <= next;
            if (next > high_water) high_water <= next;
        end
endmodule
"""

PORTS = """
    input clk, input rst, input [15:0] in_data, input in_valid, output in_ready,
    output [15:0] out_data, output out_valid, input out_ready,
"""

#: Sums three lanes over the four words of a frame, and gives the sums and their total in two words.
#: The fourth lane says what is wrong with the design; it is there in the noise between words too.
SUMS = f"""
module sums ({PORTS} output [15:0] high_water, output [1:0] blocked);
    wire [3:0] fault = in_data[15:12];
    wire [15:0] word;
    wire valid, ready, space;
    reg [3:0] count, taken;
    reg signed [7:0] a, b, c;
    reg second, waited;
    assign in_ready = space && fault != 5;
    fifo queue (
        .clk(clk), .rst(rst), .depth(4'd4), .in_data(in_data), .in_ready(space),
        .in_valid(in_valid && fault != 5 && !(fault == 1 && taken == 9)),
        .out_data(word), .out_valid(valid), .out_ready(ready),
        .high_water(high_water), .blocked(blocked)
    );
    assign ready = count < 4;
    wire full = count == 4 && fault != 4;
    assign out_valid = full && !(fault == 2 && waited) || fault == 6 && !rst;
    assign out_data = (second ? {{8'(a + b + c), c}} : {{b, a}}) ^ (fault == 3 && waited);
    always @(posedge clk) begin
        waited <= out_valid && !out_ready;
        if (rst) {{count, second, a, b, c, taken}} <= 0;
        else begin
            if (in_valid && in_ready) taken <= taken + 1;
            if (valid && ready) begin
                count <= count + 1;
                a <= a + $signed(word[3:0]);
                b <= b + $signed(word[7:4]);
                c <= c + $signed(word[11:8]);
            end
            if (out_valid && out_ready) begin
                second <= !second;
                if (second) {{count, a, b, c}} <= 0;
                if (second && fault == 7) second <= 1;
            end
            if (fault == 7 && second && count < 4) second <= 0;
            if (fault == -4'd1 && taken == 9) $finish;
        end
    end
endmodule
"""
RIGHT, LOSES, DROPS, CHANGES, NEVER, DEAF, EARLY = range(7)
FINISHES = -1


def side(words: int, elements: int, bits: int, frac: int, shape: list[int]) -> dict[str, Any]:
    return {
        "word_bits": elements * bits,
        "words": words,
        "elements": elements,
        "element_bits": bits,
        "signed": True,
        "frac": frac,
        "shape": shape,
    }


#: Codes of half units: a frame is 4 words of 4 lanes, and its answer 2 words of 2 sums.
INTERFACE: dict[str, Any] = {
    "top": "sums",
    "input": side(4, 4, 4, 1, [4, 4]),
    "output": side(2, 2, 8, 1, [2, 2]),
    "fifos": ["queue"],
}


def questions(samples: int, fault: int, seed: int = 0) -> np.ndarray:
    codes = np.random.default_rng(seed).integers(-8, 8, (samples, 4, 4))
    codes[:, :, 3] = fault
    return codes / 2


def sums(values: np.ndarray) -> np.ndarray:
    lanes = values[:, :, :3].sum(axis=1)
    return np.column_stack([lanes, lanes.sum(axis=1)]).reshape(-1, 2, 2)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sums")
    (folder / "sums.sv").write_text(FIFO + SUMS)
    return stream.build([folder / "sums.sv"], "sums", folder, trace=True)[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.7), (0.3, 0.3), (0.95, 0.95)])
def test_values_are_exact_under_every_mixture_of_stalls(
    binary: Path, stalls: tuple[float, float], seed: int
) -> None:
    values = questions(60, RIGHT, seed)
    ran = stream.run(
        binary,
        INTERFACE,
        values,
        binary.parent,
        stall_in=stalls[0],
        stall_out=stalls[1],
        seed=seed,
        single=seed == 3,
    )
    np.testing.assert_array_equal(ran.values, sums(values))


def test_a_continuous_stream_has_the_known_latency_and_interval(binary: Path) -> None:
    ran = stream.run(binary, INTERFACE, questions(50, RIGHT), binary.parent)
    # A frame: four words into the accumulators, then two out of them; one cycle in the FIFO.
    assert ran.latencies[0] == 6
    assert ran.interval_cycles == ran.interval_min == 6
    assert (ran.intervals == 6).all() and len(ran.intervals) == 49
    assert ran.cycles == 50 * 6 + 1
    assert ran.high_water == {"queue": 4}
    # Once the FIFO is full, a frame's first word waits there while others are summed up.
    assert ran.latency_cycles == ran.latencies.max() > 6


def test_one_frame_at_a_time_shows_the_latency_of_the_design_itself(binary: Path) -> None:
    ran = stream.run(binary, INTERFACE, questions(50, RIGHT), binary.parent, single=True)
    assert (ran.latencies == 6).all() and ran.latency_cycles == 6
    assert (ran.intervals == 7).all()  # the next frame starts the cycle after
    assert ran.high_water == {"queue": 1}


def test_a_single_sample_has_a_latency_but_no_interval(binary: Path) -> None:
    ran = stream.run(binary, INTERFACE, questions(1, RIGHT), binary.parent)
    assert (ran.latency_cycles, ran.interval_cycles, ran.interval_min) == (6, None, None)


def test_stalls_on_the_two_sides_are_drawn_independently_and_by_seed(binary: Path) -> None:
    def cycles(**stalls: Any) -> list[int]:
        values = questions(40, RIGHT)
        return stream.run(binary, INTERFACE, values, binary.parent, **stalls).latencies.tolist()

    both = cycles(stall_in=0.5, stall_out=0.5, seed=1)
    assert both == cycles(stall_in=0.5, stall_out=0.5, seed=1)
    assert both != cycles(stall_in=0.5, stall_out=0.5, seed=2)
    assert both not in (cycles(stall_in=0.5, seed=1), cycles(stall_out=0.5, seed=1))


def test_order_says_where_in_the_stream_an_element_lies(binary: Path) -> None:
    rng = np.random.default_rng(3)
    order = np.concatenate([rng.permutation([i for i in range(16) if i % 4 < 3]), range(3, 16, 4)])
    streamed = questions(30, RIGHT)
    values = streamed.reshape(30, 16)[:, order]
    sides = {"input": INTERFACE["input"] | {"shape": [16]}}
    answer = {"output": INTERFACE["output"] | {"order": [2, 0, 3, 1]}}
    want = sums(streamed).reshape(30, 4)[:, [2, 0, 3, 1]].reshape(30, 2, 2)
    for given_at in (
        {"input": sides["input"] | {"order": order.tolist()}},
        sides | {"order": order.tolist()},
    ):
        ran = stream.run(binary, INTERFACE | answer | given_at, values, binary.parent)
        np.testing.assert_array_equal(ran.values, want)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (LOSES, r"stuck: nothing moved for \d+ cycles, after 80 of 80 .* word was lost"),
        (DROPS, "out_valid fell in cycle"),
        (CHANGES, "out_data changed in cycle"),
        (NEVER, r"and 0 of 40 output .* FIFO 'queue' of depth 4 is full .* raise its depth"),
        (DEAF, r"after 0 of 80 .*in_ready stays low, and no watched FIFO is full"),
        (EARLY, r"an answer came in cycle \d+ before its frame's first word"),
        (FINISHES, r"called \$finish in cycle"),
    ],
)
def test_a_faulty_design_is_named_by_its_fault(binary: Path, fault: int, reason: str) -> None:
    with pytest.raises(BuildFailed, match=reason):
        stream.run(
            binary, INTERFACE, questions(20, fault), binary.parent, stall_out=0.3, patience=500
        )


def test_a_design_with_more_words_a_frame_than_the_interface_says_gives_too_many(
    binary: Path,
) -> None:
    short = INTERFACE | {"output": side(1, 2, 8, 1, [2])}
    with pytest.raises(BuildFailed, match=r"(too many|before its frame's first word)"):
        stream.run(binary, short, questions(1, RIGHT), binary.parent)
    assert "too many" in (binary.parent / "bench.json").read_text()


def test_the_first_cycles_are_kept_for_a_figure_and_for_a_wave_viewer(binary: Path) -> None:
    folder = binary.parent / "traced"
    ran = stream.run(
        binary,
        INTERFACE,
        questions(40, RIGHT),
        folder,
        stall_in=0.2,
        stall_out=0.2,
        trace_cycles=90,
    )
    seen = stream.handshakes(folder / "handshakes.csv", ["queue"])
    assert list(seen["cycle"]) == list(range(90))
    taken = np.flatnonzero(seen["in_valid"] & seen["in_ready"])
    given_out = np.flatnonzero(seen["out_valid"] & seen["out_ready"])
    first = len(given_out) // 2
    np.testing.assert_array_equal(
        given_out[1 : 2 * first : 2] - taken[::4][:first], ran.latencies[:first]
    )
    np.testing.assert_array_equal(seen["queue full"], seen["in_valid"] & (1 - seen["in_ready"]))
    waves = (folder / "waves.vcd").read_text()
    assert " in_valid " in waves and " fill " in waves
    assert waves.count("#") < 250 and len(waves) < 50_000
    with pytest.raises(BadRequest, match="watches 1 FIFOs, not 2"):
        stream.handshakes(folder / "handshakes.csv", ["queue", "other"])


def test_a_design_without_the_monitors_that_the_interface_names_is_refused(binary: Path) -> None:
    many = INTERFACE | {"fifos": ["queue", "other", "third"]}
    with pytest.raises(BuildFailed, match="the interface names 3 FIFOs; high_water or blocked"):
        stream.run(binary, many, questions(1, RIGHT), binary.parent)


#: A fork whose one branch keeps six words before it gives any back, and a join that adds both: the
#: skip FIFO must hold what the branch keeps. Its depth is the highest nibble of every word.
FORKED = f"""
module forked ({PORTS} output [31:0] high_water, output [3:0] blocked);
    wire [15:0] word, skipped;
    wire valid, ready, skip_ready, skip_valid;
    fifo entry (
        .clk(clk), .rst(rst), .depth(4'd3), .in_data(in_data), .in_valid(in_valid),
        .in_ready(in_ready), .out_data(word), .out_valid(valid), .out_ready(ready),
        .high_water(high_water[15:0]), .blocked(blocked[1:0])
    );
    reg [15:0] kept[0:5];
    reg [2:0] fill, at;
    reg giving;
    wire join_now = giving && skip_valid && out_ready;
    assign ready = skip_ready && !giving;  // the fork: into both branches, or into none
    fifo skip (
        .clk(clk), .rst(rst), .depth(in_data[15:12]), .in_data(word),
        .in_valid(valid && !giving), .in_ready(skip_ready), .out_data(skipped),
        .out_valid(skip_valid), .out_ready(giving && out_ready),
        .high_water(high_water[31:16]), .blocked(blocked[3:2])
    );
    assign out_valid = giving && skip_valid;
    assign out_data = {{4'd0, 12'(kept[at][11:0] + skipped[11:0])}};
    always @(posedge clk)
        if (rst) {{fill, at, giving}} <= 0;
        else if (!giving && valid && ready) begin
            kept[fill] <= word;
            fill <= fill + 1;
            if (fill == 5) giving <= 1;
        end else if (join_now) begin
            at <= at + 1;
            if (at == 5) {{fill, at, giving}} <= 0;
        end
endmodule
"""
FORKED_INTERFACE: dict[str, Any] = {
    "top": "forked",
    "input": side(6, 4, 4, 0, [6, 4]) | {"signed": False},
    "output": side(6, 1, 16, 0, [6]) | {"signed": False},
    "fifos": ["entry", "skip"],
}


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forked")
    (folder / "forked.sv").write_text(FIFO + FORKED)
    return stream.build([folder / "forked.sv"], "forked", folder)[0]


def ask(binary: Path, depth: int, **stalls: Any) -> tuple[np.ndarray, stream.StreamSimulation]:
    values = np.random.default_rng(0).integers(0, 16, (30, 6, 4))
    values[:, :, 3] = depth
    want = 2 * (values[:, :, :3] @ (1, 16, 256)) % 4096
    return want, stream.run(binary, FORKED_INTERFACE, values, binary.parent, **stalls)


@pytest.mark.parametrize("depth", [2, 5])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_a_skip_fifo_that_is_too_shallow_is_named(forked: Path, depth: int, stall: float) -> None:
    with pytest.raises(
        BuildFailed,
        match=rf"Deadlock: FIFO 'skip' of depth {depth} is full .*behind it 'entry'.*raise its",
    ):
        ask(forked, depth, stall_in=stall, stall_out=stall)


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_a_skip_fifo_that_is_deep_enough_shows_how_deep_it_must_be(
    forked: Path, stall: float
) -> None:
    want, ran = ask(forked, 9, stall_in=stall, stall_out=stall)
    np.testing.assert_array_equal(ran.values, want)
    assert ran.high_water["skip"] == 6


@pytest.fixture(scope="module")
def shelled(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Program, BuildResult, dict[str, Any], Path]:
    """A da4ml design of several pipeline stages in its shell, compiled."""
    folder = tmp_path_factory.mktemp("shelled")
    program = mlp((6, 5, 3))
    plan = plan_program(program, Path(__file__), BuildRequest(latency_cutoff=2))
    design = Da4mlBackend().build(plan, folder, until="rtl")
    interface = shell.shell_interface(design.interface)
    built, _ = stream.build(
        in_shell(design.sources, design.interface, folder), interface["top"], folder
    )
    return program, design, interface, built


def in_shell(sources: Any, interface: Any, folder: Path) -> list[Path]:
    top = folder / "shell_top.sv"
    top.write_text(shell.shell(interface))
    return [*sources, Path(stream.__file__).parent / "hdl" / "kit_stream_shell.sv", top]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.4, 0.0), (0.0, 0.4), (0.5, 0.9), (0.9, 0.5)])
def test_a_pipeline_in_its_shell_is_exact_under_back_pressure(
    shelled: tuple[Program, BuildResult, dict[str, Any], Path],
    stalls: tuple[float, float],
    single: bool,
) -> None:
    program, _, interface, built = shelled
    values = inputs(program, samples=200)
    ran = stream.run(
        built,
        interface,
        values,
        built.parent,
        stall_in=stalls[0],
        stall_out=stalls[1],
        single=single,
    )
    np.testing.assert_array_equal(ran.values, reference.run(program, values))


def test_the_shell_takes_a_word_a_cycle_and_adds_one_cycle_of_latency(
    shelled: tuple[Program, BuildResult, dict[str, Any], Path],
) -> None:
    program, design, interface, built = shelled
    ran = stream.run(built, interface, inputs(program, 200), built.parent)
    assert (ran.latencies == design.interface["latency_cycles"] + 1).all()
    assert (ran.intervals == 1).all()
    assert ran.high_water == {"answers": 1}


def test_the_queue_of_the_shell_fills_to_its_last_place_and_loses_nothing(
    shelled: tuple[Program, BuildResult, dict[str, Any], Path],
) -> None:
    program, design, interface, built = shelled
    values = inputs(program, 300)
    ran = stream.run(built, interface, values, built.parent, stall_out=0.95)
    assert ran.high_water == {"answers": design.interface["latency_cycles"] + 2}
    np.testing.assert_array_equal(ran.values, reference.run(program, values))


#: Adds a table's entry in three cycles; reads the table and a width from files of its own.
LOOKUP = """
`include "width.vh"
module lookup (
    input clk, input rst, input valid_in, input [`WIDTH-1:0] data_in,
    output valid_out, output reg [`WIDTH-1:0] data_out
);
    reg [`WIDTH-1:0] table_[0:7];
    initial $readmemh("table.hex", table_);
    reg [2:0] valid;
    reg [`WIDTH-1:0] first, second;
    always @(posedge clk) begin
        valid <= rst ? 3'b0 : {valid, valid_in};
        first <= data_in;
        second <= first + table_[first[2:0]];
        data_out <= second;
    end
    assign valid_out = valid[2];
endmodule
"""


@pytest.mark.slow
def test_files_that_a_design_includes_and_reads_are_found(tmp_path: Path) -> None:
    """A shell that is told too short a latency is slower, and still exact."""
    headers, data = tmp_path / "headers", tmp_path / "data"
    headers.mkdir()
    data.mkdir()
    table = np.random.default_rng(1).integers(0, 1 << 11, 8)
    (headers / "width.vh").write_text("`define WIDTH 11\n")
    (data / "table.hex").write_text("".join(f"{entry:x}\n" for entry in table))
    (tmp_path / "lookup.sv").write_text(LOOKUP)
    port = {"bits": 11, "shape": [1], "offset": [0], "width": [11], "frac": [0], "signed": [False]}
    pipeline = {"top": "lookup", "latency_cycles": 1, "input": port, "output": port}
    values = np.random.default_rng(2).integers(0, 1 << 11, (100, 1))
    ran = stream.simulate(
        in_shell([tmp_path / "lookup.sv"], pipeline, tmp_path),
        "lookup_stream",
        shell.shell_interface(pipeline),
        values,
        tmp_path / "run",
        stall_in=0.1,
        stall_out=0.1,
        include=[headers],
        data_files=[data / "table.hex"],
    )
    np.testing.assert_array_equal(ran.values, (values + table[values % 8]) % (1 << 11))
    ran = stream.run(ran.binary, shell.shell_interface(pipeline), values, tmp_path / "run")
    np.testing.assert_array_equal(ran.values, (values + table[values % 8]) % (1 << 11))
    assert ran.interval_cycles is not None and 1 < ran.interval_cycles < 3
    (tmp_path / "table.hex").write_text("0\n")
    files = [data / "table.hex", tmp_path / "table.hex"]
    with pytest.raises(BadRequest, match="two data files have one name"):
        stream.run(
            ran.binary,
            shell.shell_interface(pipeline),
            values,
            tmp_path / "run",
            data_files=files,
        )


@given(
    words=st.integers(1, 4),
    elements=st.integers(1, 5),
    bits=st.integers(1, 21),
    spare=st.integers(0, 9),
    frac=st.integers(-3, 6),
    signed=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_frame_lies_in_its_words_as_the_interface_says(
    words: int, elements: int, bits: int, spare: int, frac: int, signed: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    count = words * elements
    low = -(1 << (bits - 1)) if signed else 0
    codes = rng.integers(low, low + (1 << bits), (3, count))
    order = rng.permutation(count)
    one_side = side(words, elements, bits, frac, [count])
    one_side |= {"signed": signed, "order": order.tolist()}
    one_side["word_bits"] += spare
    layout, many = stream.frame({"output": one_side}, "output")
    assert many == words
    values = codes * 2.0**-frac
    packed = layout.pack(values)
    np.testing.assert_array_equal(layout.unpack(packed), values)
    size = -(-one_side["word_bits"] // 8)
    for sample in range(3):
        streamed = np.empty(count, dtype=int)
        streamed[order] = codes[sample]
        want = [
            sum(
                (int(code) % (1 << bits)) << (k * bits)
                for k, code in enumerate(streamed[word * elements : (word + 1) * elements])
            ).to_bytes(size, "little")
            for word in range(words)
        ]
        assert packed[sample].tobytes() == b"".join(want)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"words": 3}, r"input: 3 words of 16 bits.* 16 elements of shape \(4, 4\)"),
        ({"word_bits": 15}, "4 words of 15 bits, each with 4 elements of 4 bits, cannot"),
        ({"order": [0] * 16}, "order must name each of 16 positions"),
        ({"order": [0, 1]}, "order must name each of 16 positions"),
    ],
)
def test_an_interface_that_contradicts_itself_is_refused(
    change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadRequest, match=reason):
        stream.frame({"input": INTERFACE["input"] | change}, "input")


def test_an_interface_that_lacks_something_says_what() -> None:
    lacking = {key: value for key, value in side(4, 4, 4, 1, [4, 4]).items() if key != "frac"}
    with pytest.raises(BadRequest, match="input: no frac; give word_bits, words"):
        stream.frame({"input": lacking}, "input")


@pytest.mark.parametrize("stalls", [{"stall_in": 1.0}, {"stall_out": -0.1}])
def test_a_stall_that_never_ends_is_refused(binary: Path, stalls: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="stall_"):
        stream.run(binary, INTERFACE, questions(1, RIGHT), binary.parent, **stalls)


def test_no_samples_and_values_off_the_grid_are_refused(binary: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no values"):
        stream.run(binary, INTERFACE, questions(0, RIGHT), binary.parent)
    values = questions(2, RIGHT)
    values[1, 1, 2] = 0.3
    with pytest.raises(BadRequest, match=r"input element 6 is 0\.3, which is no fixed<4,3> number"):
        stream.simulate([], "sums", INTERFACE, values, tmp_path / "sim")
    assert not (tmp_path / "sim").exists()
