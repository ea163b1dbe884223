"""Figures of circuits: the cost of pipelining and folding, estimates, what a part holds."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.ticker import MaxNLocator, NullLocator

from fastml_kit.plots.style import BLUE, GREY, ORANGE, SERIES, Figure


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


def estimates(points: Mapping[str, Sequence[tuple[str, float, float]]]) -> Figure:
    """Draw how far estimates lie from counts: for each who estimates, (kind, estimate, counted).

    One place a kind of layer, in the order of first appearance. Where 0 was estimated there is no
    ratio to draw; those stand at the bottom, on a line that says so.
    """
    kinds = list(dict.fromkeys(kind for given in points.values() for kind, _, _ in given))
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axis = figure.subplots()
    ratios = [part / whole for given in points.values() for _, part, whole in given if part]
    lowest = min([0.5, *ratios]) / 2.5
    axis.axhspan(0.8, 1.25, color=GREY, alpha=0.2, linewidth=0, label="within a quarter")
    axis.axhline(1, color="black", linewidth=1)
    axis.axhline(lowest, color=GREY, linestyle=":", linewidth=1)
    for series, (who, given) in enumerate(points.items()):
        shift = 0.3 * (series - (len(points) - 1) / 2)
        spread = np.linspace(-0.08, 0.08, len(given))
        x = [
            kinds.index(kind) + shift + aside
            for (kind, _, _), aside in zip(given, spread, strict=True)
        ]
        y = [part / whole if part else lowest for _, part, whole in given]
        axis.scatter(x, y, s=22, color=SERIES[series], marker="os^D"[series], label=who, zorder=3)
    axis.set_yscale("log")
    axis.set_yticks([0.1, 0.2, 0.5, 1, 2, 5], ["1/10", "1/5", "1/2", "1", "2", "5"], minor=False)
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_ylim(lowest / 1.3, max([2, *ratios]) * 1.3)
    axis.text(len(kinds) - 0.45, lowest, "0 estimated", va="center", fontsize=8)
    axis.set_xticks(range(len(kinds)), kinds, fontsize=8)
    axis.set_xlim(-0.5, len(kinds) - 0.5)
    axis.set(ylabel="LUTs estimated / counted")
    figure.legend(loc="outside upper center", ncols=len(points) + 1, fontsize=8, frameon=False)
    return figure


def utilisation(used: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """Draw what share of each part a design fills: ``used[part][resource] = (used, available)``."""
    figure = Figure(figsize=(7, 0.8 + 0.35 * sum(map(len, used.values()))), layout="constrained")
    axis = figure.subplots()
    labels: list[str] = []
    colours = cycle(SERIES)
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
