"""Figures from data and records. Each function returns the figure and shows nothing.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; meaning never hangs on
colour alone.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import figure as mpl_figure
from matplotlib import rc_context
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fastml_kit.fixedpoint import FixedSpec

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"
SERIES = (BLUE, ORANGE, GREEN, RED)


class Figure(mpl_figure.Figure):
    """A Matplotlib figure that notebooks show as SVG, without pyplot and its global state."""

    def _repr_svg_(self) -> str:
        return svg(self)


def svg(figure: mpl_figure.Figure) -> str:
    """Return `figure` as SVG text, the same for the same figure: no date, no random names."""
    text = io.StringIO()
    with rc_context({"svg.hashsalt": "fastml_kit"}):
        figure.savefig(text, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return text.getvalue()


def images(x: NDArray[Any], titles: Sequence[str]) -> Figure:
    """Draw the first samples of `x` (n, height, width, channels), one for each title."""
    figure = Figure(figsize=(1.1 * len(titles), 1.5), layout="constrained")
    for axis, image, title in zip(
        np.atleast_1d(figure.subplots(1, len(titles))), x, titles, strict=False
    ):
        axis.imshow(image[..., 0], cmap="gray_r", interpolation="nearest")
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
    """Draw loss and validation accuracy against the epoch, a line for each named history."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (label, history), colour in zip(histories.items(), SERIES, strict=False):
        epochs = range(1, len(history["loss"]) + 1)
        left.plot(epochs, history["loss"], color=colour, label=label)
        right.plot(epochs, history["val_accuracy"], color=colour, label=label)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel="validation accuracy")
    right.legend()
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


def pipelining(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Draw LUT and FF (estimates) against latency; rows have latency_cycles, lut, ff, cutoff."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axis = figure.subplots()
    latency = [row["latency_cycles"] for row in rows]
    for name, colour, marker in (("lut", BLUE, "o"), ("ff", ORANGE, "s")):
        axis.plot(
            latency, [row[name] for row in rows], color=colour, marker=marker, label=name.upper()
        )
    for row in rows:
        axis.annotate(
            f"cutoff {row['cutoff']:g}",
            (row["latency_cycles"], row["ff"]),
            textcoords="offset points",
            xytext=(6, -9),
            fontsize=8,
        )
    axis.margins(0.18, 0.1)
    axis.set(xlabel="latency, cycles", ylabel="count (da4ml's estimate)")
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend()
    return figure


def folds(points: Sequence[tuple[int, float]]) -> Figure:
    """Draw what each way to fold a layer costs: points of (cycles, LUT), and the cheapest ones."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axis = figure.subplots()
    turns, lut = zip(*points, strict=True)
    axis.scatter(turns, lut, s=14, color=BLUE, label="one folding")
    best: dict[int, float] = {}
    for cycles, count in points:
        best[cycles] = min(count, best.get(cycles, count))
    axis.plot(*zip(*sorted(best.items()), strict=True), color=ORANGE, label="the cheapest")
    axis.set(xlabel="cycles a sample", ylabel="LUT (estimate)", xscale="log", yscale="log")
    axis.legend()
    return figure


def folding(points: Sequence[tuple[int, int, int]]) -> Figure:
    """Draw what an interval costs: points of (interval in cycles, LUT, DSP), all estimates."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    left = figure.subplots()
    points = sorted(points)
    interval = [point[0] for point in points]
    lines = left.plot(interval, [p[1] for p in points], color=BLUE, marker="o", label="LUT")
    right = left.twinx()
    lines += right.plot(interval, [p[2] for p in points], color=ORANGE, marker="s", label="DSP")
    left.set(xlabel="interval, cycles from one sample to the next", ylabel="LUT (estimate)")
    right.set_ylabel("DSP (estimate)")
    left.set_xscale("log", base=2)
    left.xaxis.set_major_formatter("{x:g}")
    for axis in (left, right):
        axis.set_ylim(0, max(axis.get_ylim()[1], 1))  # also where there is none
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(lines, [str(line.get_label()) for line in lines])
    return figure


def utilisation(used: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """Draw what share of each part a design fills: ``used[part][resource] = (used, available)``."""
    figure = Figure(figsize=(7, 0.8 + 0.35 * sum(map(len, used.values()))), layout="constrained")
    axis = figure.subplots()
    labels: list[str] = []
    colours = iter(SERIES)
    for part, resources in used.items():
        colour = next(colours)
        for resource, (count, available) in resources.items():
            share = 100 * count / available
            axis.barh(len(labels), share, color=colour)
            axis.text(
                share + 1, len(labels), f"{count:,g} of {available:,g}", va="center", fontsize=8
            )
            labels.append(f"{part} {resource}")
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.axvline(100, color="black", linewidth=1)
    axis.set_xlim(0, 125)
    axis.set_xticks(range(0, 101, 20))
    axis.set(xlabel="share of the part, % (the line: full)")
    return figure


def ladder(rungs: Sequence[tuple[str, int, int]], total: int) -> Figure:
    """Draw the ladder bottom to top: ``(engine, samples compared, mismatching codes)`` a rung."""
    figure = Figure(figsize=(7, 0.5 * len(rungs) + 1.2), layout="constrained")
    axis = figure.subplots()
    for row, (_engine, samples, mismatches) in enumerate(rungs):
        colour = RED if mismatches else GREEN if samples == total else ORANGE
        axis.barh(row, samples, color=colour, height=0.6)
        sign = "≠" if mismatches else "="
        note = f"{sign}  {mismatches} codes differ on {samples:,} samples"
        axis.text(total * 1.02, row, note, va="center", fontsize=9)
    axis.set_yticks(range(len(rungs)), [engine for engine, _, _ in rungs])
    axis.set_xlim(0, total * 1.75)
    axis.set_xticks([0, total])
    axis.spines[["top", "right"]].set_visible(False)
    axis.set(xlabel="samples compared with the trained network, code by code")
    return figure


def zoo(models: Sequence[tuple[str, int, float, str]]) -> Figure:
    """Draw published accuracy against the number of weights: (name, weights, %, data set)."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.subplots()
    markers = "os^Dv"
    for place, dataset in enumerate(sorted({model[3] for model in models})):
        chosen = [model for model in models if model[3] == dataset]
        axis.scatter(
            [model[1] for model in chosen],
            [model[2] for model in chosen],
            color=SERIES[place % len(SERIES)],
            marker=markers[place % len(markers)],
            label=dataset,
        )
    for name, weights, accuracy, _ in models:
        axis.annotate(
            name, (weights, accuracy), textcoords="offset points", xytext=(5, 4), fontsize=7
        )
    axis.set(xscale="log", xlabel="weights", ylabel="accuracy, % (published)")
    axis.margins(0.25, 0.12)
    axis.legend(fontsize=8)
    return figure
