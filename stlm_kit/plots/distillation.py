"""What a teacher says about the next token, and what a student gets of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stlm_kit.errors import UsageError
from stlm_kit.plots.style import PALETTE, describe, figure, house_style
from stlm_kit.plots.text import label_of
from stlm_kit.plots.training import running_mean

if TYPE_CHECKING:
    from torch import Tensor

    from stlm_kit.teachers import Teacher

LAST = 64  # tokens of a sentence that the teacher reads: a tenth of a second with 135 million parameters
LINES = ("-", "--", "-.", ":")


@house_style
def next_tokens(teacher: Teacher, sentence: str, temperature: float = 1.0, n: int = 10) -> Figure:
    """What a teacher expects after a sentence at a temperature, beside temperature 1.

    Left the `n` most probable tokens, with outlines for temperature 1; a space is drawn as a dot. Right the probability
    that the most probable 1, 2, 3, ... tokens hold together, over their number on a logarithmic axis, with the number
    that holds 90 %. The probabilities are softmax(logits / temperature). The teacher reads the last 64 tokens.
    Raises UsageError for an empty sentence and for a temperature that is not above 0.
    """
    import torch

    if not sentence:
        raise UsageError("There is no sentence to go on from; type one.")
    if not temperature > 0:
        raise UsageError(f"The temperature {temperature} will not do; give one above 0.")
    where = next(teacher.model.parameters()).device
    read = torch.tensor([teacher.tokenizer.encode(sentence)[-LAST:]], device=where)
    logits = teacher.logits(read)[0, -1].double().cpu()
    plain, now = logits.softmax(-1), (logits / temperature).softmax(-1)
    tokens = plain.topk(n).indices
    words = [label_of(teacher.tokenizer.token_bytes(token)) for token in tokens.tolist()]
    heights, outlines = (100 * now[tokens]).tolist(), (100 * plain[tokens]).tolist()
    new, (top, together) = figure(1, 2, size=(8.5, 3.1), width_ratios=(3, 2))
    top.barh(range(n), heights, height=0.7, color=PALETTE[5])
    box = {"height": 0.7, "facecolor": "none", "edgecolor": PALETTE[0], "linewidth": 1.2}
    top.barh(range(n), outlines, label="at temperature 1", **box)
    for place, both in enumerate(zip(heights, outlines, strict=True)):
        top.annotate(f" {both[0]:.3g} %", (max(both), place), va="center", fontsize=8)
    top.set_yticks(range(n), words)
    top.invert_yaxis()
    top.margins(x=0.15)
    top.grid(False, axis="y")
    top.legend(loc="lower right")
    entropy = -torch.special.xlogy(now, now).sum().item()
    top.set(xlabel="% of the probability", title=f"temperature {temperature:g}: entropy {entropy:.2f} nats")
    counts = [_held(together, plain, 1, "--", PALETTE[0])]
    counts += [_held(together, now, temperature, "-", PALETTE[1])] if temperature != 1 else counts
    together.axhline(90, color=PALETTE[7], linewidth=1, linestyle=":")
    together.set_xscale("log")
    together.set(ylim=(0, 102), xlabel="number of tokens, the most probable first", title="% that they hold together")
    together.legend(loc="lower right")
    said = ", ".join(f"{word} {height:.3g} %" for word, height in zip(words, heights, strict=True))
    return describe(
        new,
        f"Bars of the {n} most probable tokens after {sentence!r} at temperature {temperature:g}: {said}. The entropy "
        f"is {entropy:.2f} nats. {counts[1]:,} tokens hold 90 % of the probability ({counts[0]:,} at temperature 1).",
    )


def _held(axes: Axes, p: Tensor, temperature: float, line: str, colour: str) -> int:
    """Draw what the most probable tokens hold together; return how many hold 90 %."""
    held = p.sort(descending=True).values.cumsum(0)
    count = int((held < 0.9).sum()) + 1
    label = f"T = {temperature:g}: {count:,} hold 90 %"
    axes.plot(range(1, len(p) + 1), (100 * held).tolist(), line, color=colour, label=label)
    return count


@house_style
def labels_and_entropy(tokens: Sequence[bytes], entropy: Sequence[float], label: Sequence[float]) -> Figure:
    """A text token by token: the entropy of a model's prediction of each (bar), and the nats of the token itself (dot).

    entropy, label: nats at each token, expected and found. The dashed lines are the two means.
    Raises UsageError where the three are not equally long.
    """
    if not len(tokens) == len(entropy) == len(label) > 0:
        raise UsageError(
            f"There are {len(tokens)} tokens, {len(entropy)} entropies and {len(label)} losses; give as many of each."
        )
    new, axes = figure(size=(8.5, 2.9))
    places, words = range(len(tokens)), [label_of(token) for token in tokens]
    axes.bar(places, entropy, color=PALETTE[5], label="entropy of the prediction")
    axes.plot(places, label, "o", color=PALETTE[1], markersize=4.5, label="cross-entropy of the token that came")
    means = [sum(values) / len(values) for values in (entropy, label)]
    for mean, colour in zip(means, (PALETTE[0], PALETTE[1]), strict=True):
        axes.axhline(mean, color=colour, linestyle="--", linewidth=1)
    axes.set_xticks(places, words, rotation=90)
    axes.set(ylabel="nats", xlim=(-0.7, len(tokens) - 0.3), title="what was expected, and what came")
    axes.grid(False, axis="x")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    highest, lowest = (choose(places, key=lambda place: entropy[place]) for choose in (max, min))
    return describe(
        new,
        f"Bars of the entropy of a prediction at {len(tokens)} tokens, in nats: {means[0]:.2f} on average, highest "
        f"before {words[highest]} ({entropy[highest]:.2f}), lowest before {words[lowest]} ({entropy[lowest]:.2f}). "
        f"Dots: the cross-entropy of the token that came, {means[1]:.2f} on average.",
    )


@house_style
def one_bump(x: Sequence[float], target: Sequence[float], fits: Mapping[str, Sequence[float]]) -> Figure:
    """A distribution (filled) and others that were fitted to it, over the same outcomes: {what was minimised: q}."""
    new, axes = figure(size=(7, 2.8))
    axes.fill_between(x, target, color="#DDDDDD", label="p, the teacher's")
    for place, (name, q) in enumerate(fits.items()):
        axes.plot(x, q, LINES[place % 4], color=PALETTE[place % 7], label=f"q: {name}")
    axes.set(xlabel="outcome", ylabel="probability", title="the nearest single bump", ylim=(0, None))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    tops = {name: max(zip(q, x, strict=True)) for name, q in fits.items()}
    said = "; ".join(f"{name}: highest at {at:.2f}, with {height:.3f}" for name, (height, at) in tops.items())
    return describe(new, f"A distribution with several bumps, and single bumps that were fitted to it. {said}.")


@house_style
def averaged(draws: Sequence[int], errors: Mapping[str, Sequence[float] | float], ylabel: str) -> Figure:
    """The error of an estimate that is averaged over more and more draws, on logarithmic axes.

    errors: {kind: its error after each number of draws, or one number for a kind that nothing is drawn for}.
    """
    new, axes = figure(size=(7, 2.9))
    paths = {name: list(y) if isinstance(y, Sequence) else [y] * len(draws) for name, y in errors.items()}
    for place, (name, y) in enumerate(paths.items()):
        axes.plot(draws, y, "o" + LINES[place % 4], color=PALETTE[place % 7], markersize=3, label=name)
    axes.set(xscale="log", yscale="log", xlabel="draws averaged", ylabel=ylabel)
    axes.set(title="what more draws repair")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    said = "; ".join(f"{name}: from {y[0]:.3g} to {y[-1]:.3g}" for name, y in paths.items())
    return describe(new, f"Lines of {ylabel} over the number of draws, {draws[0]:,} to {draws[-1]:,}. {said}.")


@house_style
def loss_and_score(
    losses: Mapping[str, Sequence[float]], scores: Mapping[str, float], unit: str = "held-out bits per byte"
) -> Figure:
    """What students' trainings report (left, each its own loss) and what compares them (right, one score for all).

    losses: {student: its loss at each step, in nats a token}, on a logarithmic axis, a running mean of five steps.
    scores: {name: score}; a name without losses (a teacher) is drawn in grey.
    Raises UsageError for a student without a score.
    """
    if missing := [name for name in losses if name not in scores]:
        raise UsageError(f"The student {missing[0]!r} has no score; give one, or leave it out.")
    new, (left, right) = figure(1, 2, size=(8.5, 2.9))
    colours = {name: PALETTE[place % 7] for place, name in enumerate(losses)}
    for place, (name, values) in enumerate(losses.items()):
        steps = range(1, len(values) + 1)
        left.plot(steps, running_mean(values, 5), LINES[place % 4], color=colours[name], label=name)
    left.set(yscale="log", xlabel="step", ylabel="nats per token (logarithmic)", title="the loss that each one reports")
    bars = right.barh(
        list(scores), list(scores.values()), height=0.6, color=[colours.get(name, "#BBBBBB") for name in scores]
    )
    right.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    right.invert_yaxis()
    right.margins(x=0.15)
    right.grid(False, axis="y")
    right.set(xlabel=f"{unit} (lower is better)", title="what can be compared")
    ends = "; ".join(f"{name} from {values[0]:.3g} to {values[-1]:.3g}" for name, values in losses.items())
    said = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
    return describe(new, f"Left, training losses in nats per token: {ends}. Right, {unit}: {said}.")
