"""Parts of a decoder, one picture each: rotary pairs, shared key heads, the gate of a feed-forward."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from stlm_kit.errors import UsageError
from stlm_kit.plots.style import PALETTE, describe, figure, house_style

SHADES = ("#08306B", "#C7DDF0", "#2F7EBC", "#FFFFFF", "#6BAED6", "#E4EFF9")  # neighbours differ in lightness


@house_style
def rotary_pairs(head_dim: int = 8, positions: int = 17, base: float = 10000.0) -> Figure:
    """How rotary positions turn a head's pairs, and that a score then depends on the distance alone.

    Left: the fastest pair and the second one, started at (1, 0), at each position (the second drawn smaller). Middle:
    the angle of every pair, in turns. Right: the product of a query and a key of ones, for three positions of the
    query, against the distance of the key.
    head_dim: even, at least 4. positions: at least 10. Raises UsageError for less. Source: Su et al. 2021, section 3.2.
    """
    import torch

    from stlm_kit.model.layers import rotary_angles, rotate

    if head_dim < 4 or head_dim % 2 or positions < 10:
        raise UsageError("The picture needs an even head_dim of at least 4, and at least 10 positions.")
    angles = rotary_angles(positions, head_dim, base)
    new, (circle, turns, scores) = figure(1, 3, size=(7.5, 2.6), width_ratios=(1, 1.15, 1.15))
    for pair, radius, colour in ((0, 1.0, PALETTE[0]), (1, 0.6, PALETTE[1])):
        x, y = radius * angles[:, pair].cos(), radius * angles[:, pair].sin()
        circle.plot(x, y, "o-" if pair else "o", color=colour, markersize=3, linewidth=0.8, label=f"pair {pair}")
        for position in range(0, 7, 1 if pair == 0 else 6):
            place = (1.2 * x[position], 1.2 * y[position])
            circle.annotate(position, place, ha="center", va="center", fontsize=7, color=colour)
    circle.set(xlim=(-1.45, 1.45), ylim=(-1.45, 1.45), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    circle.set(xlabel="first number", ylabel="second number", title="positions of two pairs")
    for pair in range(head_dim // 2):
        style = ("-", "--", "-.", ":")[pair % 4]
        turns.plot(angles[:, pair] / (2 * torch.pi), style, color=PALETTE[pair % len(PALETTE)], label=f"pair {pair}")
    turns.set(xlabel="position", ylabel="angle in full turns", title=f"every pair of a head {head_dim} wide")
    turns.legend(loc="upper left")
    ones = torch.ones(1, 1, positions, head_dim)
    turned = rotate(ones, angles.cos(), angles.sin())[0, 0]
    table = turned @ turned.T  # a row a query's position, a column a key's
    back = torch.arange((positions + 1) // 2)
    between = torch.linspace(0, back[-1], 200)
    curve = 2 * (between[:, None] * angles[1]).cos().sum(-1)  # of two vectors of ones, a pair gives 2 cos(turned angle)
    scores.plot(between, curve, color=PALETTE[7], linewidth=0.8)
    marks = (("o", 10, PALETTE[5]), ("s", 6, PALETTE[6]), (".", 5, "white"))
    for i, (marker, size, colour) in enumerate(marks):
        start = back[-1].item() + i * (positions - 1 - back[-1].item()) // 2
        scores.plot(back, table[start, start - back], marker, color=colour, markersize=size, label=f"query at {start}")
    scores.set(xlabel="how far before it the key stands", ylabel="q · k", title="query and key of ones")
    scores.locator_params(axis="x", integer=True)
    scores.set_ylim(top=(curve.max() + 0.6 * (curve.max() - curve.min())).item())  # room for the legend
    scores.legend(loc="upper center", facecolor="#DDDDDD", frameon=True, framealpha=1)
    return describe(
        new,
        f"Three panels. Left: pair 0 turns around the circle by one radian a position, pair 1 far slower. Middle: "
        f"angles grow straight with the position; after {positions - 1} positions pair 0 made "
        f"{angles[-1, 0] / (2 * torch.pi):.1f} turns, the last pair {angles[-1, -1] / (2 * torch.pi):.4f}. "
        "Right: products of one query at three positions lie on one curve over the distance of the key.",
    )


@house_style
def key_sharing(n_heads: int = 12, kv_heads: Sequence[int] = (12, 3, 1)) -> Figure:
    """Which query heads read which key-value head, for several numbers of key-value heads side by side.

    Query heads of one group stand in one colour, above the key-value head that they share.
    Raises UsageError where a number of key-value heads does not divide n_heads. Source: Ainslie et al. 2023, figure 2.
    """
    if wrong := [number for number in kv_heads if number < 1 or n_heads % number]:
        raise UsageError(f"{wrong[0]} key-value heads cannot share {n_heads} query heads evenly.")
    new, row = figure(1, len(kv_heads), size=(2.5 * len(kv_heads), 1.9), squeeze=False)
    for axes, number in zip(row[0], kv_heads, strict=True):
        group = n_heads // number
        for head in range(n_heads):
            key = head // group  # as `model.attention` pairs them
            at = (key + 0.5) * group - 0.5
            colour = SHADES[key % len(SHADES)]
            box = {"width": 0.8, "height": 0.36, "edgecolor": "black", "linewidth": 0.6, "facecolor": colour}
            axes.plot([head, at], [0.82, 0.18], color="#555555", linewidth=0.8, zorder=0)
            _head(axes, head, 1, head, box)
            if head % group == 0:
                _head(axes, at, 0, key, box)
        name = {n_heads: "multi-head", 1: "multi-query"}.get(number, "grouped")
        axes.set(xlim=(-0.7, n_heads - 0.3), ylim=(-0.4, 1.35), xticks=[], yticks=[0, 1])
        axes.set_yticklabels(["keys,\nvalues", "queries"] if axes is row[0, 0] else ["", ""])
        axes.set_title(f"{name}: {number} key head{'s' * (number > 1)}")
        axes.tick_params(length=0)
        axes.grid(False)
        for side in axes.spines.values():
            side.set_visible(False)
    shared = "; ".join(
        f"{number} key-value head{'s' * (number > 1)}, each read by {n_heads // number}" for number in kv_heads
    )
    return describe(new, f"{n_heads} query heads, joined by lines to the key-value head that each reads: {shared}.")


def _head(axes, x: float, y: float, number: int, box: dict) -> None:
    """A numbered head as a small box around (x, y)."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x - box["width"] / 2, y - box["height"] / 2), **box))
    dark = sum(to_rgb(box["facecolor"])) < 1.5
    axes.text(x, y, number, ha="center", va="center", fontsize=7, color="white" if dark else "black")


@house_style
def gate(reach: float = 4.0, ups: Sequence[float] = (-2.0, -1.0, 0.0, 1.0, 2.0)) -> Figure:
    """The gate of SwiGLU. Left: SiLU beside GELU and ReLU. Right: SiLU(g) times u, against g, for a few values of u.

    reach: g runs from -reach to reach. Source: Shazeer 2020, equations 5 and 6.
    """
    import torch
    import torch.nn.functional as F
    from matplotlib import colormaps

    new, (functions, products) = figure(1, 2, size=(7.5, 2.5))
    g = torch.linspace(-reach, reach, 161)
    shown = {"SiLU": (F.silu, "-"), "GELU": (F.gelu, "--"), "ReLU": (F.relu, ":")}
    for name, (function, style) in shown.items():
        functions.plot(g, function(g), style, label=name)
    functions.set(xlabel="g, one number of the gate", ylabel="f(g)", title="three activations")
    functions.legend()
    shades = [0.25 + 0.75 * i / max(1, len(ups) - 1) for i in range(len(ups))]
    for up, shade in zip(ups, shades, strict=True):
        products.plot(g, F.silu(g) * up, color=colormaps["Blues"](shade), label=f"u = {up:g}")
    products.set(
        xlabel="g, one number of the gate", ylabel="SiLU(g) · u", title="the gated number, for five values of u"
    )
    products.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return describe(
        new,
        "Left: SiLU, GELU and ReLU against g; all three are near 0 for negative g and near g for large g, and SiLU "
        f"dips to {F.silu(g).min():.2f}. Right: SiLU(g) times u against g, for u = {', '.join(f'{u:g}' for u in ups)}; "
        "all are near 0 where g is far below 0, and fan out where g is large.",
    )
