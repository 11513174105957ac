"""The six pictures of a memory study: what each technique takes and what it costs, from cells.

A cell is a mapping: technique, batch_size, window, found ("measured", "predicted", or "recorded": by the study itself),
peak_mib; and where it was timed rows_per_second, slowest, fastest (rows a second too) and place, the device and profile
of the timing. Times of two places are never drawn into one picture: KitError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from stlm_kit.errors import KitError
from stlm_kit.plots.style import PALETTE, describe, figure, house_style

Cell = Mapping[str, Any]
# Filled and solid: measured here. Hollow and dashed: predicted. Crosses and dots: as the study recorded it.
MARKS = {
    "measured": {"marker": "o", "linestyle": "-"},
    "predicted": {"marker": "s", "linestyle": "--", "markerfacecolor": "none", "markersize": 7},
    "recorded": {"marker": "x", "linestyle": ":"},
}
HATCHES = {"measured": "", "predicted": "////", "recorded": "...."}
NO_WINDOW = "none"
PEAK, SPEED = "peak_mib", "rows_per_second"


def one_place(cells: Iterable[Cell]) -> str:
    """Where the times were taken; "" where there are none. KitError, naming them, where that is more than one place."""
    places = sorted({cell["place"] for cell in cells if cell.get("rows_per_second")})
    if len(places) > 1:
        raise KitError(f"Times were taken in {len(places)} places ({'; '.join(places)}); compare each by itself.")
    return places[0] if places else ""


def pareto(cells: Sequence[Cell]) -> list[Cell]:
    """The timed cells that no other beats in memory and in speed at once, the fastest first."""
    front: list[Cell] = []
    for cell in sorted(timed(cells), key=lambda cell: (-cell["rows_per_second"], cell["peak_mib"])):
        if not front or cell["peak_mib"] < front[-1]["peak_mib"]:
            front.append(cell)
    return front


def timed(cells: Iterable[Cell]) -> list[Cell]:
    """The cells that have a time."""
    return [cell for cell in cells if cell.get("rows_per_second")]


@house_style
def memory_against_batch(cells: Sequence[Cell], title: str = "memory against batch size") -> Figure:
    """Peak MiB at each batch size, a line a technique."""
    new, axes = figure(size=(7, 3.4))
    _draw(axes, cells, "batch_size", "peak_mib")
    axes.set(xlabel="rows in a batch", ylabel="peak, MiB", ylim=(0, None), title=title)
    return describe(_finish(new, axes, cells), f"Peak memory in MiB against rows in a batch. {_extremes(cells, PEAK)}")


@house_style
def speed_against_batch(cells: Sequence[Cell], title: str = "speed against batch size") -> Figure:
    """Rows a second at each batch size, with the slowest and the fastest step where several were timed."""
    place, shown = one_place(cells), timed(cells)
    new, axes = figure(size=(7, 3.4))
    _draw(axes, shown, "batch_size", "rows_per_second")
    for cell in shown:
        if cell.get("slowest"):
            colour = _colours(cells)[cell["technique"]]
            axes.vlines(cell["batch_size"], cell["slowest"], cell["fastest"], color=colour, linewidth=0.8, alpha=0.6)
    axes.set(xlabel="rows in a batch", ylabel="rows a second", ylim=(0, None), title=f"{title} ({place})")
    words = f"Speed in rows a second against rows in a batch, timed on {place}. {_extremes(shown, SPEED)}"
    return describe(_finish(new, axes, shown, cells), words)


@house_style
def trade_off(cells: Sequence[Cell], title: str = "memory against speed") -> Figure:
    """Each timed cell by speed and memory, its batch size beside it; a line joins those that none beats in both."""
    place, shown = one_place(cells), timed(cells)
    colours = _colours(cells)
    new, axes = figure(size=(7, 3.6))
    named: list[Cell] = []
    for cell in shown:
        mark = MARKS[cell["found"]]["marker"]
        where = (cell["rows_per_second"], cell["peak_mib"])
        axes.plot(*where, mark, color=colours[cell["technique"]], markersize=6)
        if not any(_beside(cell, other) for other in named):
            named.append(cell)
            axes.annotate(str(cell["batch_size"]), where, xytext=(4, 3), textcoords="offset points", fontsize=7)
    front = pareto(shown)
    speeds, peaks = [cell["rows_per_second"] for cell in front], [cell["peak_mib"] for cell in front]
    axes.plot(speeds, peaks, color="#777777", linewidth=1, zorder=1, label="Pareto front")
    axes.set(xlabel="rows a second", ylabel="peak, MiB", ylim=(0, None), title=f"{title} ({place})")
    unbeaten = ", ".join(f"{cell['technique']} at {cell['batch_size']} rows" for cell in front) or "none"
    words = f"Peak memory in MiB against rows a second, timed on {place}. Beaten by no other cell in both: {unbeaten}."
    return describe(_finish(new, axes, shown, cells), words)


@house_style
def technique_comparison(cells: Sequence[Cell], batch_size: int | None = None) -> Figure:
    """Each technique's peak (left) and speed (right) at one batch size: the largest, unless another is given."""
    place = one_place(cells)
    batch_size = batch_size or max((cell["batch_size"] for cell in cells), default=0)
    at = [cell for cell in cells if cell["batch_size"] == batch_size]
    new, (left, right) = figure(1, 2, size=(9, 3.2), sharey=True)
    techniques = list(_colours(at))
    for axes, quantity, label in ((left, "peak_mib", "peak, MiB"), (right, "rows_per_second", "rows a second")):
        kinds = [kind for kind in MARKS if any(cell["found"] == kind and cell.get(quantity) for cell in at)]
        height = 0.8 / max(len(kinds), 1)
        for i, kind in enumerate(kinds):
            found = [cell for cell in at if cell["found"] == kind and cell.get(quantity)]
            places = [techniques.index(cell["technique"]) + (i - (len(kinds) - 1) / 2) * height for cell in found]
            colour = [_colours(cells)[cell["technique"]] for cell in found]
            fill = "none" if kind == "predicted" else colour
            bars = axes.barh(
                places, [cell[quantity] for cell in found], 0.92 * height, color=fill,
                edgecolor=colour, hatch=HATCHES[kind], alpha=0.85, label=kind,
            )  # fmt: skip
            axes.bar_label(bars, fmt="{:,.0f}" if quantity == "peak_mib" else "{:,.1f}", fontsize=7, padding=2)
        axes.set(xlabel=label)
        axes.margins(x=0.15)
        axes.grid(axis="y", visible=False)
    left.set(yticks=range(len(techniques)), title=f"peak at {batch_size} rows")
    left.set_yticklabels(techniques)
    left.invert_yaxis()
    right.set(title=f"speed ({place})" if place else "speed (nothing timed)")
    _name_kinds(new, at)
    words = f"Bars a technique at {batch_size} rows: peak memory in MiB, and rows a second. {_extremes(at, PEAK)}"
    return describe(new, f"{words} {_extremes(at, SPEED)}")


@house_style
def windows(cells: Sequence[Cell], of: str = "flash") -> Figure:
    """What a window changes: peak (left) and speed (right) with windows and without, a line a batch size.

    of: the technique that the windows belong to, which has none itself.
    """
    place = one_place(cells)
    group = [cell for cell in cells if cell["technique"] == of or cell["window"]]
    sizes = sorted({cell["window"] for cell in group if cell["window"]})
    order = [NO_WINDOW, *(str(size) for size in reversed(sizes))]
    new, (left, right) = figure(1, 2, size=(9, 3))
    for axes, quantity, label in ((left, "peak_mib", "peak, MiB"), (right, "rows_per_second", "rows a second")):
        batches = sorted({cell["batch_size"] for cell in group})
        for colour, batch_size in zip(PALETTE * len(batches), batches, strict=False):
            for kind, mark in MARKS.items():
                found = {
                    str(cell["window"] or NO_WINDOW): cell[quantity]
                    for cell in group
                    if cell["batch_size"] == batch_size and cell["found"] == kind and cell.get(quantity)
                }
                points = [(order.index(window), value) for window, value in found.items()]
                if points:
                    axes.plot(*zip(*sorted(points), strict=True), color=colour, label=f"{batch_size} rows", **mark)
        axes.set(xticks=range(len(order)), xlabel="window, tokens before a token", ylabel=label, ylim=(0, None))
        axes.set_xticklabels(order)
    left.set(title="a window's peak")
    right.set(title=f"a window's speed ({place})" if place else "speed (nothing timed)")
    _legend(right, _handles(left))
    _name_kinds(new, group)
    words = (
        f"Peak memory in MiB and rows a second against the window in tokens ({', '.join(order)}), a line a batch size."
    )
    return describe(new, f"{words} {_extremes(group, PEAK)}")


@house_style
def savings(cells: Sequence[Cell], baseline: str = "fp32") -> Figure:
    """What each technique saves of the baseline's memory (left) and time (right), in %, at each batch size."""
    place = one_place(cells)
    new, (left, right) = figure(1, 2, size=(9, 3.2), sharey=False)
    for axes, saved, label in ((left, saved_memory, "memory saved, %"), (right, saved_time, "time saved, %")):
        for kind, mark in MARKS.items():
            group = [cell for cell in cells if cell["found"] == kind]
            for technique, colour in _colours(cells).items():
                found = {
                    cell["batch_size"]: saved(cell, group, baseline)
                    for cell in group
                    if cell["technique"] == technique != baseline
                }
                points = sorted((size, value) for size, value in found.items() if value is not None)
                if points:
                    axes.plot(*zip(*points, strict=True), color=colour, label=technique, **mark)
        axes.axhline(0, color="#777777", linewidth=0.8)
        axes.set(xlabel="rows in a batch", ylabel=label)
        _whole_batches(axes, cells)
    left.set(title=f"memory, beside {baseline}")
    right.set(title=f"time ({place})" if place else "time (nothing timed)")
    _legend(right, _handles(left))
    _name_kinds(new, cells)
    words = f"Memory and time saved against {baseline}, in %, at each number of rows in a batch, a line a technique."
    return describe(new, f"{words} {_extremes(cells, PEAK)}")


def saved_memory(cell: Cell, group: Iterable[Cell], baseline: str = "fp32") -> float | None:
    """How far a cell's peak lies below the baseline's at its batch size, in %; None where that has no cell."""
    other = _baseline(cell, group, baseline)
    return None if other is None else 100 * (1 - cell["peak_mib"] / other["peak_mib"])


def saved_time(cell: Cell, group: Iterable[Cell], baseline: str = "fp32") -> float | None:
    """How much less time a row takes than the baseline's, in %; None where one of them was not timed."""
    other = _baseline(cell, group, baseline)
    if other is None or not cell.get("rows_per_second") or not other.get("rows_per_second"):
        return None
    return 100 * (1 - other["rows_per_second"] / cell["rows_per_second"])


def _extremes(cells: Iterable[Cell], quantity: str) -> str:
    """For the alternative text: between which cells the values lie; "" where there are none."""
    found = sorted((cell for cell in cells if cell.get(quantity)), key=lambda cell: cell[quantity])
    unit = "MiB" if quantity == PEAK else "rows a second"
    ends = (
        f"{c[quantity]:,.0f} {unit} ({c['technique']} at {c['batch_size']} rows)" for c in (*found[:1], *found[-1:])
    )
    return f"From {' to '.join(ends)}." if found else ""


def _beside(one: Cell, other: Cell) -> bool:
    """Whether two cells of one batch size lie so near to each other that one number names both."""
    near = (abs(one[key] / other[key] - 1) < 0.06 for key in ("rows_per_second", "peak_mib"))
    return one["batch_size"] == other["batch_size"] and all(near)


def _baseline(cell: Cell, group: Iterable[Cell], baseline: str) -> Cell | None:
    same = (other for other in group if other["technique"] == baseline and other["batch_size"] == cell["batch_size"])
    return next(same, None)


def _colours(cells: Iterable[Cell]) -> dict[str, str]:
    techniques = dict.fromkeys(cell["technique"] for cell in cells)
    return dict(zip(techniques, PALETTE * (1 + len(techniques) // len(PALETTE)), strict=False))


def _draw(axes, cells: Sequence[Cell], x: str, y: str) -> None:
    """A line a technique and kind of finding."""
    for technique, colour in _colours(cells).items():
        for kind, mark in MARKS.items():
            points = sorted(
                (cell[x], cell[y]) for cell in cells if (cell["technique"], cell["found"]) == (technique, kind)
            )
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, label=technique, **mark)


def _finish(new: Figure, axes, shown: Sequence[Cell], cells: Sequence[Cell] | None = None) -> Figure:
    """Ticks at the batch sizes, one entry a technique in the legend, and what the marks mean."""
    if axes.get_xlabel() == "rows in a batch":
        _whole_batches(axes, shown)
    handles = _handles(axes)
    for technique, colour in _colours(cells or shown).items():
        if technique not in handles and any(cell["technique"] == technique for cell in shown):
            handles[technique] = axes.plot([], [], "o", color=colour)[0]
    _legend(axes, handles)
    _name_kinds(new, shown)
    return new


def _handles(axes) -> dict[str, Any]:
    """{label: one handle} of what was drawn: measured and predicted share a label."""
    return dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))


def _legend(axes, handles: Mapping[str, Any]) -> None:
    axes.legend(handles.values(), handles.keys(), loc="upper left", bbox_to_anchor=(1, 1))


def _whole_batches(axes, cells: Iterable[Cell]) -> None:
    sizes = sorted({cell["batch_size"] for cell in cells})
    axes.set_xticks(sizes, [str(size) for size in sizes])


def _name_kinds(new: Figure, cells: Iterable[Cell]) -> None:
    """Below the picture: how what was measured, predicted and recorded are drawn apart."""
    kinds = {cell["found"] for cell in cells}
    words = {"measured": "filled, solid: measured", "predicted": "hollow, dashed: predicted",
             "recorded": "crosses, dotted: recorded by the study"}  # fmt: skip
    new.supxlabel("; ".join(words[kind] for kind in MARKS if kind in kinds), fontsize=8, color="#555555")
