"""A picture of streams at work: when a word is there, when it is taken, and who waits for whom."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from fastml_kit.plots import BLUE, GREY, Figure
from fastml_kit.rtl.waves import Bits, Handshakes

#: What a stream does in a cycle. In grey shades too the three stay apart, and one is hatched.
STATES: dict[str, dict[str, Any]] = {
    "moved": {"facecolor": "#8FC3E4", "label": "a word passes"},
    "held": {"facecolor": "#F3C76B", "hatch": "/////", "label": "valid, not ready: the word waits"},
    "starved": {"facecolor": "#EEEEEE", "label": "ready, not valid: the taker waits"},
}
WIRES = {"valid": BLUE, "ready": "black"}


def handshakes(runs: Mapping[str, Mapping[str, Handshakes]], *, cycles: int) -> Figure:
    """Draw the first `cycles` of each run, a panel each: ``runs[title][stream]``.

    A stream has a lane with its two wires, *valid* above *ready*, each a line that is high or low;
    behind them lies what the two together mean.
    """
    lanes = max(map(len, runs.values()))
    figure = Figure(figsize=(9, len(runs) * (0.36 * lanes + 0.5) + 0.8), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(runs), 1, sharex=True))
    for axis, (title, streams) in zip(panels, runs.items(), strict=True):
        for lane, shaken in enumerate(streams.values()):
            _draw(axis, lane, shaken, cycles)
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_yticks(range(len(streams)), list(streams), fontsize=8)
        axis.set_ylim(len(streams) - 0.4, -0.6)
        axis.set_xlim(0, cycles)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    panels[-1].set_xlabel("clock cycles after the reset")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure


def _draw(axis: Axes, lane: int, shaken: Handshakes, cycles: int) -> None:
    """Draw one stream: its state as the lane's background, and both wires as lines."""
    for state, style in STATES.items():
        axis.broken_barh(
            _stretches(getattr(shaken, state)[:cycles]),
            (lane - 0.42, 0.84),
            **{"edgecolor": GREY, "linewidth": 0, **style, "label": "" if lane else style["label"]},
        )
    for (wire, colour), middle in zip(WIRES.items(), (lane - 0.2, lane + 0.2), strict=True):
        level = np.where(getattr(shaken, wire)[:cycles], middle - 0.15, middle + 0.15)
        axis.stairs(
            level, np.arange(len(level) + 1), baseline=None, color=colour, linewidth=1,
            label="" if lane else wire,
        )  # fmt: skip


def _stretches(bits: Bits) -> list[tuple[int, int]]:
    """Return where each run of ones begins, and how long it is."""
    edges = np.flatnonzero(np.diff(bits.astype(np.int8), prepend=0, append=0))
    return [(int(start), int(end - start)) for start, end in edges.reshape(-1, 2)]
