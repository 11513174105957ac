"""Which position looks at which: influence maps, the recurring picture of the course, and attention weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from stlm_kit.errors import UsageError
from stlm_kit.plots.style import PALETTE, describe, figure, house_style

DECADES = 4  # the scale runs from the largest influence down to a ten-thousandth of it
FAINTEST = 0.15  # the shade of an influence at the scale's lower end or below; white is none at all


@house_style
def influence(model, ids, documents=None, title: str = "which input changes which output") -> Figure:
    """The recurring picture: row i is an output position, column j an input position; dark where j changes i.

    A causal model shows a triangle, a window a band, separate documents blocks. Anything right of the diagonal is a
    leak from the future, and is drawn in orange. The scale is logarithmic, and the colour bar says so. model, ids,
    documents: see `evaluation.influence.influence_matrix`.
    """
    new, axes = figure(size=(4.8, 3.4))
    n_leaks = _draw(axes, model, ids, documents)
    axes.set(xlabel="input position", ylabel="output position", title=title)
    if n_leaks:
        axes.set_title(f"{title}\n{n_leaks} leaks from the future (orange)", color=PALETTE[1])
    _scale(new, axes)
    return describe(new, f"Influence map: input positions across, output positions down. {_shape(title, n_leaks)}")


@house_style
def influence_row(models: Mapping[str, object], ids) -> Figure:
    """`influence` for several models side by side, on one row of ids: {title: model}. Each has a scale of its own,
    from its largest influence down.
    """
    new, row = figure(1, len(models), size=(2.4 * len(models) + 0.8, 2.9), squeeze=False)
    found = []
    for axes, (title, model) in zip(row[0], models.items(), strict=True):
        n_leaks = _draw(axes, model, ids)
        found.append(_shape(title, n_leaks))
        axes.set(xlabel="input position", title=title)
        if n_leaks:
            axes.set_title(f"{title}\n{n_leaks} leaks (orange)", color=PALETTE[1])
    row[0, 0].set_ylabel("output position")
    _scale(new, list(row[0]))
    return describe(new, f"Influence maps side by side, input positions across, output down. {' '.join(found)}")


@house_style
def attention_weights(heads: Mapping[str, Any], tokens: Sequence[str], title: str = "") -> Figure:
    """The attention weights of some heads over one row of tokens, side by side with one colour bar from 0 to 1.

    heads: {name: [seq, seq]}, a row a query, a column a key, each row summing to 1. tokens: a label for each position;
    a space is written "␣". Raises UsageError for weights of another shape.
    """
    import numpy as np

    tables = {name: np.asarray(weights, dtype=float) for name, weights in heads.items()}
    n = len(tokens)
    for name, table in tables.items():
        if table.shape != (n, n):
            raise UsageError(f"The weights of {name!r} have shape {table.shape}; {n} tokens need ({n}, {n}).")
    new, row = figure(1, len(tables), size=(2.5 * len(tables) + 0.7, 3.0), squeeze=False)
    labels = [token.replace(" ", "␣").replace("\n", "↵") for token in tokens]
    small = {"fontsize": min(8, 150 / n), "family": "DejaVu Sans Mono"}
    for axes, (name, table) in zip(row[0], tables.items(), strict=True):
        axes.imshow(table, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
        axes.set(xticks=range(n), yticks=range(n), xlabel="key", title=name)
        axes.set_xticklabels(labels, **small)
        axes.set_yticklabels(labels, **small)
        axes.tick_params(length=0, pad=2)
        axes.grid(False)
    row[0, 0].set_ylabel("query")
    new.suptitle(title, x=0.01, ha="left", fontsize=10)
    bar = new.colorbar(row[0, 0].images[0], ax=list(row[0]), shrink=0.8, label="attention weight")
    bar.outline.set_visible(False)
    own = {name: (np.trace(table) / n, np.trace(table, -1) / max(1, n - 1)) for name, table in tables.items()}
    told = "; ".join(
        f"{name}: {self:.2f} on itself, {before:.2f} on the token before" for name, (self, before) in own.items()
    )
    return describe(
        new, f"Attention weights{title and ' of '}{title}: queries down, keys across. Mean weights: {told}."
    )


def _shape(title: str, n_leaks: int) -> str:
    """One influence map in words."""
    return f"{title}: " + (
        f"{n_leaks} outputs change with a later input." if n_leaks else "no output changes with a later input."
    )


def _draw(axes, model, ids, documents=None) -> int:
    """Draw one influence matrix; return how many outputs are changed by a later input."""
    import numpy as np

    from stlm_kit.evaluation.influence import influence_matrix

    matrix = influence_matrix(model, ids, documents).numpy()
    # A log scale: attention from far away is weak, but it is not nothing.
    shade = np.clip(1 + np.log10(np.maximum(matrix, 1e-30) / max(matrix.max(), 1e-30)) / DECADES, 0, 1)
    shade = np.where(matrix > 0, FAINTEST + (1 - FAINTEST) * shade, 0)
    future = np.triu(np.ones_like(matrix, dtype=bool), k=1)
    axes.imshow(np.where(future, np.nan, shade), vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    leak = np.where(future & (matrix > 0), shade, np.nan)
    axes.imshow(leak, vmin=0, vmax=1, cmap="Oranges", interpolation="nearest")
    axes.locator_params(integer=True)
    axes.grid(False)
    return int((future & (matrix > 0)).sum())


def _scale(new: Figure, axes) -> None:
    """The colour bar: what a shade means, as a share of the largest influence."""
    image = (axes[0] if isinstance(axes, list) else axes).images[0]
    bar = new.colorbar(image, ax=axes, shrink=0.9, label="change of the output, log scale\n(1: the largest)")
    powers = range(-DECADES, 1)
    bar.set_ticks([0, *(FAINTEST + (1 - FAINTEST) * (1 + power / DECADES) for power in powers)])
    bar.set_ticklabels(["none", f"≤ {10.0**-DECADES:g}", *(f"{10.0**power:g}" for power in powers[1:])])
    bar.outline.set_visible(False)
