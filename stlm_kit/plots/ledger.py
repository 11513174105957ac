"""The ledger as one picture: what was published against what was found, over many orders of magnitude."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from stlm_kit.plots.style import PALETTE, figure, house_style

# In the order of drawing, so that what disagrees lies on top of what agrees.
VERDICT_COLOURS = {
    "setting": PALETTE[7],
    "exact": PALETTE[0],
    "within_tolerance": PALETTE[5],
    "predicted": PALETTE[2],
    "measured": PALETTE[6],
    "underdetermined": PALETTE[4],
    "contradicted": PALETTE[1],
}
NAMED_FROM = 0.005  # decades: a point nearer to the diagonal lies on it to the eye and gets no name
LEADER = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkB": 3}


class Point(NamedTuple):
    """One published number beside one reading of what was found."""

    id: str
    published: float
    found: float
    verdict: str

    @property
    def decades(self) -> float:
        """How far found lies above published, in powers of ten."""
        return math.log10(self.found / self.published)


def points(rows: Iterable[Mapping[str, Any]]) -> list[Point]:
    """The positive numbers of `ledger.rows()` that a logarithmic axis can show; yes or no, text and zero cannot.

    A claim read in several ways gives a point for each reading, a list one for each element. A published range stands
    at its geometric mean; a number found inside it is drawn on the diagonal, where it belongs.
    """
    found = []
    for row in rows:
        readings = row["found"].values() if isinstance(row["found"], dict) else [row["found"]]
        pairs = [pair for reading in readings for pair in _pairs(row["published"], reading)]
        found += [Point(row["id"], *pair, row["verdict"]) for pair in pairs]
    return found


def _pairs(published: Any, found: Any) -> list[tuple[float, float]]:
    """(published, found) for each number of the two that can be set beside each other."""
    if isinstance(published, list) and isinstance(found, list):
        matched = zip(published, found, strict=False) if len(published) == len(found) else []
        return [pair for theirs, ours in matched for pair in _pairs(theirs, ours)]
    if isinstance(published, list) and len(published) == 2 and all(map(_positive, published)) and _positive(found):
        low, high = sorted(published)
        return [(float(found), float(found))] if low <= found <= high else [(math.sqrt(low * high), float(found))]
    return [(float(published), float(found))] if _positive(published) and _positive(found) else []


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


@house_style
def published_found(
    rows: Iterable[Mapping[str, Any]], labels: int = 5, title: str = "published against found, each in its own unit"
) -> Figure:
    """Every number of `ledger.rows()` on two logarithmic axes, coloured by verdict; agreement is the diagonal.

    labels: how many contradicted claims are named, those farthest from the diagonal first, once each.
    """
    shown = points(rows)
    new, axes = figure(size=(7, 4))
    for verdict, colour in VERDICT_COLOURS.items():
        group = [point for point in shown if point.verdict == verdict]
        if group:
            claims = len({point.id for point in group})
            axes.scatter(
                [point.published for point in group], [point.found for point in group], color=colour, s=18, alpha=0.8,
                linewidths=0, zorder=3, label=f"{verdict.replace('_', ' ')} ({claims})",
            )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="published", ylabel="found", title=title)
    if shown:
        ends = [min(min(p.published, p.found) for p in shown) / 2, max(max(p.published, p.found) for p in shown) * 2]
        axes.plot(ends, ends, color="#777777", linewidth=0.8, zorder=1)
        axes.set(xlim=ends, ylim=ends)
        axes.legend(title="verdict (claims)", loc="upper left", bbox_to_anchor=(1, 1))
    named = _farthest(shown, labels)
    for side in (True, False):  # names stand in the two empty corners, in the order of their points, so no lines cross
        column = sorted((point for point in named if (point.decades > 0) == side), key=lambda point: -point.found)
        for place, point in enumerate(column):
            corner = (0.03, 0.94 - 0.07 * place) if side else (0.97, 0.07 * (len(column) - place))
            axes.annotate(
                point.id, (point.published, point.found), xytext=corner, textcoords="axes fraction", fontsize=8,
                ha="left" if side else "right", va="center", zorder=4, arrowprops=LEADER,
            )  # fmt: skip
    return new


def _farthest(shown: list[Point], number: int) -> list[Point]:
    """The contradicted points to be named: the farthest from the diagonal, one a claim."""
    farthest: dict[str, Point] = {}
    for point in sorted(shown, key=lambda point: -abs(point.decades)):
        if point.verdict == "contradicted" and abs(point.decades) > NAMED_FROM:
            farthest.setdefault(point.id, point)
    return list(farthest.values())[:number]
