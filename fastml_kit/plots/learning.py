"""Figures of data and training: samples, quantizers, weights, ranges, right and wrong answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.plots.style import BLUE, GREY, ORANGE, SERIES, Figure


def samples(x: NDArray[Any], titles: Sequence[str]) -> Figure:
    """Draw the first samples of `x` (n, height, width, channels), one for each title.

    With one channel or three they are images; what has no height and width, a row of features, is
    drawn as bars.
    """
    figure = Figure(figsize=(1.1 * len(titles), 1.5), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(titles), sharey=True))
    for axis, sample, title in zip(axes, x, titles, strict=False):
        if max(sample.shape[:2]) == 1:
            axis.bar(range(sample.size), sample.reshape(-1), color=BLUE)
            axis.axhline(0, color="black", linewidth=0.5)
        elif sample.shape[2] == 3:
            axis.imshow(np.clip(sample, 0, 1), interpolation="nearest")
        else:
            axis.imshow(sample.mean(axis=-1), cmap="gray_r", interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
    return figure


def staircase(spec: FixedSpec) -> Figure:
    """Draw what a quantizer of format `spec` makes of the numbers around its range."""
    low, high = spec.low * spec.step, spec.high * spec.step
    margin = 0.15 * (high - low)
    x = np.linspace(low - margin, high + margin, 2001)
    figure = Figure(figsize=(5, 3), layout="constrained")
    axis = figure.subplots()
    axis.plot(x, x, color=GREY, linestyle=":", label="real number")
    axis.plot(x, spec.to_values(spec.to_codes(x)), color=BLUE, label=f"as {spec}")
    axis.set(xlabel="number going in", ylabel="number coming out")
    axis.legend()
    return figure


def training(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Draw loss and validation accuracy against the epoch, a line for each named history.

    Where no accuracy was watched, as with a network that reconstructs, it is validation's loss.
    """
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    accurate = all("val_accuracy" in history for history in histories.values())
    watched, name = ("val_accuracy", "accuracy") if accurate else ("val_loss", "loss")
    for (label, history), colour in zip(histories.items(), SERIES, strict=False):
        epochs = range(1, len(history["loss"]) + 1)
        left.plot(epochs, history["loss"], color=colour, label=label)
        right.plot(epochs, history[watched], color=colour, label=label)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel=f"validation {name}")
    right.legend()
    return figure


def confusion(y: NDArray[Any], found: NDArray[Any], classes: Sequence[str]) -> Figure:
    """Draw how often class `y` (a row) was taken for class `found` (a column), in % of the row.

    Each field has its number, if it is not 0; the darker, the more.
    """
    count = len(classes)
    table = np.zeros((count, count))
    np.add.at(table, (np.asarray(y, dtype=int), np.asarray(found, dtype=int)), 1)
    share = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    size = 1.8 + 0.42 * count
    figure = Figure(figsize=(size, size), layout="constrained")
    axis = figure.subplots()
    axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for row, column in zip(*np.nonzero(table), strict=True):
        value = share[row, column]
        axis.text(
            *(column, row, f"{value:.0f}" if value >= 1 else "<1"),
            ha="center",
            va="center",
            fontsize=8,
            color="white" if value > 50 else "black",
        )
    axis.set_xticks(range(count), list(classes), rotation=90, fontsize=8)
    axis.set_yticks(range(count), list(classes), fontsize=8)
    axis.set(xlabel="what the network says", ylabel="what it is", title="% of each row")
    return figure


def weights_on_grid(layers: Mapping[str, tuple[NDArray[Any], FixedSpec]]) -> Figure:
    """Draw, for each layer, how many of its weights stand on each point of their grid."""
    figure = Figure(figsize=(4 * len(layers), 3), layout="constrained")
    for axis, (name, (values, spec)) in zip(
        np.atleast_1d(figure.subplots(1, len(layers))), layers.items(), strict=True
    ):
        points = spec.to_values(np.arange(spec.low, spec.high + 1))
        counts = [np.count_nonzero(values == point) for point in points]
        axis.bar(points, counts, width=0.8 * spec.step, color=BLUE)
        axis.set(title=f"{name}: {spec}", xlabel="weight", ylabel="how many")
    return figure


def ranges(bounds: Mapping[str, tuple[FixedSpec, float, float]]) -> Figure:
    """Draw each tensor's format as a bar of bits about the binary point.

    `bounds` gives, for each tensor, its format and the smallest and largest value it can take.
    """
    figure = Figure(figsize=(8, 0.35 * len(bounds) + 1), layout="constrained")
    axis = figure.subplots()
    for row, (spec, low, high) in enumerate(bounds.values()):
        axis.barh(row, spec.width, left=-spec.frac, color=BLUE if spec.signed else ORANGE)
        axis.text(spec.integer + 0.2, row, f"{spec}  [{low:g}, {high:g}]", va="center", fontsize=8)
    axis.axvline(0, color="black", linewidth=1)
    axis.set_yticks(range(len(bounds)), list(bounds))
    axis.invert_yaxis()
    specs = [spec for spec, _, _ in bounds.values()]
    axis.set_xlim(-max(s.frac for s in specs) - 0.5, max(s.integer for s in specs) + 9)
    axis.set(
        xlabel="bits below | above the binary point (blue: signed, orange: unsigned)",
        title="proved range of every tensor",
    )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
