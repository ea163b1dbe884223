"""Figures of results: the ladder, and published models."""

from collections.abc import Sequence

from fastml_kit.plots.style import GREEN, ORANGE, RED, SERIES, Figure


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
