"""Where a decoder's parameters sit."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from stlm_kit.plots.style import PALETTE, describe, figure, house_style

# Where parameters sit: one colour a group, the same in every picture; those of the vocabulary in warm colours.
GROUP_COLOURS = {
    "embedding": PALETTE[1],
    "head": PALETTE[4],
    "positions": PALETTE[3],
    "attention": PALETTE[0],
    "feed_forward": PALETTE[5],
    "norms": PALETTE[6],
}


def _total(table: Mapping[str, int]) -> int:
    """All of a table's parameters, whether it holds a "total" of its own (`model.counting.counted`) or not."""
    return sum(number for group, number in table.items() if group != "total")


def _stack(axes, tables: Mapping[str, Mapping[str, int]], share: bool) -> None:
    """One horizontal bar for each table of counts, stacked by group, with its total (or the vocabulary's share)."""
    names = list(tables)
    left = [0.0] * len(names)
    totals = [_total(tables[name]) for name in names]
    scale = [total / 100 if share else 1e6 for total in totals]
    for group, colour in GROUP_COLOURS.items():
        width = [tables[name].get(group, 0) / unit for name, unit in zip(names, scale, strict=True)]
        if any(width):
            axes.barh(
                names,
                width,
                left=left,
                color=colour,
                label=group.replace("_", "-"),
                height=0.7,
                edgecolor="white",
                linewidth=0.6,
            )
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
    """A bar for each model, stacked by group. tables: {name: `parameter_table(model)`}, or `counted`.

    share: draw shares of each model's own total, and write beside it what embedding and head hold together.
    """
    new, axes = figure(size=(7.5, 1.2 + 0.34 * len(tables)))
    _stack(axes, tables, share)
    axes.set_title(title)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    totals = "; ".join(f"{name} {_total(table):,}" for name, table in tables.items())
    return describe(
        new, f"Stacked bars of parameters by group{' as shares' if share else ''}: {title}. Totals: {totals}."
    )


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

    from stlm_kit.model import build_model, parameter_table
    from stlm_kit.presets import preset

    kv_heads = n_heads // 4 if n_heads % 4 == 0 else n_heads
    config = preset(
        "stlm-50m", d_model=d_model, n_layers=n_layers, n_heads=n_heads, n_kv_heads=kv_heads, d_ff=3 * d_model,
        vocab_size=vocab_size, tied_head=tied_head,
    )  # fmt: skip
    with torch.device("meta"):
        table = parameter_table(build_model(config))
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
    largest = max(groups, key=lambda group: table[group])
    return describe(
        new,
        f"Bars of parameters by group, and of MiB. {total:,} parameters; the {largest.replace('_', '-')} holds most, "
        f"{100 * table[largest] / total:.1f} %. {mib[0]:,.0f} MiB of weights in bf16, {mib[2]:,.0f} MiB in training.",
    )
