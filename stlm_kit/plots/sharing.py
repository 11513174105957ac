"""Layers that share weights: which layer owns which part, and what a shared decoder costs beside a plain one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stlm_kit.layer_sharing import Pattern, owners
from stlm_kit.plots.memory_step import CATEGORY_COLOURS
from stlm_kit.plots.style import PALETTE, describe, figure, house_style

if TYPE_CHECKING:
    from stlm_kit.config import DecoderConfig

OWN = "#FFFFFF"  # the colour of weights that one layer alone uses
OPERATIONS = "millions of × and +"  # torch's FlopCounterMode counts a multiply-add as two
LAPTOP = {"name": "laptop-distilqwen3", "d_ff": 384, "layer_index": False}  # the sizes of both pictures

# The parts of a layer from left to right, as they are computed: (where it begins, how wide it is, field of Owners).
PARTS = ((0.0, 0.7, "norms"), (0.7, 1.9, "attention"), (2.6, 0.7, "norms"), (3.3, 2.4, "feed_forward"))

LEGEND = (
    "number: the layer that owns the weights",
    "white: used by one layer alone",
    "narrow: a norm",
    "percent: parameters of the layers",
)


@house_style
def sharing_patterns(
    n_layers: int = 8, patterns: Sequence[Pattern] | None = None, config: DecoderConfig | None = None
) -> Figure:
    """Which layer owns the weights of each part, one stack of layers for each pattern; layer 0 is the lowest.

    A row is a layer: norm, attention, norm, feed-forward. The number in a part is the layer that owns its weights.
    Parts that use one owner's weights have one colour; weights that one layer alone uses are white. The title gives the
    parameters of the layers, in percent of those of "none".
    patterns: default all of layer_sharing.Pattern. config: its sizes are counted (default laptop-distilqwen3 with
    d_ff = 384); n_layers and the pattern replace its own. Raises UsageError for a pattern or a depth that cannot be.
    """
    patterns = get_args(Pattern) if patterns is None else tuple(patterns)
    counts = {pattern: _in_layers(config, pattern, n_layers) for pattern in ("none", *patterns)}
    size = (0.9 + 1.29 * max(len(patterns), 3), 1.05 + 0.22 * n_layers)
    new, panels = figure(1, len(patterns), size=size, sharey=True, squeeze=False)
    words = []
    for axes, pattern in zip(panels[0], patterns, strict=True):
        who, percent = owners(pattern, n_layers), 100 * counts[pattern] / counts["none"]
        _stack(axes, {part: getattr(who, part) for part in ("attention", "feed_forward", "norms")})
        axes.set_title(f"{pattern}\n{percent:.0f} %", fontsize=9)
        own = [f"{part.replace('_', '-')} {len(set(getattr(who, part)))}" for _, _, part in PARTS[1:]]
        words.append(f"{pattern}: {', '.join(own)}, {percent:.0f} % of the parameters")
    panels[0][0].set_ylabel("layer")
    breaks = "  ·  " if len(patterns) > 4 else "\n"
    new.supxlabel(breaks.join(LEGEND), fontsize=8)
    return describe(
        new,
        f"Stacks of {n_layers} layers, one for each pattern. Each part shows the layer that owns its weights. How many "
        f"of each there are, and the parameters of the layers beside those of the pattern none: {'; '.join(words)}.",
    )


def _stack(axes: Axes, who: dict[str, tuple[int, ...]]) -> None:
    """The layers of one pattern. who: {part: the owner of each layer's}."""
    from matplotlib.patches import Rectangle

    shared = sorted({owner for uses in who.values() for owner in uses if uses.count(owner) > 1})
    colours = {owner: PALETTE[place % 6] for place, owner in enumerate(shared)}
    n_layers = len(who["norms"])
    for layer in range(n_layers):
        for left, width, part in PARTS:
            owner = who[part][layer]
            colour = colours[owner] if who[part].count(owner) > 1 else OWN
            box = {"facecolor": colour, "edgecolor": "#444444", "linewidth": 0.6, "gid": part}
            axes.add_patch(Rectangle((left, layer - 0.4), width, 0.8, **box))
            if width > 1 or n_layers <= 10:  # two digits do not fit into a norm
                place = (left + width / 2, layer)
                axes.annotate(f"{owner}", place, ha="center", va="center", fontsize=8, color=ink_on(colour))
    middles = {part: left + width / 2 for left, width, part in PARTS}
    axes.set(xlim=(-0.1, 5.8), ylim=(-0.6, n_layers - 0.4), yticks=range(n_layers))
    axes.set_xticks([middles["attention"], middles["feed_forward"]], ["atten-\ntion", "feed-\nforward"], fontsize=8)
    axes.tick_params(length=0)
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(False)


def ink_on(colour: str) -> str:
    """ "white" or "black", whichever is easier to read on a colour."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else "black"


def _in_layers(config: DecoderConfig | None, pattern: Pattern, n_layers: int) -> int:
    """The parameters of a decoder's layers under a pattern, counted by storage on the meta device."""
    import torch

    from stlm_kit.model import build_model, count_parameters
    from stlm_kit.presets import preset

    base = preset(**LAPTOP) if config is None else config
    changes = {"n_layers": n_layers, "sharing": pattern, "layer_order": None, "lora_rank": None}
    with torch.device("meta"):
        model = build_model(type(base)(**{**base.model_dump(exclude_unset=True), **changes}))
    return count_parameters(model.blocks)


@dataclass(frozen=True)
class Costs:
    """What a decoder costs. Counts are of single parameters and operations, sizes in MiB."""

    embedding: int  # parameters of the embedding's matrix, which is also the head's
    parameters: int  # by storage, with the embedding's
    operations: float  # a token in a forward pass, a multiplication and an addition each
    state_mib: float  # weights, gradients, and AdamW's two moments, in fp32
    peak_mib: float
    at_peak: dict[str, float]  # MiB by category


@house_style
def sharing_costs(
    sharing: Pattern = "all",
    n_layers: int = 8,
    d_ff: int = 384,
    factor_rank: int = 0,
    lora_rank: int = 0,
    layer_index: bool = False,
    batch_size: int = 8,
) -> Figure:
    """What a decoder with shared layers costs beside the plain one: parameters, operations, state, a step's peak.

    Both have the other sizes of laptop-distilqwen3, this depth and this d_ff; the plain one shares and factors nothing.
    factor_rank, lora_rank: 0 for none. Operations are those of a forward pass over the whole context, a token, where a
    multiplication and an addition count 2. State: weights, gradients and AdamW's two moments, 16 bytes a parameter in
    fp32. The peak is predicted for a step of `batch_size` rows in fp32 on a CPU.
    A setting seen before is drawn at once; a new one takes a prediction or two, of 2 s or so each. Raises UsageError,
    one sentence, for settings that do not go together.
    """
    sizes = {**LAPTOP, "n_layers": n_layers, "d_ff": d_ff}
    extra = {"factor_rank": factor_rank or None, "lora_rank": lora_rank or None, "layer_index": layer_index}
    mine = _costs(batch_size, **{**sizes, "sharing": sharing, **extra})
    plain = _costs(batch_size, **{**sizes, "sharing": "none"})
    new, panels = figure(1, 4, size=(10, 3.1), width_ratios=(1, 1, 1, 1.15))
    pairs = {
        "parameters": ([cost.parameters / 1e6 for cost in (plain, mine)], "millions", 2),
        "operations a token": (
            [cost.operations / 1e6 for cost in (plain, mine)],
            "millions of × and +, forward pass",
            2,
        ),
        "state in training": ([cost.state_mib for cost in (plain, mine)], "MiB: weights, gradients, moments", 1),
        "peak of a step": ([cost.peak_mib for cost in (plain, mine)], "MiB", 0),
    }
    for axes, (title, (heights, unit, digits)) in zip(panels, pairs.items(), strict=True):
        _pair(axes, heights, digits)
        axes.set(title=title, ylabel=unit)
    panels[0].bar((0, 1), [cost.embedding / 1e6 for cost in (plain, mine)], **_HATCHED)
    panels[0].annotate("hatched: embedding", (1, 0.99), xycoords="axes fraction", ha="right", va="top", fontsize=8)
    _by_category(panels[3], (plain, mine))
    name = _named(sharing, factor_rank, lora_rank, layer_index)
    sizes_said = f"{n_layers} layers, d_ff = {d_ff}, {batch_size} rows"
    new.suptitle(f"this model: {name} ({sizes_said})", fontsize=10, x=0.01, ha="left")
    compared = (
        f"{title} {heights[1]:,.{digits}f} {unit.split(',')[0].split(':')[0]}, plain {heights[0]:,.{digits}f} "
        f"({_change(*heights)})"
        for title, (heights, unit, digits) in pairs.items()
    )
    return describe(
        new,
        f"Bars of a decoder with {name} beside the plain one, {sizes_said}. {'; '.join(compared)}. Activations at the "
        f"peak: {mine.at_peak['activations']:,.0f} MiB, plain {plain.at_peak['activations']:,.0f}.",
    )


_HATCHED = {"width": 0.62, "facecolor": "none", "edgecolor": "white", "hatch": "////", "linewidth": 0}


@lru_cache(maxsize=256)
def _costs(batch_size: int, **settings: Any) -> Costs:
    """`Costs` of a preset with settings replaced; kept, so that going back costs nothing."""
    import torch

    from stlm_kit.memory.operations import count_operations
    from stlm_kit.memory.predict import predict_peak
    from stlm_kit.model import build_model
    from stlm_kit.model.counting import MIB, STATE_BYTES, counted
    from stlm_kit.presets import preset

    config, table = preset(**settings), counted(**settings)
    report = predict_peak(config, "fp32", batch_size, config.context_length, span="step", semantics="cpu")
    shape = (1, config.context_length)
    forward = count_operations(
        lambda: build_model(config), lambda model: model(torch.zeros(shape, dtype=torch.long)), semantics="cpu"
    )
    return Costs(
        embedding=table["embedding"],
        parameters=table["total"],
        operations=forward / config.context_length,
        state_mib=STATE_BYTES * table["total"] / MIB,
        peak_mib=report.peak_allocated_mib,
        at_peak=report.by_category,
    )


def _pair(axes: Axes, heights: Sequence[float], digits: int) -> None:
    """Two bars, the plain decoder's and this one's, with their heights above and how far they are apart."""
    axes.bar((0, 1), heights, width=0.62, color=(PALETTE[7], PALETTE[0]))
    for place, height in enumerate(heights):
        text = f"{height:,.{digits}f}" + (f"\n{_change(*heights)}" if place else "")
        axes.annotate(text, (place, height), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=8)
    axes.set(xlim=(-0.6, 1.6), ylim=(0, 1.3 * max(heights)))
    axes.set_xticks((0, 1), ("plain", "this model"))
    axes.grid(False, axis="x")


def _by_category(axes: Axes, costs: Sequence[Costs]) -> None:
    """The bars of the peak, split into categories; each category that has room for it with its MiB."""
    bottoms = [0.0, 0.0]
    highest = max(cost.peak_mib for cost in costs)
    for category, colour in CATEGORY_COLOURS.items():
        sizes = [cost.at_peak[category] for cost in costs]
        if max(sizes) < 0.05:  # there are no gradients yet where the logits' gradient makes the peak
            continue
        box = {"width": 0.62, "color": colour, "edgecolor": "white", "linewidth": 0.5}
        axes.bar((0, 1), sizes, bottom=bottoms, label=category, **box)
        for place, (bottom, size) in enumerate(zip(bottoms, sizes, strict=True)):
            if size >= 0.08 * highest:
                middle = (place, bottom + size / 2)
                axes.annotate(f"{size:,.0f}", middle, ha="center", va="center", fontsize=8, color=ink_on(colour))
        bottoms = [bottom + size for bottom, size in zip(bottoms, sizes, strict=True)]
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _change(before: float, after: float) -> str:
    percent = 100 * (after / before - 1)
    return "the same" if abs(percent) < 0.05 else f"{percent:+.{0 if abs(percent) >= 10 else 1}f} %"


def _named(sharing: str, factor_rank: int, lora_rank: int, layer_index: bool) -> str:
    """The settings in words."""
    parts = ["nothing shared" if sharing == "none" else f"sharing {sharing}"]
    parts += [f"feed-forward of rank {factor_rank}"] if factor_rank else []
    parts += [f"LoRA of rank {lora_rank}"] if lora_rank else []
    parts += ["layer index"] if layer_index else []
    return ", ".join(parts)
