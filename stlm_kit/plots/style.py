"""The house style: colours, sizes, and how a figure is made without touching matplotlib's global settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.figure import Figure

from stlm_kit.plots.picture import SHOWN_DPI, Picture, show_here

# The hues of Okabe and Ito's palette, which are told apart with any common kind of colour blindness, at lightnesses
# that are also told apart in grey: no two are nearer than 6 of the 100 steps from black to white (CIE L*).
PALETTE = ("#075B8F", "#C05401", "#029A70", "#7B0B56", "#FFB219", "#56B4E9", "#000000", "#999999")

STYLE = {
    "figure.figsize": (7, 3),
    "figure.dpi": SHOWN_DPI,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "image.cmap": "Blues",
}


def house_style(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator: draw in the house style, leaving the reader's own matplotlib settings as they were."""

    @wraps(plot)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(STYLE):
            new = plot(*args, **kwargs)
            new.draw_without_rendering()  # ticks are made when first drawn, and should be made in this style
            return new

    return drawn


def figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] | None = None, **kwargs: Any
) -> tuple[Figure, Any]:
    """(Figure, axes) like `pyplot.subplots`, already closed: a cell shows it once, when it ends in the Figure.

    A notebook shows it by picture.py, which stores the text that `describe` gave it.
    """
    show_here()
    new, axes = pyplot.subplots(rows, columns, figsize=size, FigureClass=Picture, **kwargs)
    pyplot.close(new)
    return new, axes


def describe(drawn: Figure, words: str) -> Figure:
    """Give a figure its alternative text: what is drawn and what it shows, for readers who cannot see it."""
    drawn.alternative_text = " ".join(words.split())
    return drawn
