"""Figures from data and records. Each function returns the figure and shows nothing."""

from fastml_kit.plots.circuits import estimates, folding, folds, pipelining, utilisation
from fastml_kit.plots.learning import (
    confusion,
    ranges,
    samples,
    staircase,
    training,
    weights_on_grid,
)
from fastml_kit.plots.results import ladder, zoo
from fastml_kit.plots.style import BLUE, GREEN, GREY, ORANGE, RED, SERIES, Figure, svg

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "RED",
    "SERIES",
    "Figure",
    "confusion",
    "estimates",
    "folding",
    "folds",
    "ladder",
    "pipelining",
    "ranges",
    "samples",
    "staircase",
    "svg",
    "training",
    "utilisation",
    "weights_on_grid",
    "zoo",
]
