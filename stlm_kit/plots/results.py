"""Results of several arms side by side: every run as a faint point, means with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from matplotlib.figure import Figure

from stlm_kit.plots.style import PALETTE, describe, figure, house_style


class Measured(Protocol):
    """Values of one arm, and their mean ± half (both None where there is too little); see tables/intervals.py."""

    values: Sequence[float]
    mean: float | None
    half: float | None


@house_style
def estimates(panels: Mapping[str, Sequence[tuple[str, Measured]]], ylabel: str = "", title: str = "") -> Figure:
    """One panel a metric, one line an arm: {metric: [(arm, what was measured), ...]}, the same arms in each.

    A dot is a mean, a bar its 95 % interval (none where there is one run), a faint point a run. An arm without a value
    keeps its line, empty.
    """
    arms = [name for name, _ in next(iter(panels.values()))]
    longest = max(map(len, arms))
    size = (3.2 * len(panels) + 0.075 * longest, 0.9 + 0.24 * max(len(arms), 3))
    new, axes = figure(1, len(panels), size=size, sharey=True, squeeze=False)
    for axis, (metric, measured) in zip(axes[0], panels.items(), strict=True):
        for place, (_, found) in enumerate(measured):
            if found.mean is None:
                continue
            axis.plot(found.values, [place] * len(found.values), "o", color=PALETTE[7], markersize=4, alpha=0.45)
            width = None if found.half is None else [found.half]
            axis.errorbar([found.mean], [place], xerr=width, fmt="o", color=PALETTE[0], markersize=5, capsize=3)
        axis.set(xlabel=metric.replace("_", " "))
        axis.grid(axis="y", visible=False)
        axis.margins(x=0.08)
        axis.locator_params(axis="x", nbins=5)
    first = axes[0][0]
    first.set(yticks=range(len(arms)), ylim=(len(arms) - 0.4, -0.6), ylabel=ylabel.replace("_", " "))
    first.set_yticklabels(arms, fontsize=8)
    if title:
        new.suptitle(title, fontsize=10)
    means = (
        f"{metric.replace('_', ' ')}: "
        + ", ".join(f"{arm} {found.mean:.4g}" for arm, found in measured if found.mean is not None)
        for metric, measured in panels.items()
    )
    return describe(new, f"The mean of each arm with its 95 % interval and every run. {'; '.join(means)}.")
