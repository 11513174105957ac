"""Pictures: pure functions from data to a matplotlib Figure, all in one house style.

A notebook cell ends in the Figure; a widget (widgets.py) redraws one of these functions. Nothing here opens a window
or touches matplotlib's global settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from itertools import accumulate
from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any common kind of colour blindness, and in grey by its order of lightness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
STYLE = {
    "figure.figsize": (7, 3),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "axes.grid": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "image.cmap": "Blues",
    "savefig.dpi": 100,
}


def house_style(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator: draw in the house style, leaving the reader's own matplotlib settings as they were."""

    @wraps(plot)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context(STYLE):
            new = plot(*args, **kwargs)
            new.draw_without_rendering()  # ticks are made when first drawn, and should be made in this style
            return new

    return drawn


def figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] | None = None, **kwargs: Any
) -> tuple[Figure, Any]:
    """(Figure, axes) like `pyplot.subplots`, already closed: a cell shows it once, when it ends in the Figure."""
    new, axes = pyplot.subplots(rows, columns, figsize=size, **kwargs)
    pyplot.close(new)
    return new, axes


@house_style
def influence(model, ids, documents=None, title: str = "which input changes which output") -> Figure:
    """The recurring picture: row i is an output position, column j an input position; dark where j changes i.

    A causal model shows a triangle, a window a band, separate documents blocks. Anything right of the diagonal is a
    leak from the future, and is drawn in orange. model, ids, documents: see `evaluation.influence.influence_matrix`.
    """
    import numpy as np

    from stlm_kit.evaluation.influence import influence_matrix

    matrix = influence_matrix(model, ids, documents).numpy()
    new, axes = figure(size=(4.2, 3.4))
    # Log scale from a ten-thousandth of the largest influence: attention from far away is weak, but it is not nothing.
    shade = np.clip(1 + np.log10(np.maximum(matrix, 1e-30) / max(matrix.max(), 1e-30)) / 4, 0, 1)
    shade = np.where(matrix > 0, 0.15 + 0.85 * shade, 0)
    future = np.triu(np.ones_like(matrix, dtype=bool), k=1)
    axes.imshow(np.where(future, np.nan, shade), vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    leak = np.where(future & (matrix > 0), shade, np.nan)
    axes.imshow(leak, vmin=0, vmax=1, cmap="Oranges", interpolation="nearest")
    n_leaks = int((future & (matrix > 0)).sum())
    axes.set(xlabel="input position", ylabel="output position", title=title)
    axes.locator_params(integer=True)
    axes.grid(False)
    if n_leaks:
        axes.set_title(f"{title}\n{n_leaks} leaks from the future (orange)", color=PALETTE[1])
    return new


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
    for name, level in {**({} if start is None else {"ln V": start}), **(levels or {})}.items():
        axes.axhline(level, color=PALETTE[7], linestyle="--", linewidth=1)
        axes.annotate(name, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    axes.set(xlabel="step", ylabel="nats per token", title=title)
    axes.legend()
    return new


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
def token_strips(text: str, tokenizers: Mapping[str, Any], title: str = "") -> Figure:
    """One text on a ruler of its UTF-8 bytes: its characters, its bytes, and the tokens each tokenizer makes of it.

    tokenizers: {label: Tokenizer}. A token that is no whole character is labelled with its bytes in hexadecimal. Shows
    the first 44 bytes, cut at a character; an empty text is drawn as "?".
    """
    shown = text or "?"
    while len(shown.encode(errors="replace")) > 44:
        shown = shown[:-1]
    strips = {"characters": [character.encode(errors="replace") for character in shown]}
    strips["bytes"] = [bytes([byte]) for byte in shown.encode(errors="replace")]
    for label, tokenizer in tokenizers.items():
        strips[label] = [tokenizer.token_bytes(token) for token in tokenizer.encode(shown)]
    width = len(strips["bytes"])
    new, axes = figure(size=(9, 0.55 + 0.42 * len(strips)))
    for row, (label, parts) in enumerate(strips.items()):
        start = 0
        for number, part in enumerate(parts):
            colour = PALETTE[5] if number % 2 else "#BBDDF2"
            axes.broken_barh([(start, len(part))], (-row - 0.42, 0.84), facecolor=colour, edgecolor="white")
            written = _label(part, label)
            size = min(9, 760 / width * len(part) / len(written))  # so that it fits its box
            axes.text(start + len(part) / 2, -row, written, ha="center", va="center", fontsize=size)
            start += len(part)
        axes.text(width * 1.01, -row, f"{len(parts)}", va="center")
    axes.set(xlim=(0, width * 1.06), ylim=(-len(strips) + 0.45, 0.55), yticks=range(0, -len(strips), -1), xlabel="byte")
    axes.set_yticklabels(strips)
    axes.set_title(title or "one text, cut in different ways (how many pieces on the right)")
    axes.grid(False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return new


def _label(part: bytes, strip: str) -> str:
    """How a piece is written in `token_strips`: text where it is text that the font can draw, else hexadecimal."""
    from matplotlib.font_manager import findfont, get_font

    try:
        text = part.decode().replace(" ", "·").replace("\n", "↵").replace("$", r"\$") if strip != "bytes" else ""
    except UnicodeDecodeError:
        text = ""
    glyphs = get_font(findfont("DejaVu Sans")).get_charmap()
    return text if text and all(ord(letter) in glyphs for letter in text) else part.hex()


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
    return new


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
    return new


@house_style
def packing(padded: Any, packed: Any) -> Figure:
    """Two batches of the same documents: one document a row with its padding (grey), and packed rows.

    padded, packed: `Batch`es. Shades of blue change with the document (in packed rows where `documents` says so); a
    white dot is a target that is left out. The title gives each batch's share of real targets.
    """
    import numpy as np

    new, both = figure(1, 2, size=(9, 2.9))
    for axes, batch, name in zip(both, (padded, packed), ("one document a row", "packed"), strict=True):
        real = (batch.targets != -100).numpy()
        row = np.arange(len(real))[:, None]
        number = row if batch.documents is None else batch.documents.numpy() + row
        shade = np.where(np.logical_or.accumulate(real[:, ::-1], axis=1)[:, ::-1], 0.45 + 0.2 * (number % 3), np.nan)
        axes.set_facecolor("#E5E5E5")
        axes.imshow(shade, vmin=0, vmax=1, cmap="Blues", aspect="auto", interpolation="nearest")
        left_out = np.argwhere(~real & ~np.isnan(shade))
        axes.plot(left_out[:, 1], left_out[:, 0], ".", color="white", markersize=3)
        axes.set(xlabel="position", ylabel="row", title=f"{name}: {100 * batch.real_share:.0f} % real targets")
        axes.grid(False)
    return new


# Where parameters sit: one colour a group, the same in every picture; those of the vocabulary in warm colours.
GROUP_COLOURS = {
    "embedding": PALETTE[1],
    "head": PALETTE[4],
    "positions": PALETTE[3],
    "attention": PALETTE[0],
    "feed_forward": PALETTE[5],
    "norms": PALETTE[6],
}


def _stack(axes, tables: Mapping[str, Mapping[str, int]], share: bool) -> None:
    """One horizontal bar for each table of counts, stacked by group, with its total (or the vocabulary's share)."""
    names = list(tables)
    left = [0.0] * len(names)
    totals = [sum(tables[name].values()) for name in names]
    scale = [total / 100 if share else 1e6 for total in totals]
    for group, colour in GROUP_COLOURS.items():
        width = [tables[name].get(group, 0) / unit for name, unit in zip(names, scale, strict=True)]
        if any(width):
            axes.barh(names, width, left=left, color=colour, label=group.replace("_", "-"), height=0.7)
        left = [start + step for start, step in zip(left, width, strict=True)]
    for row, (name, end, total) in enumerate(zip(names, left, totals, strict=True)):
        vocabulary = 100 * (tables[name].get("embedding", 0) + tables[name].get("head", 0)) / total
        text = f" {vocabulary:.1f} % vocabulary" if share else f" {total:,}"
        axes.annotate(text, (end, row), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.4 * max(left))
    if share:
        axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("% of all parameters" if share else "million parameters")
    axes.grid(False, axis="y")


@house_style
def parameters(
    tables: Mapping[str, Mapping[str, int]], share: bool = False, title: str = "where the parameters sit"
) -> Figure:
    """A bar for each model, stacked by group. tables: {name: `parameter_table(model)`}.

    share: draw shares of each model's own total, and write beside it what embedding and head hold together.
    """
    new, axes = figure(size=(7.5, 1.2 + 0.34 * len(tables)))
    _stack(axes, tables, share)
    axes.set_title(title)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return new


@house_style
def decoder_size(
    d_model: int = 512, n_layers: int = 10, n_heads: int = 16, vocab_size: int = 50257, tied_head: bool = True
) -> Figure:
    """Parameters by group, and bytes, of a decoder like stlm-50m (4 query heads a key-value head where that divides).

    Bytes in MiB: the weights in bf16 and in fp32, and what training keeps of them with AdamW in fp32 (weight, gradient,
    two moments: 16 bytes a parameter). Activations and logits come on top; they depend on the batch.
    Raises UsageError when the sizes do not fit together.
    """
    import torch

    from stlm_kit.config import preset
    from stlm_kit.model import Decoder, parameter_table

    kv_heads = n_heads // 4 if n_heads % 4 == 0 else n_heads
    config = preset(
        "stlm-50m", d_model=d_model, n_layers=n_layers, n_heads=n_heads, n_kv_heads=kv_heads, d_ff=3 * d_model,
        vocab_size=vocab_size, tied_head=tied_head,
    )  # fmt: skip
    with torch.device("meta"):
        table = parameter_table(Decoder(config))
    total = sum(table.values())
    new, (left, right) = figure(1, 2, size=(8, 2.6), width_ratios=(3, 2))
    groups = [group for group in GROUP_COLOURS if group != "positions"]
    colours = [GROUP_COLOURS[group] for group in groups]
    left.barh([group.replace("_", "-") for group in groups], [table[group] / 1e6 for group in groups], color=colours)
    for row, group in enumerate(groups):
        text = f"{100 * table[group] / total:.1f} %" if table[group] else "is the embedding's matrix"
        left.annotate(f" {text}", (table[group] / 1e6, row), va="center", fontsize=8)
    left.invert_yaxis()
    left.set_xlim(0, 1.2 * max(table.values()) / 1e6)
    left.set(xlabel="million parameters", title=f"{total:,} parameters")
    left.grid(False, axis="y")
    sizes = {"weights, bf16": 2, "weights, fp32": 4, "training, fp32": 16}
    mib = [total * size / 2**20 for size in sizes.values()]
    right.barh(list(sizes), mib, color=PALETTE[2])
    for row, size in enumerate(mib):
        right.annotate(f" {size:,.0f}", (size, row), va="center", fontsize=8)
    right.invert_yaxis()
    right.set_xlim(0, 1.3 * max(mib))
    right.set(xlabel="MiB", title="bytes, before any activation")
    right.grid(False, axis="y")
    return new


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
    return new


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
    return new
