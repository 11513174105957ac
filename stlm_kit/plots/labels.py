"""Names beside points, moved until none covers another name, a point, or its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

GAP = 6  # points between a point and its name
FARTHEST = 20  # lines up or down that a name may be moved


def name_points(
    axes: Axes,
    points: Sequence[tuple[str, float, float, float, float]],
    line: Sequence[tuple[float, float]] = (),
    size: float = 8,
) -> None:
    """Write the name of each point beside it, with a thin line to a name that stands farther away.

    points: (name, x, y, lowest y, highest y) in data coordinates; names keep off the span from lowest to highest, too,
    and off a drawn line through the points of `line`.
    The figure must be laid out for good, and the limits of the axes set: what moves the points later moves them away
    from their names. A name that finds no free place stands right of its point.
    """
    pixels = axes.figure.dpi / 72
    taken = [_around(axes, x, low, high, 3.5 * pixels) for _, x, _, low, high in points] + _along(axes, line)
    for name, x, y, *_ in sorted(points, key=lambda point: -point[2]):
        style = {"textcoords": "offset points", "va": "center", "fontsize": size}
        text = axes.annotate(name, (x, y), xytext=(0, 0), annotation_clip=False, **style)
        text.set_in_layout(False)
        box = text.get_window_extent()
        wide, high = box.width / pixels, box.height / pixels
        across, along = axes.transData.transform((x, y))
        for right, up in (*_places(wide, 0.6 * high), (GAP, 0.0)):
            corner = (across + pixels * right, along + pixels * (up - high / 2))
            placed = Bbox.from_bounds(*corner, box.width, box.height).padded(1)  # letters are rounded to whole pixels
            if _within(axes.bbox, placed) and not any(placed.overlaps(other) for other in taken):
                break
        text.set_position((right, up))
        taken.append(placed)
        if abs(up) > 0.7 * high or right not in (GAP, -GAP - wide):
            end = (right if right > 0 else right + wide, up)
            thin = {"arrowstyle": "-", "color": "#777777", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            axes.annotate("", (x, y), xytext=end, textcoords="offset points", arrowprops=thin).set_in_layout(False)


def _places(wide: float, step: float) -> Iterator[tuple[float, float]]:
    """(right, up) of a name's left end and middle from its point, in points, the nearest first."""
    yield from ((GAP, 0.0), (-GAP - wide, 0.0))
    for away in range(1, FARTHEST + 1):
        beside = GAP if away < 3 else 2.5 * GAP  # farther away, room for a line
        for up in (away * step, -away * step):
            yield from ((beside, up), (-beside - wide, up))


def _around(axes: Axes, x: float, low: float, high: float, margin: float) -> Bbox:
    (left, bottom), (_, top) = axes.transData.transform([(x, low), (x, high)])
    return Bbox.from_extents(left - margin, bottom - margin, left + margin, top + margin)


def _along(axes: Axes, line: Sequence[tuple[float, float]]) -> list[Bbox]:
    """Small boxes along a line."""
    corners, boxes = axes.transData.transform(line) if len(line) else [], []
    for (x, y), (to_x, to_y) in pairwise(corners):
        pieces = 1 + int(max(abs(to_x - x), abs(to_y - y)) / 3)
        for piece in range(pieces):
            middle = (x + (to_x - x) * piece / pieces, y + (to_y - y) * piece / pieces)
            boxes.append(Bbox.from_bounds(middle[0] - 1.5, middle[1] - 1.5, 3, 3))
    return boxes


def _within(outer: Bbox, inner: Bbox) -> bool:
    return outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1
