"""Results of models that share weights: against their size, along training, and what a low rank keeps of a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from stlm_kit.errors import UsageError
from stlm_kit.plots.labels import name_points
from stlm_kit.plots.results import Measured
from stlm_kit.plots.style import PALETTE, describe, figure, house_style

if TYPE_CHECKING:
    from torch import Tensor


def _styles() -> Iterator[tuple[str, Any]]:
    """(colour, line style), so that no two of 28 lines are alike, and neighbours differ without colour."""
    return zip(cycle(PALETTE[:7]), cycle(("-", "--", "-.", (0, (1, 1)))), strict=False)


@house_style
def against_size(
    panels: Mapping[str, Mapping[str, tuple[float, Measured]]],
    bases: Sequence[str] = (),
    ylabel: str = "held-out bits per byte",
    title: str = "",
) -> Figure:
    """Results of arms against their size: {what the size is: {arm: (size, what was measured)}}, one panel each.

    A dot is a mean, a bar its 95 % interval (none where there is one run), a faint point a run; sizes are on a
    logarithmic axis. bases: arms to compare with, drawn as squares and joined by a line in the order of their sizes.
    An arm without a value is left out. Raises UsageError for a base that is no arm and for a size that is not positive.
    """
    for measured in panels.values():
        if unknown := [name for name in bases if name not in measured]:
            raise UsageError(f"There is no arm {unknown[0]!r} to compare with; the arms are {', '.join(measured)}.")
        if wrong := [name for name, (size, _) in measured.items() if not size > 0]:
            raise UsageError(f"The size of {wrong[0]!r} is not above 0; leave it out.")
    panels = {
        xlabel: {name: (size, found) for name, (size, found) in measured.items() if found.mean is not None}
        for xlabel, measured in panels.items()
    }
    size = (max(5.0 * len(panels), 6), max(4, 0.2 * max(map(len, panels.values()))))
    new, row = figure(1, len(panels), size=size, sharey=True, squeeze=False)
    for axes, (xlabel, measured) in zip(row[0], panels.items(), strict=True):
        line = _joined(measured, bases)
        axes.plot([size for size, _ in line], [mean for _, mean in line], color=PALETTE[7], linewidth=1, zorder=1)
        for name, (size, found) in measured.items():
            axes.plot([size] * len(found.values), found.values, "o", color=PALETTE[7], markersize=3, alpha=0.5)
            bar = {"fmt": "s", "color": PALETTE[6]} if name in bases else {"fmt": "o", "color": PALETTE[0]}
            width = None if found.half is None else [found.half]
            axes.errorbar([size], [found.mean], yerr=width, markersize=5, capsize=2.5, elinewidth=1, **bar)
        axes.set_xscale("log")
        axes.set(xlabel=f"{xlabel} (logarithmic)", ylabel=ylabel if axes is row[0][0] else "")
        axes.margins(x=_room(measured), y=0.08)
        _plain_ticks(axes)
    if title:
        new.suptitle(title, fontsize=10)
    new.draw_without_rendering()
    new.set_layout_engine("none")  # the axes stay where they are now, so that names stay beside their points
    for axes, measured in zip(row[0], panels.values(), strict=True):
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
        points = [(name, size, *_span(found)) for name, (size, found) in measured.items()]
        name_points(axes, points, _joined(measured, bases))
    said = "; ".join(
        f"{xlabel}: " + ", ".join(f"{name} {found.mean:.4g} at {size:,.0f}" for name, (size, found) in measured.items())
        for xlabel, measured in panels.items()
    )
    line = f" A line joins {', '.join(bases)}." if bases else ""
    return describe(new, f"Means of {ylabel} with 95 % intervals, and every run, against the size. {said}.{line}")


def _room(names: Iterable[str]) -> float:
    """The margin of an x axis, as a share of its data, that holds the longest name on either side, up to 16 letters."""
    panel, longest = 320, 10 + 4.6 * max(map(len, names), default=0)  # in points
    return min(0.4, longest / max(1, panel - 2 * longest))


def _joined(measured: Mapping[str, tuple[float, Measured]], bases: Sequence[str]) -> list[tuple[float, float]]:
    """The points of the bases in the order of their sizes."""
    return sorted((size, found.mean) for name, (size, found) in measured.items() if name in bases)


def _span(found: Measured) -> tuple[float, float, float]:
    """(mean, lowest, highest) of what is drawn of an arm."""
    half = found.half or 0.0
    return found.mean, min(*found.values, found.mean - half), max(*found.values, found.mean + half)


def _plain_ticks(axes: Axes) -> None:
    """Few ticks on a logarithmic x axis, written as 200k or 1.5M instead of powers of ten."""
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


@house_style
def curves(
    arms: Mapping[str, Sequence[Mapping[str, Any]]],
    start: float | None = None,
    title: str = "training loss",
) -> Figure:
    """Training losses of arms: {arm: metrics of each of its runs}; left the whole training, right its start.

    metrics: those of a result row, with "steps", "tokens", "first_losses" and "curve", the mean loss of each
    "curve_steps" steps, in nats a token. x is the number of tokens trained on before a loss, in the middle of its
    steps. A thin line is a run, a thick one the mean of an arm's runs. On the right a ring is the loss before any
    update, a dot the first point of the curve. start: where the loss should begin (ln V), a dashed line.
    Raises UsageError for an arm without runs and for a run without a curve.
    """
    if empty := [name for name, runs in arms.items() if not runs]:
        raise UsageError(f"The arm {empty[0]!r} has no runs; leave it out.")
    new, (whole, begin) = figure(1, 2, size=(10, 3.4), width_ratios=(3, 2))
    said, ends, tops = [], [], []
    for (name, runs), (colour, line) in zip(arms.items(), _styles(), strict=False):
        drawn = [_curve(name, metrics) for metrics in runs]
        for axes in (whole, begin):
            for x, losses in drawn if len(drawn) > 1 else ():
                axes.plot(x, losses, color=colour, linewidth=0.6, alpha=0.45)
            x, losses = _mean(drawn)
            axes.plot(x, losses, linestyle=line, color=colour, label=name)
        first = _mean([_first(metrics) for metrics in runs])
        begin.plot(*first, ":", color=colour, linewidth=0.8)
        begin.plot(first[0][:1], first[1][:1], "o", color=colour, markersize=6, fillstyle="none")
        begin.plot(x[:1], losses[:1], "o", color=colour, markersize=5)
        ends.append(x[:2][-1])
        tops += [first[1][0], *losses[:2]]
        said.append(
            f"{name}: {first[1][0]:.2f} before any update, {losses[0]:.2f} at the first point, {losses[-1]:.2f}"
        )
    room = 0.08 * (max(tops) - min(tops))
    begin.set(xlim=(-0.04 * max(ends), max(ends)), ylim=(min(tops) - room, max([*tops, start or 0]) + room))
    if start is not None:
        for axes in (whole, begin):
            axes.axhline(start, color=PALETTE[7], linestyle="--", linewidth=1)
        begin.annotate("ln V", (1, start), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    whole.set(xlabel="tokens", ylabel="nats per token", title=title)
    begin.set(xlabel="tokens", title="its start (ring: before any update)")
    for axes in (whole, begin):
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.locator_params(axis="x", nbins=6)
    whole.legend(loc="upper right", bbox_to_anchor=(1, 0.94), ncols=1 + len(arms) // 9)  # below the line of ln V
    return describe(new, f"Training loss in nats per token over the tokens, from start to end: {'; '.join(said)}.")


def _curve(name: str, metrics: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """(tokens, losses) of a run's curve. The mean of steps 1 to n stands where (n - 1) / 2 updates are done."""
    if not (metrics.get("curve") and metrics.get("first_losses")):
        raise UsageError(f"A run of {name!r} keeps no losses of its training; repeat it, or leave it out.")
    each, a_step = metrics["curve_steps"], metrics["tokens"] / metrics["steps"]
    return [(i * each + (each - 1) / 2) * a_step for i in range(len(metrics["curve"]))], metrics["curve"]


def _first(metrics: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """(tokens, losses) of a run's first steps; the first loss is that before any update."""
    a_step = metrics["tokens"] / metrics["steps"]
    return [i * a_step for i in range(len(metrics["first_losses"]))], metrics["first_losses"]


def _mean(lines: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[list[float], list[float]]:
    """The mean of lines over the same x, as far as all of them go."""
    (x, _), *_ = lines
    means = [sum(values) / len(lines) for values in zip(*(y for _, y in lines), strict=False)]
    return list(x)[: len(means)], means


@house_style
def rank_against_error(
    matrices: Mapping[str, Tensor],
    ranks: Sequence[int] = (),
    shape: tuple[int, int] | None = None,
    title: str = "what the best matrix of a rank keeps",
) -> Figure:
    """The share of each matrix's squared norm that its nearest matrix of rank r keeps, against r.

    matrices: {name: a matrix, or its singular values}. By Eckart and Young (1936) the share is the sum of the r largest
    squared singular values over the sum of all. ranks: those to mark with a dot. A dotted line shows the rank
    a · b / (a + b) at which two factors hold as many numbers as an a by b matrix; shape gives (a, b) for singular
    values. Raises UsageError for other shapes, a matrix of zeros, and ranks out of range.
    """
    import torch

    shares, shapes = {}, {} if shape is None else {tuple(shape): None}
    for name, matrix in matrices.items():
        matrix = torch.as_tensor(matrix).detach().double().cpu()
        if matrix.ndim not in (1, 2):
            raise UsageError(f"{name!r} has shape {tuple(matrix.shape)}; give a matrix or its singular values.")
        if not matrix.any():
            raise UsageError(f"{name!r} holds nothing but zeros, so no rank keeps more than another; leave it out.")
        if matrix.ndim == 2:
            shapes[tuple(matrix.shape)] = None
            matrix = torch.linalg.svdvals(matrix)
        kept = matrix.sort(descending=True).values.square().cumsum(0)
        shares[name] = (100 * kept / kept[-1]).tolist()
    longest, shortest = (choose(map(len, shares.values())) for choose in (max, min))
    if wrong := [rank for rank in ranks if not 1 <= rank <= shortest]:
        raise UsageError(f"The rank {wrong[0]} is out of range; give ranks from 1 to {shortest}.")
    new, axes = figure(size=(8, 3.2))
    for (name, percent), (colour, line) in zip(shares.items(), _styles(), strict=False):
        axes.plot(range(1, len(percent) + 1), percent, linestyle=line, color=colour, label=name)
        axes.plot(ranks, [percent[rank - 1] for rank in ranks], "o", color=colour, markersize=4)
    even = {(a, b): a * b / (a + b) for a, b in dict.fromkeys(tuple(sorted(shape)) for shape in shapes)}
    for (a, b), rank in even.items():
        label = None if (a, b) != next(iter(even)) else "two factors hold fewer\nnumbers left of it"
        axes.axvline(rank, color=PALETTE[6], linestyle=":", linewidth=1, label=label)
        at = {"xycoords": ("data", "axes fraction"), "xytext": (-3, 0), "textcoords": "offset points"}
        axes.annotate(f"{a} × {b}: {rank:.0f}", (rank, 0.03), rotation=90, ha="right", fontsize=8, **at)
    axes.set(xlim=(0, longest + 1), ylim=(0, 103), xlabel="rank", ylabel="% of the squared norm kept", title=title)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    marked = ranks or sorted({max(1, shortest // 8), max(1, shortest // 2)})
    said = (
        f"{name}: " + ", ".join(f"{percent[rank - 1]:.0f} % at rank {rank}" for rank in marked)
        for name, percent in shares.items()
    )
    ends = [
        f" Two factors save parameters of a {a} by {b} matrix below rank {rank:.1f}." for (a, b), rank in even.items()
    ]
    return describe(new, f"The share of the squared norm kept, against the rank. {'; '.join(said)}.{''.join(ends)}")
