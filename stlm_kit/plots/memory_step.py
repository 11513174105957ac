"""One training step's memory: its climb, its peak and its descent, and the tensors that make it up. Sizes in MiB."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stlm_kit.plots.style import PALETTE, describe, figure, house_style

if TYPE_CHECKING:
    from stlm_kit.memory.live_tensors import WatchedStep
    from stlm_kit.memory.report import MemoryReport

# Where memory goes: one colour a category, the same in every picture, from what always stays to what comes and goes.
CATEGORY_COLOURS = {
    "parameters": PALETTE[7],
    "optimizer": PALETTE[3],
    "gradients": PALETTE[2],
    "activations": PALETTE[0],
    "logits and loss": PALETTE[1],
    "workspace": PALETTE[4],
}


@house_style
def step_memory(report: MemoryReport, title: str = "one training step") -> Figure:
    """Live memory after each operation of a step, stacked by category, with its phases and its peak."""
    new, axes = figure(size=(8, 3))
    _climb(axes, report)
    axes.set_title(title)
    axes.legend(*_reversed(axes.get_legend_handles_labels()), loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return describe(new, _in_words(report))


@house_style
def step_totals(reports: Mapping[str, MemoryReport], title: str = "one training step") -> Figure:
    """Live memory along the steps of several recipes: {name: report}. Each step fills the width, however many
    operations it takes."""
    new, axes = figure(size=(8, 2.8))
    for name, report in reports.items():
        total = report.timeline.total()
        axes.plot([place / (len(total) - 1) for place in range(len(total))], total, label=name, linewidth=1.3)
    axes.set(xticks=[], xlabel="operations, from the first to the last", ylabel="MiB alive", title=title)
    axes.set_ylim(0, None)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    peaks = (f"{name} up to {max(report.timeline.total()):,.0f} MiB" for name, report in reports.items())
    return describe(new, f"Live memory in MiB along a training step, a line a recipe: {', '.join(peaks)}.")


@house_style
def tensors_alive(step: WatchedStep, operation: int, most: int = 7, title: str = "") -> Figure:
    """A cursor on the timeline of a step: after that operation, which tensors are alive?

    operation: counted from 0, as in `step.report.timeline`. Tensors of one shape that the same operation made are one
    row. Raises UsageError where the step has no such operation.
    """
    tensors = rows_of_tensors(step.alive_after(operation), most)
    timeline, total = step.report.timeline, step.report.timeline.total()
    new, (left, right) = figure(1, 2, size=(10, 3), width_ratios=(3, 4))
    _climb(left, step.report)
    left.axvline(operation, color=PALETTE[6], linewidth=1)
    left.plot([operation], [total[operation]], "o", color=PALETTE[6], markersize=4)
    where = timeline.modules[operation] or "outside the model"
    left.set_title(title or f"{timeline.phases[operation]}: {timeline.operations[operation].strip('_')}, {where}")
    names = [name for name, _, _ in tensors]
    colours = [CATEGORY_COLOURS.get(category, "#DDDDDD") for _, _, category in tensors]
    right.barh(range(len(tensors)), [mib for _, mib, _ in tensors], color=colours, height=0.75)
    for row, (_, mib, _) in enumerate(tensors):
        right.annotate(f" {mib:,.0f}", (mib, row), va="center", fontsize=8)
    right.set(yticks=range(len(tensors)), xlabel="MiB", title=f"{total[operation]:,.0f} MiB alive")
    right.set_yticklabels(names, fontsize=8)
    right.set_xlim(0, 1.25 * max(total))
    right.invert_yaxis()
    right.grid(False, axis="y")
    largest = ", ".join(f"{name} with {mib:,.0f} MiB" for name, mib, _ in tensors[:3])
    alive = f"After operation {operation:,} {total[operation]:,.0f} MiB are alive, the largest: {largest}."
    return describe(new, f"{_in_words(step.report)} {alive}")


def rows_of_tensors(tensors: Iterable[Mapping[str, Any]], most: int) -> list[tuple[str, float, str]]:
    """(what it is, MiB, category), the largest first; beyond `most` rows the rest is summed up, with category "".

    tensors: rows of `alive_at_peak`. Parameters and the optimizer's state are a row each.
    """
    rows: dict[tuple, list[float]] = {}
    modules: dict[tuple, str] = {}
    for tensor in tensors:
        lasting = tensor["category"] in ("parameters", "optimizer")
        made = ((), "") if lasting else (tuple(tensor["shape"]), str(tensor["operation"]).strip("_"))
        rows.setdefault((tensor["category"], *made), []).append(float(tensor["mib"]))
        modules.setdefault((tensor["category"], *made), str(tensor["module"]))
    ordered = sorted(rows.items(), key=lambda row: sum(row[1]), reverse=True)
    named = []
    for kind, sizes in ordered[:most]:
        category, shape, operation = kind
        what = f"{operation} [{', '.join(map(str, shape))}]" if shape else operation or category
        if len(sizes) > 1:
            what = f"{len(sizes)} × {what}"
        elif modules[kind]:
            what = f"{modules[kind]}: {what}"
        named.append((what, sum(sizes), category))
    rest = [size for _, sizes in ordered[most:] for size in sizes]
    return [*named, (f"{len(rest)} more", sum(rest), "")] if rest else named


@house_style
def memory_stack(
    recipe: str = "fp32+eager+study",
    batch_size: int = 128,
    context: int = 255,
    vocab_size: int = 50257,
    n_layers: int = 4,
    padding: int = 0,
) -> Figure:
    """A step of a model like memory-study's: its predicted timeline, and its peak beside a 20 GB slice of a GPU.

    recipe: a recipe's name; context: input positions a row; padding: percent of positions without a real target.
    A setting seen before is drawn at once; a new one takes a prediction, a second or so. Raises UsageError, one
    sentence, for sizes that cannot be.
    """
    from stlm_kit.memory.devices import DEVICES

    limit = DEVICES["mig-20gb"].usable_mib
    report = predicted(recipe, batch_size, context, vocab_size, n_layers, padding)
    new, (left, right) = figure(1, 2, size=(10, 3), width_ratios=(4, 1))
    _climb(left, report)
    left.set_title(f"{recipe}: peak {report.peak_allocated_mib:,.0f} MiB, {_fit(report.peak_reserved_mib, limit)}")
    bottom = 0.0
    for category, colour in CATEGORY_COLOURS.items():
        right.bar([0], [report.by_category[category]], bottom=[bottom], color=colour, label=category, width=0.6)
        bottom += report.by_category[category]
    right.bar([0], [report.peak_reserved_mib], fill=False, edgecolor=PALETTE[7], linestyle=":", width=0.6)
    right.axhline(limit, color=PALETTE[6], linestyle="--", linewidth=1)
    right.annotate("20 GB", (0.35, limit), va="bottom", fontsize=8)
    right.set(xticks=[], xlim=(-0.4, 0.9), ylim=(0, 1.1 * max(limit, report.peak_reserved_mib)))
    right.set(ylabel="MiB", title="at the peak")
    right.legend(*_reversed(right.get_legend_handles_labels()), loc="upper left", bbox_to_anchor=(1.0, 1.0))
    parts = ", ".join(f"{category} {mib:,.0f}" for category, mib in report.by_category.items() if mib >= 0.5)
    fit = _fit(report.peak_reserved_mib, limit)
    return describe(new, f"{recipe}, {batch_size} rows. {_in_words(report)} At the peak, in MiB: {parts}; {fit}.")


@lru_cache(maxsize=256)
def predicted(recipe: str, batch_size: int, context: int, vocab_size: int, n_layers: int, padding: int) -> MemoryReport:
    """`predict_peak` of a whole step, for arguments of `memory_stack`; kept, so that going back costs nothing."""
    from stlm_kit.errors import UsageError
    from stlm_kit.memory.predict import predict_peak
    from stlm_kit.presets import preset

    if not 0 <= padding < 100:
        raise UsageError(f"padding = {padding!r} will not do; give the percentage of padding, from 0 to 99.")
    config = preset("memory-study", vocab_size=vocab_size, n_layers=n_layers, context_length=context)
    return predict_peak(config, recipe, batch_size, context, valid_fraction=1 - padding / 100, span="step")


def _fit(reserved_mib: float, limit_mib: float) -> str:
    return f"{'fits into' if reserved_mib <= limit_mib else 'too large for'} 20 GB"


def _in_words(report: MemoryReport) -> str:
    """What `_climb` draws, for readers who cannot see it."""
    total = report.timeline.total()
    return (
        f"Live memory in MiB after each of {len(total):,} operations of a training step, stacked by category: from "
        f"{total[0]:,.0f} at the start over a peak of {report.peak_allocated_mib:,.0f} ({report.peak_phase}) to "
        f"{total[-1]:,.0f} at the end."
    )


def _climb(axes: Axes, report: MemoryReport) -> None:
    """The stacked timeline, a line where a phase begins, and a mark at the peak.

    The timeline shows what an operation leaves behind; a peak within an operation stands above it on a thin line.
    """
    timeline, total = report.timeline, report.timeline.total()
    operations = range(len(total))
    rows = [timeline.mib[category] for category in CATEGORY_COLOURS]
    # Rectangles, not slopes: memory stays as it is until the next operation.
    axes.stackplot(
        operations,
        rows,
        colors=list(CATEGORY_COLOURS.values()),
        labels=list(CATEGORY_COLOURS),
        step="post",
        linewidth=0,
    )
    top, start = max(report.peak_allocated_mib, *total), 0
    for phase, members in groupby(timeline.phases):
        axes.axvline(start, color=PALETTE[6], linewidth=0.6, linestyle=":")
        axes.annotate(phase, (start, 1.17 * top), xytext=(3, 0), textcoords="offset points", va="top", fontsize=8)
        start += len(list(members))
    place = max((i for i in operations if timeline.phases[i] == report.peak_phase), key=total.__getitem__)
    axes.plot([place, place], [total[place], report.peak_allocated_mib], color=PALETTE[6], linewidth=0.8)
    axes.plot([place], [report.peak_allocated_mib], "v", color=PALETTE[6], markersize=4)
    axes.set(xlim=(0, len(total) - 1), ylim=(0, 1.2 * top), xlabel="operation", ylabel="MiB alive")


def _reversed(handles_labels: tuple[list, list]) -> tuple[list, list]:
    """A legend from top to bottom like the stack."""
    handles, labels = handles_labels
    return handles[::-1], labels[::-1]
