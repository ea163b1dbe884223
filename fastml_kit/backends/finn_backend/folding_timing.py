"""How long a folded layer takes for a frame, and how long a lone frame takes through a network.

Cycles equal FINN's own `get_exp_cycles` (finn-plus 1.6.1, RTL variants where there are any; a test
holds the two together). Latency is our estimate, within 3 % of two networks built from FINN's RTL.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from fastml_kit.backends.finn_backend.folding_models import (
    Add,
    Duplicate,
    Fold,
    Label,
    Layer,
    Mvau,
    Padding,
    Pool,
    SlidingWindow,
    Stream,
    Thresholding,
    check,
    core_depth,
    streams,
)

# Cycles through registers.
MVAU_PIPELINE = 3  # replay buffer, output queue and register, around the core
THRESHOLD_PIPELINE = 1  # an output queue, on top of a stage for each bit of the result
FIFO = 1  # a queue before a layer in which words wait for others

Edge = tuple[int, int]  # from one place in a sequence of layers to a later one


def cycles(layer: Layer, fold: Fold) -> int:
    """Return the cycles from one frame to the next, as FINN's `get_exp_cycles` has them.

    Raises:
        BadRequest: the fold is not one of `legal(layer)`.
    """
    check(layer, fold)
    if isinstance(layer, SlidingWindow):
        return _window_cycles(layer, fold)
    if isinstance(layer, Mvau):
        return layer.vectors * (layer.mw // fold.simd) * (layer.mh // fold.pe)
    taken, given = streams(layer, fold)
    return taken.words if isinstance(layer, Label) else max(taken.words, given.words)


def _window_cycles(layer: SlidingWindow, fold: Fold) -> int:
    """After `ConvolutionInputGenerator_rtl.get_exp_cycles`, one-dimensional images apart."""
    parts = layer.channels // fold.simd
    if fold.parallel_window or prod(layer.kernel) == 1:
        return prod(layer.image) * parts + 2
    (h, w), (out_h, out_w) = layer.image, layer.out_image
    (k_h, k_w), (s_h, s_w) = layer.kernel, layer.stride
    d_h, d_w = layer.dilation
    if 1 in layer.image:
        if w == 1:
            w, out_w, k_w, s_w = h, out_h, k_h, s_h
        out = out_w * k_w * parts
        if not layer.depthwise:
            return out + 2
        replays = (parts - 1) * k_w
        refills = parts * (k_w - 1) * (s_w - 1)
        return max(out + replays, w * parts + refills) + 2
    row = max(out_w * k_w * k_h, s_w * w) * parts
    if layer.depthwise:
        row += out_w * (s_w - 1) * (parts - 1)
    filling = ((k_h - 1) * d_h * w + (k_w - 1) * d_w + 1) * parts
    total = filling + out_h * row
    return total + (s_h - 1) * w * parts if layer.depthwise else total


class Delays(NamedTuple):
    """Cycles through a layer. A chain's latency is the slowest way through them."""

    first: int  # first word in -> first word out
    whole: int  # first word in -> last word out, with no wait for input
    last: int  # last word in -> last word out


def delays(layer: Layer, fold: Fold) -> Delays:
    """Return the cycles through a layer.

    A matrix-vector unit needs its whole vector for its first outputs (one pass of MW/SIMD), which
    it makes while the vector still comes in, and then a pass more for each further group of PE
    outputs. A window's first word waits for its last pixel but leaves while the next one comes.
    """
    busy = cycles(layer, fold)
    taken, given = streams(layer, fold)
    match layer:
        case Mvau():
            through = MVAU_PIPELINE + core_depth(layer, fold)
            one = layer.mw // fold.simd
            return Delays(
                one + through, busy + through, (layer.mh // fold.pe - 1) * one + 1 + through
            )
        case Thresholding():
            through = THRESHOLD_PIPELINE + layer.steps.bit_length()
            return Delays(through, busy - 1 + through, through)
        case SlidingWindow():
            parts = layer.channels // fold.simd
            (k_h, k_w), (d_h, d_w) = layer.kernel, layer.dilation
            first = ((k_h - 1) * d_h * layer.image[1] + (k_w - 1) * d_w + 1) * parts
            window = given.words // prod(layer.out_image)
            return Delays(min(first, taken.words), busy, window + 1)
        case Padding():
            _, _, bottom, right = layer.pads
            row = layer.out_image[1]
            parts = layer.channels // fold.simd
            return Delays(1, busy, (bottom * row + right) * parts + 1)
        case Pool():
            window = prod(layer.kernel)
            return Delays(window, busy, 1)
        case Label():
            return Delays(busy, busy, 1)
        case Add() | Duplicate():
            return Delays(1, busy, 1)


def hop(target: Layer, given: Stream, taken: Stream) -> int:
    """Return the cycles from a word's leaving a layer to its being taken by `target`.

    Parts of a word pass at once (`kit_narrow.sv`); a wider one is collected in a register
    (`kit_widen.sv`); FINN's converter between other widths has one of either side.
    """
    queue = 0 if isinstance(target, Thresholding) else FIFO
    if given.lanes % taken.lanes == 0:
        return queue
    return queue + (1 if taken.lanes % given.lanes == 0 else 2)


def splitting(given: Stream, taken: Stream) -> int:
    """Return the cycles from a wide word's first narrow word to its last, in a converter."""
    return -(-given.lanes // taken.lanes) - 1


def across(layers: Sequence[Layer], edges: Sequence[Edge]) -> list[tuple[int, int, int]]:
    """Return (giver, thresholds, taker) for all thresholds between two layers.

    A word's elements come to the thresholds at once and leave them as fast as they can, but the
    taker may take them slower: it has its last one only after a whole splitting of the giver's.
    """
    return [
        (source, place, target)
        for source, place in edges
        for other, target in edges
        if other == place and isinstance(layers[place], Thresholding)
    ]


def latency_of(layers: Sequence[Layer], folds: Sequence[Fold], edges: Sequence[Edge]) -> int:
    """Return the cycles from the first word of a lone frame in to the last word out: an estimate.

    The first and the last word of the frame are followed through the layers; where two paths
    meet, the later one counts.
    """
    start = [0] * len(layers)  # when the first word arrives
    arrive = [0] * len(layers)  # when the last one does
    ends = [0] * len(layers)  # when its last word leaves a layer
    last = 0
    for place, (layer, fold) in enumerate(zip(layers, folds, strict=True)):
        through, (taken, given) = delays(layer, fold), streams(layer, fold)
        for source, between, target in across(layers, edges):
            if target == place:
                wide = streams(layers[source], folds[source])[1]
                passing = delays(layers[between], folds[between]).last + FIFO
                arrive[place] = max(arrive[place], ends[source] + passing + splitting(wide, taken))
        arrive[place] = max(arrive[place], start[place] + taken.words - 1)
        end = max(start[place] + through.whole, arrive[place] + through.last)
        ends[place] = end
        last = max(last, end)
        for _, target in (edge for edge in edges if edge[0] == place):
            after = streams(layers[target], folds[target])[0]
            wait = hop(layers[target], given, after)
            start[target] = max(start[target], start[place] + through.first + wait)
            arrive[target] = max(arrive[target], end + wait + splitting(given, after))
    return last
