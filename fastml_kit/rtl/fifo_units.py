"""When the nodes of a dataflow take and give their words, as `rtl.fifos` needs to know it.

All cycles are read from the sources of FINN's RTL and of the kit's own, and are estimates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import gcd
from typing import Any

from fastml_kit.errors import UnsupportedModel


@dataclass(frozen=True)
class Unit:
    """A node's timing for one frame. Words and steps are counted from the frame's first one.

    A unit without `room` takes the words of all its inputs in the step that needs them, one a step.
    Room of 0 or less waits for steps of the frame before: 0 for all of them.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    need: tuple[int, ...]  # of each step: the words that must have been taken before it
    emits: tuple[int, ...]  # the steps that give a word
    room: tuple[int, ...] | None = None  # of each word: steps that come before it
    enter: int = 0  # cycles from taking a word to the first step with it
    free: int = 1  # cycles from a step to taking a word that it made room for
    delay: int = 1  # cycles from a step to giving its word
    words: int = 0  # taken a frame


def units(dataflow: Mapping[str, Any]) -> list[Unit]:
    """Return the timing of each node of a dataflow.

    Raises:
        UnsupportedModel: a node is of another kind than these.
    """
    made = []
    for node in dataflow["nodes"]:
        if node["kind"] not in _TIMINGS:
            raise UnsupportedModel(
                f"node {node['name']!r} is of kind {node['kind']!r}, whose timing is not known; "
                f"known: {', '.join(sorted(_TIMINGS))}. Give its FIFOs depths by hand"
            )
        timing = _TIMINGS[node["kind"]](node, dataflow["streams"])
        ports = tuple(node["inputs"]), tuple(node["outputs"])
        taken = words_of(dataflow["streams"], node["inputs"])
        made.append(Unit(node["name"], *ports, words=taken, **timing))
    return made


def words_of(streams: Mapping[str, Any], names: Sequence[str]) -> int:
    """Return the words a frame of the first of the streams `names`."""
    return int(streams[names[0]]["words"])


def _one_a_step(words: int, delay: int, every: int = 1) -> dict[str, Any]:
    """Return the timing of a node that gives a word for `every` word that it takes."""
    needed = tuple(range(1, words + 1))
    return {"need": needed, "emits": tuple(range(every - 1, words, every)), "delay": delay}


def _add(node: Mapping[str, Any], streams: Mapping[str, Any]) -> dict[str, Any]:
    return _one_a_step(words_of(streams, node["inputs"]), 1)


def _duplicate(node: Mapping[str, Any], streams: Mapping[str, Any]) -> dict[str, Any]:
    return _one_a_step(words_of(streams, node["inputs"]), 0)


def _pool(node: Mapping[str, Any], streams: Mapping[str, Any]) -> dict[str, Any]:
    taken, given = (words_of(streams, node[side]) for side in ("inputs", "outputs"))
    return _one_a_step(taken, 1, taken // given)


def _thresholding(node: Mapping[str, Any], streams: Mapping[str, Any]) -> dict[str, Any]:
    """After thresholding.sv: a stage, or two, for each bit of the result, and an output queue."""
    given = node["parameters"]
    stages = int(given["numSteps"]).bit_length() * (1 + given.get("deep_pipeline", 1))
    return _one_a_step(words_of(streams, node["inputs"]), stages + 1)


def _mvau(node: Mapping[str, Any], streams: Mapping[str, Any]) -> dict[str, Any]:
    """After mvu_vvu_axi.sv and its replay_buffer.sv.

    Each step multiplies one word. An output word takes a pass over the vector; the first pass reads
    it while it comes, the others from the buffer, which each word leaves in the last.
    """
    given = node["parameters"]
    columns, rows = given["MW"] // given["SIMD"], given["MH"] // given["PE"]
    words = words_of(streams, node["inputs"])
    if node.get("compute") == "lut":  # kit_lut_mvu.sv
        bits = (-(-given["SIMD"] // 8) - 1).bit_length() + (node["weight_bits"] - 1).bit_length()
        core = 3 + bits
    else:  # mvu.sv
        core = 4 + (given["SIMD"] - 1).bit_length() + (given["SIMD"] == 1)
    if rows == 1:
        return _one_a_step(words, core + 2, columns)
    need = [
        vector * columns + min(step + 1, columns)
        for vector in range(words // columns)
        for step in range(rows * columns)
    ]
    held = 1 << max(1, (columns - 1).bit_length())
    room = []
    for word in range(words):
        vector, place = divmod(word - held, columns)
        room.append((vector * rows + rows - 1) * columns + place + 1)
    return {
        "need": tuple(need),
        "emits": tuple(range(columns - 1, len(need), columns)),
        "room": tuple(room),
        "enter": 1,
        "delay": core + 3,
    }


def _width(node: Mapping[str, Any], streams: Mapping[str, Any]) -> dict[str, Any]:
    """After kit_widen.sv and kit_narrow.sv, or vpc.sv where neither word is parts of the other.

    vpc.sv has a buffer of one word of either side, which a word may enter above the other.
    kit_narrow.sv holds its word where it comes from, until its last part has gone; here it is taken
    with the first one, so that a place more is needed.
    """
    given = node["parameters"]
    part = gcd(given["inWidth"], given["outWidth"])
    wide, narrow = given["inWidth"] // part, given["outWidth"] // part
    taken, made = (words_of(streams, node[side]) for side in ("inputs", "outputs"))
    if wide == narrow:
        return _one_a_step(taken, 0)
    if wide == 1:
        return _one_a_step(taken, 1, narrow)
    kept = narrow if narrow > 1 else 0
    return {
        "need": tuple(-(-step * narrow // wide) for step in range(1, made + 1)),
        "emits": tuple(range(made)),
        "room": tuple(-(-(word * wide - kept) // narrow) for word in range(taken)),
        "enter": int(kept > 0),
        "delay": 0,
    }


def _padding(node: Mapping[str, Any], streams: Mapping[str, Any]) -> dict[str, Any]:
    """After fmpadding.sv: it takes one word ahead while it gives zeros."""
    given = node["parameters"]
    parts = given["NumChannels"] // given["SIMD"]
    (height, width), (top, left, bottom, right) = given["ImgDim"], given["Padding"]
    inside = [
        top <= y < top + height and left <= x < left + width
        for y in range(top + height + bottom)
        for x in range(left + width + right)
        for _ in range(parts)
    ]
    passed = [step for step, word in enumerate(inside) if word]
    return {
        "need": tuple(accumulate(map(int, inside))),
        "emits": tuple(range(len(inside))),
        "room": (passed[-1] + 1 - len(inside), *(step + 1 for step in passed[:-1])),
    }


def _swg(node: Mapping[str, Any], streams: Mapping[str, Any]) -> dict[str, Any]:
    """After swg_template_default.sv and _parallel.sv: a ring of pixels, or shift registers.

    Words of one frame come in only when the one before is done. In the ring, a word is overwritten
    once neither the window now read nor the next one needs it.
    """
    given = node["parameters"]
    parts = given["IFMChannels"] // given["SIMD"]
    (height, width), (k_h, k_w) = given["IFMDim"], given["ConvKernelDim"]
    (s_h, s_w), (d_h, d_w) = given["Stride"], given["Dilation"]
    out_h, out_w = given["OFMDim"]
    corners = [(y * s_h * width + x * s_w) * parts for y in range(out_h) for x in range(out_w)]
    pixels = [(y * d_h * width + x * d_w) * parts for y in range(k_h) for x in range(k_w)]
    words = height * width * parts
    if given.get("parallel_window") or len(pixels) == 1:
        newest = [corner + pixels[-1] + part for corner in corners for part in range(parts)]
        room, done = [], 0
        for word in range(words):
            while done < len(newest) and newest[done] < word - 1:
                done += 1
            room.append(done)
        return {
            "need": tuple(last + 1 for last in newest),
            "emits": tuple(range(len(newest))),
            "room": tuple(room),
            "enter": 1,
            "delay": 0,
        }
    if given["depthwise"]:  # a window of each group of channels by itself
        windows = [[corner + part + pixel for pixel in pixels]
                   for corner in corners for part in range(parts)]  # fmt: skip
    else:
        windows = [[corner + pixel + part for pixel in pixels for part in range(parts)]
                   for corner in corners]  # fmt: skip
    least = pixels[-1] + parts
    kept = least + sum(max(0, more - len(pixels) * parts) for more in
                       ((s_w - 1) * parts, (s_h - 1) * width * parts))  # fmt: skip
    return _ring(windows, words, kept, least)


def _ring(windows: Sequence[Sequence[int]], words: int, kept: int, least: int) -> dict[str, Any]:
    """Return the timing of a ring of `kept` words from which `windows` are read."""
    read = [word for window in windows for word in window]
    size = len(windows[0])
    # The words of the next window are known once the first of this one is read.
    after = [window[0] for window in windows[1:]] + [windows[-1][0] + least - 1]
    room, done = [], 0
    for word in range(words):
        while done < len(read):
            oldest = min(read[done], after[(done - 1) // size] if done else 0)
            if word - kept < oldest:
                break
            done += 1
        room.append(done)
    need = list(accumulate((word + 1 for word in read), max))
    return {
        "need": (*need, need[-1]),  # a step more, in which it gets ready for the next frame
        "emits": tuple(range(len(need))),
        "room": tuple(room),
        "enter": 1,
    }


_TIMINGS = {
    "add": _add,
    "duplicate": _duplicate,
    "mvau": _mvau,
    "padding": _padding,
    "pool": _pool,
    "swg": _swg,
    "thresholding": _thresholding,
    "width": _width,
}
