"""The recurring picture of the course: which input position changes which output."""

from __future__ import annotations

from matplotlib.figure import Figure

from stlm_kit.plots.style import PALETTE, figure, house_style


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
