"""The ledger as one picture: how far what was found lies from what was published, verdict by verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from stlm_kit.plots.style import PALETTE, describe, figure, house_style

VERDICT_COLOURS = {
    "setting": PALETTE[7],
    "exact": PALETTE[0],
    "within_tolerance": PALETTE[5],
    "predicted": PALETTE[2],
    "measured": PALETTE[6],
    "underdetermined": PALETTE[4],
    "contradicted": PALETTE[1],
}
NAMED_FROM = 0.005  # decades: a number nearer to the published one looks equal to it and gets no name
COLUMN = 0.03  # decades: numbers as near to each other as this are stacked, so that none hides another
TALLEST = 7  # dots in a stack; a number says how many more there are
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
    at its geometric mean; a number found inside it counts as equal to it.
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
    rows: Iterable[Mapping[str, Any]], labels: int = 5, title: str = "found over published, one dot for each number"
) -> Figure:
    """The numbers of `ledger.rows()`, a line for each verdict; agreement is 1. Near dots are stacked.

    A value of a configuration that a preset uses (a row of kind "config") is no finding and is left out. labels: how
    many contradicted claims are named, those farthest from 1 first, once each.
    """
    shown = points(row for row in rows if row.get("kind") != "config")
    lines = [verdict for verdict in reversed(VERDICT_COLOURS) if any(point.verdict == verdict for point in shown)]
    new, axes = figure(size=(7, 1.2 + 0.6 * max(1, len(lines))))
    axes.axvline(1, color="#777777", linewidth=0.8, zorder=1)
    for height, verdict in enumerate(reversed(lines)):
        group = [point for point in shown if point.verdict == verdict]
        axes.scatter(
            *zip(*_stacked(group, height), strict=True), color=VERDICT_COLOURS[verdict], s=14, linewidths=0, zorder=3
        )
        for column, count in Counter(map(_column, group)).items():
            if count > TALLEST:
                place = (10 ** (COLUMN * (column + 0.7)), height + 0.3)
                axes.annotate(f"+ {count - TALLEST}", place, fontsize=8, va="center")
    names = [f"{verdict.replace('_', ' ')} ({_claims(shown, verdict)})" for verdict in reversed(lines)]
    axes.set_yticks(range(len(lines)), names)
    axes.set(xscale="log", xlabel="found / published", title=title, ylim=(-0.3, len(lines) + 0.6))
    axes.grid(axis="y", visible=False)
    for place, point in enumerate(sorted(_farthest(shown, labels), key=lambda point: point.decades)):
        corner = (0.02 + 0.2 * place, 0.99 - 0.07 * (place % 3))
        axes.annotate(
            point.id, (point.found / point.published, len(lines) - 1), xytext=corner, textcoords="axes fraction",
            fontsize=7, va="center", zorder=4, arrowprops=LEADER,
        )  # fmt: skip
    return describe(new, _in_words(shown, names))


def _in_words(shown: list[Point], names: list[str]) -> str:
    """The picture for readers who cannot see it. names: those of the rows, from the lowest up."""
    if not shown:
        return "An empty logarithmic axis of found over published: no claim has a number yet."
    near = sum(abs(point.found / point.published - 1) <= 0.01 for point in shown)
    words = f"""Dots on a logarithmic axis of found over published, in a row for each verdict with its number of claims,
        from the lowest up: {", ".join(names)}. {near} of {len(shown)} numbers agree within 1 %."""
    far = [f"{point.id} at {point.found / point.published:.2g}" for point in _farthest(shown, 3)]
    return words + (f" Farthest from 1 are the contradicted {', '.join(far)}." if far else "")


def _column(point: Point) -> int:
    """The stack that a number stands in."""
    return round(point.decades / COLUMN)


def _stacked(group: list[Point], height: float) -> list[tuple[float, float]]:
    """(x, y) of a dot for each number: in a stack the nearest to 1 lies lowest; only the first few are drawn."""
    seen: Counter[int] = Counter()
    dots = []
    for point in sorted(group, key=lambda point: abs(point.decades)):
        if (place := seen[_column(point)]) < TALLEST:
            dots.append((10 ** (COLUMN * _column(point)), height + 0.11 * place))
        seen[_column(point)] += 1
    return dots


def _claims(shown: list[Point], verdict: str) -> int:
    """How many claims the points of a verdict belong to."""
    return len({point.id for point in shown if point.verdict == verdict})


def _farthest(shown: list[Point], number: int) -> list[Point]:
    """The contradicted points to be named: the farthest from 1, one a claim."""
    farthest: dict[str, Point] = {}
    for point in sorted(shown, key=lambda point: -abs(point.decades)):
        if point.verdict == "contradicted" and abs(point.decades) > NAMED_FROM:
            farthest.setdefault(point.id, point)
    return list(farthest.values())[:number]
