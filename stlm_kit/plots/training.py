"""How a run went: losses, schedules, and what the seed alone changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from matplotlib.figure import Figure

from stlm_kit.plots.style import PALETTE, describe, figure, house_style


@house_style
def losses(
    runs: Mapping[str, Sequence[Mapping[str, float]]] | Sequence[Mapping[str, float]],
    start: float | None = None,
    levels: Mapping[str, float] | None = None,
    title: str = "loss",
) -> Figure:
    """Training loss (line) and validation loss (dots) against the step, in nats a token.

    runs: rows of a run's metrics ({"step", "loss", "validation": ...}), or {name: rows}; more than 200 steps
    are drawn as a running mean over the noise. start: where the loss should begin (ln V), a dashed line.
    levels: {name: loss} of anything else to compare with, dashed lines too.
    """
    runs = runs if isinstance(runs, Mapping) else {"training": runs}
    new, axes = figure()
    for colour, (name, rows) in zip(PALETTE * (1 + len(runs) // len(PALETTE)), runs.items(), strict=False):
        trained = [(row["step"], row["loss"]) for row in rows if row.get("loss") is not None]
        if trained:
            steps, values = zip(*trained, strict=True)
            if len(steps) > 200:
                axes.plot(steps, values, color=colour, linewidth=0.5, alpha=0.25)
                values = running_mean(values, len(steps) // 50)
            axes.plot(steps, values, color=colour, label=name)
        validated = [(row["step"], validation_loss(row)) for row in rows if validation_loss(row) is not None]
        if validated:
            label = f"{name}, validation" if len(runs) > 1 else "validation"
            axes.plot(*zip(*validated, strict=True), "o--", color=colour, markersize=4, linewidth=0.8, label=label)
    marks = {**({} if start is None else {"ln V": start}), **(levels or {})}
    for name, level in marks.items():
        axes.axhline(level, color=PALETTE[7], linestyle="--", linewidth=1)
        axes.annotate(name, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    axes.set(xlabel="step", ylabel="nats per token", title=title)
    axes.legend()
    dashed = f" Dashed: {', '.join(f'{name} at {level:.2f}' for name, level in marks.items())}." if marks else ""
    return describe(new, f"Loss in nats per token over the step. {_ends(runs)}.{dashed}")


def _ends(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """In words, where each run's training loss begins and ends, and its last validation loss."""
    said = []
    for name, rows in runs.items():
        losses = [row["loss"] for row in rows if row.get("loss") is not None]
        validated = [validation_loss(row) for row in rows if validation_loss(row) is not None]
        parts = [f"from {losses[0]:.2f} to {losses[-1]:.2f}"] if losses else []
        parts += [f"validation {validated[-1]:.2f} at the end"] if validated else []
        said.append(f"{name}: {', '.join(parts)}")
    return "; ".join(said)


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """The mean of each value and its neighbours, `width` in all; near the ends of fewer, so that no slope is bent."""
    sums, last = [0.0, *accumulate(values)], len(values) - 1
    reach = [min(width // 2, i, last - i) for i in range(len(values))]
    return [(sums[i + r + 1] - sums[i - r]) / (2 * r + 1) for i, r in enumerate(reach)]


def validation_loss(row: Mapping[str, Any]) -> float | None:
    """The validation loss of a row of metrics, nats a token: a number, or from its "loss" or "perplexity"; or None."""
    value = row.get("validation")
    if not isinstance(value, Mapping):
        return value
    perplexity = value.get("perplexity")
    return value.get("loss", None if perplexity is None else math.log(perplexity))


@house_style
def schedule_and_loss(
    runs: Mapping[str, Sequence[Mapping[str, float]]], mean_over: int = 10, title: str = "training loss"
) -> Figure:
    """The learning rate of each step on the left, the loss that it led to on the right.

    runs: {name: rows of a run's metrics}. The loss, in nats a token, is drawn as its mean over the last `mean_over`
    steps, since that of a single batch jumps with its text; validation losses, where there are any, as dots.
    """
    new, (left, right) = figure(1, 2, size=(9, 3))
    for colour, (name, rows) in zip(PALETTE * (1 + len(runs) // len(PALETTE)), runs.items(), strict=False):
        steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
        means = [sum(losses[max(0, i + 1 - mean_over) : i + 1]) / min(i + 1, mean_over) for i in range(len(losses))]
        left.plot(steps, [row["learning_rate"] for row in rows], color=colour, label=name)
        right.plot(steps, means, color=colour, label=name)
        validated = [(row["step"], validation_loss(row)) for row in rows if validation_loss(row) is not None]
        if validated:
            right.plot(*zip(*validated, strict=True), "o", color=colour, markersize=5, label=f"{name}, validation")
    left.set(xlabel="step", ylabel="learning rate", title="learning rate", ylim=(0, None))
    right.set(xlabel="step", ylabel="nats per token", title=f"{title} (mean over {mean_over} steps)")
    right.legend()
    return describe(
        new, f"Left, the learning rate over the step; right, the loss in nats per token over the step. {_ends(runs)}."
    )


@house_style
def seeds(arms: Mapping[str, Sequence[float]], ylabel: str, title: str = "") -> Figure:
    """The results of several settings, a dot a seed: {setting: results in the order of the seeds}.

    A grey line joins the runs of one seed, which differ in nothing but the setting; the bar is a setting's mean.
    """
    new, axes = figure(size=(6, 3))
    for results in zip(*arms.values(), strict=True):
        axes.plot(range(len(arms)), results, color="#CCCCCC", linewidth=0.8, zorder=1)
    for place, (colour, results) in enumerate(zip(PALETTE * len(arms), arms.values(), strict=False)):
        axes.plot([place] * len(results), results, "o", color=colour, markersize=5, alpha=0.8)
        mean = sum(results) / len(results)
        axes.plot([place - 0.18, place + 0.18], [mean, mean], color=colour, linewidth=2.5)
    axes.set(xticks=range(len(arms)), xlim=(-0.5, len(arms) - 0.5), ylabel=ylabel, title=title)
    axes.set_xticklabels(arms)
    axes.grid(axis="x", visible=False)
    means = [f"{name} {sum(results) / len(results):.3f}" for name, results in arms.items()]
    return describe(
        new, f"Dots of {ylabel}, one for each seed, in a column for each setting. Means: {', '.join(means)}."
    )
