"""The recurring picture of the course: which input position changes which output."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from stlm_kit.plots.style import PALETTE, figure, house_style

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
    return new


@house_style
def influence_row(models: Mapping[str, object], ids) -> Figure:
    """`influence` for several models side by side, on one row of ids: {title: model}. Each has a scale of its own,
    from its largest influence down.
    """
    new, row = figure(1, len(models), size=(2.4 * len(models) + 0.8, 2.9), squeeze=False)
    for axes, (title, model) in zip(row[0], models.items(), strict=True):
        n_leaks = _draw(axes, model, ids)
        axes.set(xlabel="input position", title=title)
        if n_leaks:
            axes.set_title(f"{title}\n{n_leaks} leaks (orange)", color=PALETTE[1])
    row[0, 0].set_ylabel("output position")
    _scale(new, list(row[0]))
    return new


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
