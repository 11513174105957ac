"""Two plain pictures that several chapters share: lines over a quantity, bars in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from stlm_kit.plots.style import PALETTE, describe, figure, house_style


@house_style
def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    title: str = "",
    log_x: bool = False,
) -> Figure:
    """Lines, with dots where these are few: {name: (x, y)}; a logarithmic x axis (base 2) on demand."""
    new, axes = figure(size=(7, 2.8))
    for name, (x, y) in series.items():
        axes.plot(x, y, "o-" if len(x) <= 30 else "-", markersize=4, label=name)
    if log_x:
        axes.set_xscale("log", base=2)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.legend()
    paths = [f"{name}: from {_point(x, y, 0)} to {_point(x, y, -1)}" for name, (x, y) in series.items() if len(x)]
    across = f"{xlabel}, on a logarithmic axis" if log_x else xlabel
    return describe(new, f"Lines of {ylabel} over {across}. {'; '.join(paths)}.")


def _point(x: Sequence[float], y: Sequence[float], place: int) -> str:
    return f"{y[place]:,.4g} at {x[place]:,.6g}"


@house_style
def grouped_bars(values: Mapping[str, Mapping[str, float]], ylabel: str, title: str = "") -> Figure:
    """Bars side by side: {group: {bar: height}}; the height is written above each bar."""
    new, axes = figure(size=(7, 2.8))
    names = list(dict.fromkeys(name for group in values.values() for name in group))
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        places = [j + (i - (len(names) - 1) / 2) * width for j, group in enumerate(values.values()) if name in group]
        heights = [group[name] for group in values.values() if name in group]
        bars = axes.bar(places, heights, 0.94 * width, label=name, color=PALETTE[i % len(PALETTE)])
        axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=1)
    axes.set(xticks=range(len(values)), ylabel=ylabel, title=title)
    axes.set_xticklabels(values)
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.14)
    if len(names) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    groups = [
        f"{label or 'all'}: " + ", ".join(f"{name} {height:,.2f}" for name, height in group.items())
        for label, group in values.items()
    ]
    return describe(new, f"Bars of {ylabel}. {'; '.join(groups)}.")
