"""Results of distilled students: the loss that they are trained on, beside a score that compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stlm_kit.errors import UsageError
from stlm_kit.plots.style import PALETTE, describe, figure, house_style

LINES = ("-", "--", "-.", ":")
Line = tuple[Sequence[float], Sequence[float]]  # x, y


@house_style
def loss_and_held_out(arms: Mapping[str, Sequence[Mapping[str, Any]]], loss: str = "loss") -> Figure:
    """One picture drawn twice: the training loss of students (left), and their held-out bits per byte (right).

    arms: {arm: metrics of each of its runs}, those of a result row with "curve", the mean loss of each "curve_steps"
    steps, and "held_out", pairs of a step and its bits per byte. A thin line is a run, a thick one an arm's mean.
    loss: the name of the training loss.
    Raises UsageError for an arm without runs and for a run that kept no evaluations.
    """
    for name, runs in arms.items():
        if not runs:
            raise UsageError(f"The arm {name!r} has no runs; leave it out.")
        if any("held_out" not in metrics for metrics in runs):
            raise UsageError(f"A run of the arm {name!r} kept no evaluations; train it with eval_every.")
    new, (left, right) = figure(1, 2, size=(9.5, 3.2))
    said = []
    for place, (name, runs) in enumerate(arms.items()):
        style = {"color": PALETTE[place % 7], "linestyle": LINES[place % 4]}
        losses, scores = [_losses(metrics) for metrics in runs], [_scores(metrics) for metrics in runs]
        ends = [_draw(axes, lines, name, style) for axes, lines in ((left, losses), (right, scores))]
        said.append(f"{name} {ends[0]:.3g} nats and {ends[1]:.3f} bits")
    left.set(xlabel="step", ylabel="nats per token", title=f"what is trained on: {loss}")
    right.set(xlabel="step", ylabel="bits per byte", title="what can be compared: held-out text")
    right.legend()
    return describe(new, f"Training loss ({loss}) and held-out bits per byte over the steps; ends: {'; '.join(said)}.")


def _losses(metrics: Mapping[str, Any]) -> Line:
    each, curve = metrics["curve_steps"], metrics["curve"]
    return [each * (place + 0.5) for place in range(len(curve))], curve


def _scores(metrics: Mapping[str, Any]) -> Line:
    steps, scores = zip(*metrics["held_out"], strict=True)
    return steps, scores


def _draw(axes: Axes, lines: Sequence[Line], name: str, style: Mapping[str, Any]) -> float:
    """Draw each run and the mean of all; return where the mean ends."""
    if len(lines) > 1:
        for x, y in lines:
            axes.plot(x, y, linewidth=0.6, alpha=0.45, **style)
    mean = [sum(values) / len(values) for values in zip(*(y for _, y in lines), strict=True)]
    axes.plot(lines[0][0], mean, label=name, **style)
    return mean[-1]
