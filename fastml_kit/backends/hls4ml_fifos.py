"""How many words each queue of an io_stream design comes to hold: an estimate, without a vendor.

hls4ml gives a queue room for a whole tensor. Its own optimizer runs the vendor's co-simulation with
queues that never fill, takes the most that each one held, and one more. Here the same is read off
a schedule: each layer is a loop that reads words, works, and writes a word,

- a dense layer, and a convolution for each whole window, work as many cycles as the reuse factor,
- everything else takes a word, or gives one, in every cycle,

and the words of one frame come in at one a cycle. Pipelines add cycles that are not modelled, so
that the fills are estimates; the tests hold them against co-simulated ones published with RN07.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from math import prod
from typing import Any

from fastml_kit.backends.base import BuildPlan, BuildRequest
from fastml_kit.backends.hls4ml_design import Design
from fastml_kit.errors import BadRequest, UnsupportedModel
from fastml_kit.graph.host import input_quant

Layer = Mapping[str, Any]
#: A turn of a layer's loop: the words it reads first, the cycles it takes, whether it writes one.
Turn = tuple[int, int, bool]

#: Layers that hand on a word for each that they take.
PASSING = ("Activation", "BatchNormalization", "LeakyReLU")


def depths(plan: BuildPlan) -> dict[str, int]:
    """Return a depth for the queue behind each layer but the last: its largest fill, and one more.

    Raises:
        BadRequest: the plan is not for io_stream.
        UnsupportedModel: a layer's timing is not known here, or the layers are no chain.
    """
    design, config = plan.facts["design"], plan.facts["config"]
    if not design.stream:
        raise BadRequest('queues are for io_type="io_stream"')
    first, *layers = chain(design)
    shape = design.wires[input_quant(design.program).output].shape
    given, found = list(range(prod(shape[:-1]))), dict[str, int]()
    giver = first["name"]
    for layer in layers:
        reuse = config["LayerName"][layer["name"]]["ReuseFactor"]
        taken, made = run(turns(layer, reuse, len(given)), given)
        found[giver] = fill(given, taken) + 1
        giver, given = layer["name"], made
    return {name: depth for name, depth in found.items() if name != first["name"]}


def with_depths(request: BuildRequest, found: Mapping[str, int]) -> BuildRequest:
    """Return `request` with these depths; one that it gives itself stays."""
    layers = {name: dict(knobs) for name, knobs in request.layers.items()}
    for name, depth in found.items():
        layers[name] = {"fifo": depth} | layers.get(name, {})
    return replace(request, layers=layers)


def chain(design: Design) -> list[Layer]:
    """Return the layers that take words out of one queue and put them into another, in turn.

    Raises:
        UnsupportedModel: a layer reads two, or two read one.
    """
    before = design.layers[0]
    found: list[Layer] = [before]
    for layer in design.layers[1:]:
        if layer["inputs"] != [before["name"]]:
            raise UnsupportedModel(
                f"hls4ml backend: {layer['class_name']} {layer['name']!r} is where paths part or "
                "meet; queues are analysed in a chain of layers only. Leave them to hls4ml"
            )
        before = layer
        if layer["class_name"] != "Reshape":  # words of pixels stay words of pixels
            found.append(layer)
    return found


def turns(layer: Layer, reuse: int, words: int) -> Iterator[Turn]:
    """Yield the turns of a layer's loop in a frame of `words` words.

    Raises:
        UnsupportedModel: its timing is not known here.
    """
    kind = layer["class_name"]
    if kind == "Dense":
        yield words, reuse, True
    elif kind in PASSING:
        yield from repeat((1, 1, True), words)
    elif kind.startswith("ZeroPadding"):
        yield from _padding(layer)
    elif kind.startswith(("Conv", "DepthwiseConv")):
        yield from _windows(layer, "filt", reuse)
    elif kind.startswith("MaxPooling"):
        yield from _windows(layer, "pool", 1)
    else:
        raise UnsupportedModel(
            f"hls4ml backend: the timing of {kind} {layer['name']!r} is not known here; leave the "
            "queues to hls4ml, or give their depths yourself"
        )


def run(each: Iterator[Turn], given: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return when a loop reads its words and when it has written its own, in cycles.

    A word written in one cycle can be read in the next; each read takes a cycle, in which the work
    of a turn begins.
    """
    taken, made, now = list[int](), list[int](), 0
    for reads, cycles, writes in each:
        for _ in range(reads):
            now = max(now, given[len(taken)] + 1)
            taken.append(now)
            now += 1
        now += max(cycles - min(reads, 1), 0)
        if writes:
            made.append(now)
    return taken, made


def fill(given: Sequence[int], taken: Sequence[int]) -> int:
    """Return the most words that were in a queue at the end of a cycle."""
    return max(word + 1 - bisect_left(taken, time + 1) for word, time in enumerate(given))


def _padding(layer: Layer) -> Iterator[Turn]:
    top, bottom = layer.get("pad_top", 0), layer.get("pad_bottom", 0)
    zero, row = (0, 1, True), layer["out_width"]
    yield from repeat(zero, top * row)
    for _ in range(layer.get("in_height", 1)):
        yield from repeat(zero, layer["pad_left"])
        yield from repeat((1, 1, True), layer["in_width"])
        yield from repeat(zero, layer["pad_right"])
    yield from repeat(zero, bottom * row)


def _windows(layer: Layer, word: str, work: int) -> Iterator[Turn]:
    """A pixel a turn; one that completes a window is worked on, and gives a pixel."""
    high, wide = layer.get(f"{word}_height", 1), layer[f"{word}_width"]
    down, right = layer.get("stride_height", 1), layer["stride_width"]
    for y in range(1 - high, layer.get("in_height", 1) - high + 1):
        for x in range(1 - wide, layer["in_width"] - wide + 1):
            whole = y >= 0 and x >= 0 and y % down == 0 and x % right == 0
            yield 1, work if whole else 1, whole
