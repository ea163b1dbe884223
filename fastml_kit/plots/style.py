"""What all figures share: colours, and a figure that notebooks show as SVG.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; meaning never hangs on
colour alone.
"""

import io

from matplotlib import figure as mpl_figure
from matplotlib import rc_context

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
