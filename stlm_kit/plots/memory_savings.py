"""What a technique saves: cells of a table beside predictions, and why a saving depends on the order. Sizes in MiB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from stlm_kit.plots.style import PALETTE, describe, figure, house_style


@house_style
def waterfall(orders: Mapping[str, Sequence[tuple[str, float]]], title: str = "") -> Figure:
    """The same techniques added one by one in several orders: {order: [(what is added, peak with it), ...]}.

    The first entry of each order is where it starts. A bar hangs between the peak before and the peak after; what the
    technique saved there stands beside it.
    """
    new, panels = figure(1, len(orders), size=(4.4 * len(orders), 2.8), sharex=True, squeeze=False)
    for panel, (order, steps) in zip(panels[0], orders.items(), strict=True):
        (start, before), *added = steps
        panel.barh([0], [before], color=PALETTE[7], height=0.7)
        panel.annotate(f" {before:,.0f}", (before, 0), va="center", fontsize=8)
        for row, (_, after) in enumerate(added, start=1):
            left, width = min(before, after), abs(after - before)
            panel.barh([row], [width], left=[left], color=PALETTE[2 if after <= before else 1], height=0.7)
            panel.plot([before, before], [row - 1.35, row + 0.35], color=PALETTE[6], linewidth=0.6)
            panel.annotate(f" {_change(after - before)}", (max(before, after), row), va="center", fontsize=8)
            before = after
        panel.barh([len(steps)], [before], color=PALETTE[0], height=0.7)
        panel.annotate(f" {before:,.0f}", (before, len(steps)), va="center", fontsize=8)
        panel.set(yticks=range(len(steps) + 1), xlabel="MiB at the peak", title=order)
        panel.set_yticklabels([start, *(name for name, _ in added), "what is left"], fontsize=8)
        panel.invert_yaxis()
        panel.grid(False, axis="y")
    panels[0][0].set_xlim(0, 1.25 * max(peak for steps in orders.values() for _, peak in steps))
    if title:
        new.suptitle(title, fontsize=10)
    chains = (", ".join(f"{name} {peak:,.0f}" for name, peak in steps) for steps in orders.values())
    words = ". ".join(f"{order}: {chain}" for order, chain in zip(orders, chains, strict=True))
    return describe(new, f"Bars for the peak in MiB after each technique is added, one panel an order. {words}.")


@house_style
def printed_cells(
    rows: Mapping[str, Sequence[tuple[int, float, float, float]]], title: str = "", off_by: float = 0.003
) -> Figure:
    """Cells of a table of peaks: {technique: [(batch size, printed, recorded, predicted), ...]}.

    On the left each technique's peaks against the batch size: predicted as a line, recorded as dots, printed as rings,
    or as crosses where they are off the recorded peak by more than the share `off_by`. On the right how far off, in %.
    """
    new, (left, right) = figure(1, 2, size=(10, 3), width_ratios=(3, 2))
    names = [f"{name}, {size}" for name, group in rows.items() for size, *_ in group]
    for colour, (name, group) in zip(PALETTE, rows.items(), strict=False):
        sizes = [size for size, *_ in group]
        left.plot(sizes, [ours for *_, ours in group], color=colour, linewidth=1, label=name)
        left.plot(sizes, [real for _, _, real, _ in group], "o", color=colour, markersize=4)
        for size, shown, real, ours in group:
            wrong = abs(shown / real - 1) > off_by
            mark = {"marker": "x" if wrong else "o", "color": colour, "markersize": 8, "fillstyle": "none"}
            left.plot([size], [shown], **mark)
            row, percent = names.index(f"{name}, {size}"), 100 * (shown / real - 1)
            right.plot([percent], [row], **mark)
            right.plot([100 * (ours / real - 1)], [row], "|", color=PALETTE[6], markersize=9)
            if wrong:
                right.annotate(f"  {percent:+.1f} %", (percent, row), va="center", fontsize=8)
    left.plot([], [], "o", color=PALETTE[7], markersize=4, label="recorded")
    for label, mark in {"printed": "o", "printed, not recorded": "x", "predicted": "|"}.items():
        colour = PALETTE[6 if label == "predicted" else 7]
        right.plot([], [], mark, color=colour, markersize=8, fillstyle="none", label=label)
    left.set(xticks=sorted({size for group in rows.values() for size, *_ in group}), xlabel="batch size")
    left.set(ylabel="MiB at the peak", title=title)
    left.set_ylim(0, None)
    left.legend()
    right.set(yticks=range(len(names)), xlabel="off the recorded peak, %")
    right.set_yticklabels(names, fontsize=8)
    right.margins(x=0.4)
    right.invert_yaxis()
    right.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    off = [
        f"{name} at {size} by {100 * (shown / real - 1):+.1f} %"
        for name, group in rows.items()
        for size, shown, real, _ in group
        if abs(shown / real - 1) > off_by
    ]
    words = f"Peaks in MiB against the batch size for {', '.join(rows)}: predicted lines, recorded dots, printed rings"
    return describe(new, f"{words}. Printed but not recorded: {', '.join(off) or 'none'}.")


def _change(mib: float) -> str:
    return f"{mib:+,.0f}" if abs(mib) >= 0.5 else "0"
