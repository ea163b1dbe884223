"""FIFO depths: against an event simulation with bounded FIFOs, and against simulated RTL."""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastml_kit.backends.base import BuildRequest
from fastml_kit.backends.finn_backend import FinnBackend
from fastml_kit.errors import BadRequest, BuildFailed, UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph.writer import Writer
from fastml_kit.rtl import fifo_units, fifos, stitch, stream
from fastml_kit.rtl.fifo_units import Unit
from fastml_kit.tests import networks

ENDLESS = 10**9


class Machine:
    """One unit, cycle by cycle, that starts whatever it can.

    This is written from what a unit means, and shares nothing with the analysis. Words on their way
    out wait in a pipeline as long as the delay; when that is full, the unit stops.
    """

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.taken: list[int] = []  # when each word was
        self.made: list[int] = []  # when each step was
        self.pipe: deque[int] = deque()  # when each word will have come through

    def may_take(self, now: int) -> bool:
        """Tell whether there is room for a word."""
        frame, place = divmod(len(self.taken), self.unit.words)
        before = frame * len(self.unit.need) + (self.unit.room or ())[place]
        return before <= 0 or (
            len(self.made) >= before and self.made[before - 1] + self.unit.free <= now
        )

    def may_step(self, now: int, ready: bool) -> bool:
        """Tell whether the next step has its words: those in the FIFOs, or those inside."""
        if self.unit.room is None:
            return ready
        frame, place = divmod(len(self.made), len(self.unit.need))
        needed = frame * self.unit.words + self.unit.need[place]
        return needed == 0 or (
            len(self.taken) >= needed and self.taken[needed - 1] + self.unit.enter <= now
        )


def simulate(
    units: Sequence[Unit], depths: Mapping[str, int], frames: int, patience: int = 300
) -> list[int]:
    """Return when each frame's last word comes out: of fewer frames, if the design locks up.

    The source offers a word in every cycle, and nothing holds the answers back.
    """
    queues = {fifo.stream: fifo for fifo in stitch.fifos(nodes_of(units))}
    fills = {name: deque[int]() for name in queues}
    machines = [Machine(unit) for unit in units]
    last, length = units[-1], units[0].words
    offered = quiet = out = now = 0
    ends: list[int] = []
    while len(ends) < frames and quiet < patience:
        # A word may leave if it was there, and one may come if there was room, as the cycle began.
        room = {name: len(fill) < depths[queues[name].name] for name, fill in fills.items()}
        moved = offered < frames * length and room["in"]
        if moved:
            fills["in"].append(now)
            offered += 1
        for machine in machines:
            unit, pipe = machine.unit, machine.pipe
            fits = all(room.get(name, True) for name in unit.outputs)
            ready = all(fills[name] and fills[name][0] < now for name in unit.inputs)
            space = len(pipe) <= unit.delay
            if unit.room is not None and ready and machine.may_take(now):
                fills[unit.inputs[0]].popleft()
                machine.taken.append(now)
                moved = True
            gives = len(machine.made) % len(unit.need) in unit.emits
            space = not gives or (space and (unit.delay > 0 or fits))
            done = len(machine.made) == frames * len(unit.need)
            if space and not done and machine.may_step(now, ready):
                machine.made.append(now)
                moved = True
                if unit.room is None:
                    for name in unit.inputs:
                        fills[name].popleft()
                if gives:
                    pipe.append(now + unit.delay)
            if pipe and pipe[0] <= now and fits:
                pipe.popleft()
                moved = True
                for name in unit.outputs:
                    if name in fills:
                        fills[name].append(now)
                if unit is last:
                    out += 1
                    if out % len(unit.emits) == 0:
                        ends.append(now)
        quiet = (
            0
            if moved or any(machine.pipe[0] > now for machine in machines if machine.pipe)
            else quiet + 1
        )
        now += 1
    return ends


def nodes_of(units: Sequence[Unit]) -> dict[str, Any]:
    return {"nodes": [{"name": unit.name, "inputs": list(unit.inputs)} for unit in units]}


def unbounded(units: Sequence[Unit]) -> dict[str, int]:
    return {fifo.name: ENDLESS for fifo in stitch.fifos(nodes_of(units))}


# -- abstract designs


def passing(name: str, ends: tuple[str, str], words: int, delay: int, every: int = 1) -> Unit:
    """A unit that gives a word for `every` word that it takes."""
    need = tuple(range(1, words + 1))
    return Unit(name, ends[:1], ends[1:], need, tuple(range(every - 1, words, every)),
                delay=delay, words=words)  # fmt: skip


def collecting(name: str, ends: tuple[str, str], words: int, copies: int, overlap: bool) -> Unit:
    """A unit that takes a frame, and then reads all of it, `copies` times for each word given.

    With `overlap`, the next frame's words come in while it reads.
    """
    count = words * copies
    room = (1 - count if overlap else 0,) * words
    emits = tuple(range(copies - 1, count, copies))
    return Unit(name, ends[:1], ends[1:], (words,) * count, emits, room,
                enter=1, delay=2, words=words)  # fmt: skip


def sliding(name: str, ends: tuple[str, str], words: int, size: int, kept: int) -> Unit:
    """A unit that reads windows of `size` words out of the last `kept`, and gives all of them."""
    read = [at + word for at in range(words - size + 1) for word in range(size)]
    used = [max(step for step, word in enumerate(read) if word == which) for which in range(words)]
    room = tuple(used[i - kept] + 1 - (len(read) if i < kept else 0) for i in range(words))
    need, most = [], 0
    for word in read:
        most = max(most, word + 1)
        need.append(most)
    return Unit(name, ends[:1], ends[1:], tuple(need), tuple(range(len(read))), room,
                enter=1, delay=1, words=words)  # fmt: skip


@st.composite
def chains(
    draw: st.DrawFn, name: str, ends: tuple[str, str], words: int, same: bool = False
) -> list[Unit]:
    """Units in a row, which pass on as many words as they take if `same`."""
    made: list[Unit] = []
    count = draw(st.integers(1, 3))
    for place in range(count):
        way = (made[-1].outputs[0] if made else ends[0],
               ends[1] if place == count - 1 else f"{name}_{place}")  # fmt: skip
        called = f"{name}{place}"
        kind = draw(st.sampled_from(["passing", "collecting", "sliding", "pooling"]))
        if kind == "sliding" and not same and words < 13:
            size = draw(st.integers(1, min(words, 3)))
            kept = draw(st.integers(size, words))
            made.append(sliding(called, way, words, size, kept))
        elif kind == "pooling" and not same:
            every = draw(st.sampled_from([d for d in range(1, words + 1) if words % d == 0]))
            made.append(passing(called, way, words, 1, every))
        elif kind == "collecting":
            made.append(
                collecting(called, way, words, draw(st.integers(1, 3)), draw(st.booleans()))
            )
        else:
            made.append(passing(called, way, words, draw(st.integers(0, 30))))
        words = len(made[-1].emits)
    return made


@st.composite
def designs(draw: st.DrawFn) -> list[Unit]:
    """A chain, or two with a fork between them whose branches are added up."""
    words = draw(st.integers(1, 12))
    if not draw(st.booleans()):
        return draw(chains("chain", ("in", "out"), words))
    head = draw(chains("head", ("in", "fork"), words))
    words = len(head[-1].emits)
    need = tuple(range(1, words + 1))
    fork = Unit("fork", ("fork",), ("left", "right"), need, tuple(range(words)),
                delay=0, words=words)  # fmt: skip
    left = draw(chains("long", ("left", "near"), words, same=True))
    join = Unit("join", ("near", "right"), ("sum",), need, tuple(range(words)), words=words)
    tail = draw(chains("tail", ("sum", "out"), words))
    return [*head, fork, *left, join, *tail]


def steady(ends: Sequence[int]) -> float:
    """The mean interval over the later half."""
    half = len(ends) // 2
    return (ends[-1] - ends[half]) / (len(ends) - 1 - half)


def falls_behind(ends: Sequence[int], period: int) -> bool:
    """Tell whether later frames lag further behind a stream of this period than earlier ones."""
    lags = [end - at * period for at, end in enumerate(ends)]
    half = len(lags) // 2
    return max(lags[half:]) > max(lags[:half])


@given(designs())
def test_bounded_fifos_neither_lock_up_nor_cost_throughput(units: list[Unit]) -> None:
    depths = fifos.fills(units, "in", "out")
    ends = simulate(units, depths, 48)
    assert len(ends) == 48, "locked up"
    assert not falls_behind(ends, fifos.slowest(units))


@given(designs())
def test_the_interval_is_that_of_a_design_with_endless_fifos(units: list[Unit]) -> None:
    assert steady(simulate(units, unbounded(units), 24)) == fifos.slowest(units)


@given(designs(), st.integers(1, 20))
def test_a_slower_stream_keeps_its_period(units: list[Unit], more: int) -> None:
    period = fifos.slowest(units) + more
    ends = simulate(units, fifos.fills(units, "in", "out", period=period), 96)
    assert len(ends) == 96, "locked up"
    assert not falls_behind(ends, period)


def residual(words: int, branch: Unit) -> list[Unit]:
    need, all_of = tuple(range(1, words + 1)), tuple(range(words))
    return [
        Unit("fork", ("in",), ("left", "right"), need, all_of, delay=0, words=words),
        branch,
        Unit("join", ("near", "right"), ("out",), need, all_of, words=words),
    ]


@given(st.integers(2, 20))
def test_one_word_less_beside_a_branch_that_collects_its_frame_locks_up(words: int) -> None:
    units = residual(words, collecting("branch", ("left", "near"), words, 1, overlap=False))
    depths = fifos.fills(units, "in", "out")
    assert steady(simulate(units, depths, 12)) == fifos.slowest(units)
    too_few = depths | {"before_join_1": words - 1}
    assert depths["before_join_1"] >= words
    assert simulate(units, too_few, 12) == []


@given(st.integers(2, 20), st.integers(1, 40))
def test_one_word_less_beside_a_long_pipeline_is_slower(words: int, delay: int) -> None:
    units = residual(words, passing("branch", ("left", "near"), words, delay))
    depths = fifos.fills(units, "in", "out")
    assert steady(simulate(units, depths, 64)) == words
    fewer = depths | {"before_join_1": depths["before_join_1"] - 1}
    slow = simulate(units, fewer, 64)
    assert steady(slow) > words


def test_a_period_that_a_unit_cannot_keep_is_refused() -> None:
    units = residual(5, collecting("branch", ("left", "near"), 5, 3, overlap=True))
    with pytest.raises(BadRequest, match="slowest unit needs"):
        fifos.fills(units, "in", "out", period=fifos.slowest(units) - 1)


def test_what_takes_longer_from_end_to_end_of_a_fifo_makes_the_other_deeper() -> None:
    units = residual(8, passing("branch", ("left", "near"), 8, 10))
    plain = fifos.fills(units, "in", "out")["before_join_1"]
    slow = fifos.fills(units, "in", "out", hops={"before_branch": 2})["before_join_1"]
    assert slow == plain + 1


# -- FINN's nodes


def described(*nodes: tuple[str, dict[str, Any], tuple[str, ...], tuple[str, ...]],
              words: Sequence[int], bits: int = 8) -> dict[str, Any]:  # fmt: skip
    """A dataflow as `finn_backend.describe` writes it: the part that timing depends on."""
    streams = {
        f"s{at}": {"words": count, "elements": 1, "element_bits": bits}
        for at, count in enumerate(words)
    }
    return {
        "nodes": [
            {"name": f"node{at}", "kind": kind, "parameters": given, "inputs": list(inputs),
             "outputs": list(outputs), "weight_bits": 4, "compute": given.get("compute")}
            for at, (kind, given, inputs, outputs) in enumerate(nodes)
        ],
        "streams": streams,
        "input": "s0",
        "output": f"s{len(words) - 1}",
    }  # fmt: skip


def chained(*nodes: tuple[str, dict[str, Any]], words: Sequence[int]) -> dict[str, Any]:
    return described(
        *((kind, given, (f"s{at}",), (f"s{at + 1}",)) for at, (kind, given) in enumerate(nodes)),
        words=words,
    )


def mvau(
    rows: int, columns: int, pe: int, simd: int, compute: str = "dsp"
) -> tuple[str, dict[str, Any]]:
    given = {"MH": rows, "MW": columns, "PE": pe, "SIMD": simd}
    return "mvau", {**given, "compute": compute}  # which `described` puts beside the parameters


def width(taken: int, given: int) -> tuple[str, dict[str, Any]]:
    return "width", {"inWidth": taken, "outWidth": given}


def steps(count: int) -> tuple[str, dict[str, Any]]:
    return "thresholding", {"numSteps": count, "deep_pipeline": 0}


def windows(
    image: tuple[int, int], kernel: int, channels: int, simd: int, stride: int = 1,
    depthwise: bool = False, parallel: bool = False,
) -> tuple[str, dict[str, Any]]:  # fmt: skip
    return "swg", {
        "IFMDim": list(image), "ConvKernelDim": [kernel, kernel], "IFMChannels": channels,
        "OFMDim": [(size - kernel) // stride + 1 for size in image], "SIMD": simd,
        "Stride": [stride, stride], "Dilation": [1, 1], "depthwise": int(depthwise),
        "parallel_window": int(parallel),
    }  # fmt: skip


#: Two layers of 24 and 10 outputs, and a small network with two convolutions and a max-pool.
MLP = chained(
    mvau(24, 64, 6, 16), width(78, 26), steps(15), width(8, 32), mvau(10, 24, 2, 8),
    words=(4, 4, 12, 12, 3, 5),
)  # fmt: skip
CNN = chained(
    windows((8, 8), 3, 1, 1), width(5, 15), mvau(6, 9, 6, 3), width(66, 22), steps(15),
    width(8, 24), windows((6, 6), 2, 6, 6, stride=2, depthwise=True), ("pool", {}),
    windows((3, 3), 2, 6, 6), mvau(8, 24, 4, 6), width(44, 11), steps(15), width(4, 16),
    mvau(10, 32, 5, 4),
    words=(64, 324, 108, 36, 108, 108, 36, 36, 9, 16, 8, 32, 32, 8, 2),
)  # fmt: skip
#: The keyword-spotting network, folded for latency.
KWS = chained(
    mvau(256, 490, 4, 245, "lut"), steps(7), mvau(256, 256, 128, 4), width(1408, 176), steps(7),
    width(48, 6), mvau(256, 256, 256, 2, "lut"), width(2816, 176), steps(7), width(48, 24),
    mvau(12, 256, 12, 8, "lut"),
    words=(2, 64, 64, 2, 16, 16, 128, 1, 16, 16, 32, 1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("dataflow", "interval", "latency"),
    [
        (MLP, 16, 59),
        (CNN, 336, 405),
        (KWS, 128, 338),
    ],  # as rtl.stream measured the RTL with these folds
)
def test_the_forecast_is_what_was_measured_in_rtl(
    dataflow: dict[str, Any], interval: int, latency: int
) -> None:
    assert fifos.interval(dataflow) == interval
    assert fifos.latency(dataflow) == latency


def streamed(dataflow: Mapping[str, Any]) -> list[Unit]:
    """The units of a dataflow, its input named as `simulate` wants it."""
    parts = fifo_units.units(dataflow)
    first = dataflow["input"]
    return [
        Unit(**{**vars(unit), "inputs": tuple("in" if x == first else x for x in unit.inputs)})
        for unit in parts
    ]


@pytest.mark.parametrize("dataflow", [MLP, CNN])
def test_latency_and_interval_are_those_of_the_event_simulation(dataflow: dict[str, Any]) -> None:
    units = streamed(dataflow)
    alone = simulate(units, unbounded(units), 1)
    queues = dict.fromkeys(unbounded(units), 32)  # the simulation knows no wires
    assert alone == [fifos.latency(dataflow, queues)]
    assert fifos.latency(dataflow) < alone[0]
    assert steady(simulate(units, unbounded(units), 12)) == fifos.interval(dataflow)


def skipping(image: int, channels: int, simd: int, **swg: Any) -> dict[str, Any]:
    """A residual block: pad, 3 x 3 windows, products and thresholds, beside nothing at all."""
    parts, area, inner = channels // simd, image * image, (image + 2) ** 2
    pad = {"ImgDim": [image, image], "Padding": [1, 1, 1, 1], "NumChannels": channels,
           "SIMD": simd}  # fmt: skip
    window = windows((image + 2, image + 2), 3, channels, simd, **swg)
    word = 9 * channels if swg.get("parallel") else simd
    vectors = area * 9 * channels // word
    product = mvau(channels, 9 * channels, simd, word)
    return described(
        ("duplicate", {}, ("s0",), ("s1", "s2")),
        ("padding", pad, ("s1",), ("s3",)),
        (*window, ("s3",), ("s4",)),
        (*product, ("s4",), ("s5",)),
        (*steps(15), ("s5",), ("s6",)),
        ("add", {}, ("s6", "s2"), ("s7",)),
        words=(area * parts,) * 3 + (inner * parts, vectors) + (area * parts,) * 3,
    )


@pytest.mark.parametrize(
    "dataflow",
    [MLP, CNN, skipping(5, 4, 4), skipping(4, 4, 2), skipping(5, 2, 2, parallel=True)],
)
def test_exact_depths_keep_the_interval_of_finn_designs(dataflow: dict[str, Any]) -> None:
    units = streamed(dataflow)
    held = fifos.fills(units, "in", dataflow["output"])
    ends = simulate(units, held, 12, patience=600)
    assert len(ends) == 12
    assert steady(ends) == fifos.interval(dataflow)
    depths = fifos.depths(dataflow, exact=True)
    wires = {name for name, depth in depths.items() if not depth}
    direct = fifos.fills(units, "in", dataflow["output"], hops=dict.fromkeys(wires, 0))
    assert all(direct[name] == 1 for name in wires)
    assert all(depths[name] >= direct[name] + fifos.MARGIN for name in held.keys() - wires)


def test_the_skip_connection_waits_for_the_first_window() -> None:
    dataflow = skipping(8, 2, 2)
    depths = fifos.depths(dataflow, exact=True)
    # The first answer needs the first two rows, and two pixels of the third with the border.
    assert depths["before_node5_1"] >= 8 + 2
    assert depths["before_node5_1"] > max(d for n, d in depths.items() if n != "before_node5_1")


def test_depths_are_named_as_the_stitcher_names_them_and_use_what_is_free() -> None:
    dataflow = skipping(8, 2, 2)
    exact, free = fifos.depths(dataflow, exact=True), fifos.depths(dataflow)
    assert [fifo.name for fifo in stitch.fifos(dataflow, free)] == list(free)
    assert all(depth == 0 or depth >= 3 for depth in exact.values())
    rounded = {name: depth and (32 if depth <= 32 else 64) for name, depth in exact.items()}
    assert free == rounded


def test_only_units_that_hold_their_words_are_joined_by_wires() -> None:
    depths = fifos.depths(CNN, exact=True)
    kinds = [node["kind"] for node in CNN["nodes"]]
    for place, node in enumerate(CNN["nodes"][1:], 1):
        pair = set(kinds[place - 1 : place + 1])
        assert depths[f"before_{node['name']}"] or pair <= fifos.HELD | fifos.DIRECT
    assert depths["before_node0"] > 0  # nobody knows what is before a design
    assert depths["before_node4"] == 0  # thresholds, behind the parts of a word


def test_a_deep_wide_fifo_counts_the_cycle_that_block_memory_takes() -> None:
    narrow = skipping(40, 2, 2, parallel=True)
    wide = json.loads(json.dumps(narrow))
    for side in wide["streams"].values():
        side["element_bits"] = 200
    slow = fifos.depths(wide, exact=True)
    assert any(depth > 64 for depth in slow.values())
    assert sum(slow.values()) >= sum(fifos.depths(narrow, exact=True).values())


@given(st.integers(0, 3), st.integers(0, 3), st.integers(1, 5))
def test_nothing_beats_the_lower_bound(pe: int, simd: int, vectors: int) -> None:
    rows, columns = 8, 8
    taken, made = vectors * columns >> simd, vectors * rows >> pe
    dataflow = chained(mvau(rows, columns, 1 << pe, 1 << simd), words=(taken, made))
    bound = fifos.lower_bound(dataflow)
    assert bound == max(taken, made, vectors * rows * columns >> pe + simd)
    assert fifos.interval(dataflow) >= bound


def test_a_node_of_unknown_timing_is_refused_by_name() -> None:
    dataflow = chained(("label", {}), words=(4, 1))
    with pytest.raises(
        UnsupportedModel, match=r"'node0' is of kind 'label'.*known: add, duplicate"
    ):
        fifos.depths(dataflow)


# -- in RTL


def residual_network(path: Path) -> Path:
    """Write a network with a padded 3 x 3 convolution beside a skip connection, and a max-pool."""
    rng = np.random.default_rng(0)
    weight, act = FixedSpec(4, 1), FixedSpec(3, 2, signed=False)

    def kernel(name: str, *shape: int) -> str:
        return graph.weight(name, weight.to_values(rng.integers(-7, 8, shape)), weight)

    graph = Writer(shape=(2, 6, 6))
    graph.quantize("input", networks.INPUT)
    graph.node("Conv", "conv1", kernel("kernel1", 4, 2, 1, 1), shape=(4, 6, 6),
               kernel_shape=(1, 1), strides=(1, 1), pads=(0, 0, 0, 0))  # fmt: skip
    graph.node("Relu", "relu1")
    trunk = graph.quantize("act1", act)
    graph.node("Conv", "conv2", kernel("kernel2", 4, 4, 3, 3), shape=(4, 6, 6),
               kernel_shape=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1))  # fmt: skip
    graph.quantize("act2", FixedSpec(4, 3))
    graph.node("Add", "sum", trunk)
    graph.quantize("act3", act)
    graph.node("MaxPool", "pool", shape=(4, 3, 3), kernel_shape=(2, 2), strides=(2, 2))
    graph.node("Flatten", "flatten", shape=(36,))
    graph.node("MatMul", "dense", kernel("dense_kernel", 36, 3), shape=(3,))
    return graph.save(path, "residual")


@pytest.mark.slow
def test_a_residual_network_in_rtl_is_as_fast_as_with_endless_fifos(tmp_path: Path) -> None:
    backend = FinnBackend()
    plan = backend.plan(residual_network(tmp_path / "net.onnx"), BuildRequest(interval_cycles=400))
    built = backend.build(plan, tmp_path / "finn", until="rtl")
    dataflow = json.loads((built.folder / "dataflow.json").read_text())
    assert {"add", "duplicate", "swg", "padding"} <= {node["kind"] for node in dataflow["nodes"]}
    exact = fifos.depths(dataflow, exact=True)
    skip = max(exact, key=exact.__getitem__)
    adder = next(node["name"] for node in dataflow["nodes"] if node["kind"] == "add")
    assert skip.startswith(f"before_{adder}")
    values = np.random.default_rng(1).integers(0, 17, (24, 2, 6, 6)) / 16

    def simulated(called: str, depths: Mapping[str, int]) -> stream.StreamSimulation:
        made = stitch.stitch(built, tmp_path / called, depths=depths)
        memories = [Path(name) for name in made.interface["data_files"]]
        return stream.simulate(
            made.sources, made.top, made.interface, values, tmp_path / f"{called}_sim",
            data_files=memories,
        )  # fmt: skip

    tight = simulated("exact", exact)
    endless = simulated("endless", dict.fromkeys(exact, 1024))
    assert (tight.values == endless.values).all()
    assert tight.interval_cycles == endless.interval_cycles == fifos.interval(dataflow)
    assert tight.latencies[0] == pytest.approx(fifos.latency(dataflow), rel=0.02)
    assert all(fill <= exact[name] for name, fill in tight.high_water.items())
    with pytest.raises(BuildFailed, match=f"Deadlock: FIFO '{skip}' of depth 24 is full"):
        simulated("shallow", exact | {skip: 24})
