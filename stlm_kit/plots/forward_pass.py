"""One picture of a decoder's forward pass, with the shapes of its configuration and any of its parts lit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import UsageError
from stlm_kit.plots.style import PALETTE, describe, figure, house_style

# What can be lit. A box may belong to several parts: the scores are also part of attention.
PARTS = (
    "ids", "embedding", "positions", "blocks", "norms", "attention", "qkv", "scores", "weights", "residual",
    "feed_forward", "final_norm", "head", "logits",
)  # fmt: skip
PLAIN, LIT, PALE = ("#DCEBF7", "black"), (PALETTE[0], "white"), ("#F4F4F4", "#777777")  # (face, text): light to dark
LINE = "#555555"
WIDTH, HEIGHT = 7.0, 3.0  # inches; all places below are inches from the lower left corner
BOX, GAP = 0.3, 0.14  # the height of a box, and the length of an arrow between two


class _Box(NamedTuple):
    label: str
    shape: str  # of what comes out of it
    parts: tuple[str, ...]
    width: float = 1.0  # beside the others of its row


@house_style
def forward_pass(config: DecoderConfig, lit: str | Iterable[str] | None = None) -> Figure:
    """The way from token ids to logits in three rows: the decoder, one of its blocks, that block's two sub-blocks.

    Below a box stands the shape of what comes out of it, with the numbers of `config`; `batch` and `seq` stay names,
    since the input decides them. A window, norms of queries and keys, and dropout are not drawn.
    lit: one of PARTS or several; these are drawn dark, all others pale (None: all alike).
    Raises UsageError for a part that is not in PARTS.
    """
    chosen = (lit,) if isinstance(lit, str) else tuple(lit or ())
    if wrong := [part for part in chosen if part not in PARTS]:
        raise UsageError(f"The picture has no part {wrong[0]!r}; it has {', '.join(PARTS)}.")
    new, axes = figure(size=(WIDTH, HEIGHT))
    new.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.set_axis_off()
    draw = _Drawing(axes, chosen)
    stream = f"batch, seq, {config.d_model:,}"
    decoder = draw.row(_decoder(config, stream), 0.1, WIDTH - 0.1, 2.68)
    blocks = next(box for box in decoder if box.get_gid().startswith("blocks"))
    draw.zoom(blocks, 0.75, WIDTH - 0.75, 2.05, 1.22, f"each block ({stream} throughout)")
    attention, feed_forward = draw.block(config, stream, 1.05, WIDTH - 0.9, 1.6)
    split = 4.35 if config.positions != "rotary" else 4.6
    draw.zoom(attention, 0.05, split - 0.05, 0.98, 0.05, "attention")
    draw.zoom(feed_forward, split + 0.05, WIDTH - 0.05, 0.98, 0.05, "feed-forward")
    draw.row(_attention(config, stream), 0.13, split - 0.13, 0.55)
    draw.row(_feed_forward(config, stream), split + 0.13, WIDTH - 0.13, 0.55)
    return describe(new, _words(config, chosen))


def _decoder(config: DecoderConfig, stream: str) -> list[_Box]:
    logits = f"batch, seq, {config.vocab_size:,}"
    added = [] if config.positions == "rotary" else [_Box("+ positions", stream, ("positions",))]
    return [
        _Box("token ids", "batch, seq", ("ids",)),
        _Box("embedding", stream, ("embedding",)),
        *added,
        _Box(f"{config.n_layers} block{'s' * (config.n_layers > 1)}", stream, ("blocks",)),
        _Box(_norm(config), stream, ("final_norm", "norms")),
        _Box("tied head" if config.tied_head else "head", logits, ("head",)),
        _Box("logits", logits, ("logits",)),
    ]


def _attention(config: DecoderConfig, stream: str) -> list[_Box]:
    heads, width = config.n_heads, config.head_dim
    query = f"batch, {heads}, seq, {width}"
    qkv = query if config.kv_heads == heads else f"{query}\nk, v: {config.kv_heads} heads"
    scores = f"batch, {heads}, seq, seq"
    turned = [_Box("rotate q, k", query, ("positions", "attention"), 1.15)] if config.positions == "rotary" else []
    return [
        _Box("q, k, v", qkv, ("qkv", "attention"), 1.05),
        *turned,
        _Box("scores", scores, ("scores", "attention")),
        _Box("weights", scores, ("weights", "attention")),
        _Box("weights · v", query, ("attention",), 1.2),
        _Box("output", stream, ("attention",)),
    ]


def _feed_forward(config: DecoderConfig, stream: str) -> list[_Box]:
    wide, part = f"batch, seq, {config.d_ff:,}", ("feed_forward",)
    if config.feed_forward == "swiglu":
        return [_Box("gate, up", wide, part), _Box("SiLU · up", wide, part, 1.15), _Box("down", stream, part, 0.9)]
    function = "ReLU" if config.feed_forward == "relu" else "GELU"
    return [_Box("up", wide, part), _Box(function, wide, part), _Box("down", stream, part)]


def _norm(config: DecoderConfig) -> str:
    return "RMSNorm" if config.norm == "rmsnorm" else "LayerNorm"


def _words(config: DecoderConfig, lit: Sequence[str]) -> str:
    """The alternative text: the boxes in their order, and which are lit."""
    stream = f"batch, seq, {config.d_model:,}"
    rows = {
        "Decoder": [box.label for box in _decoder(config, stream)],
        "Each block": [_norm(config), "attention", "add", _norm(config), "feed-forward", "add"],
        "Attention": [box.label for box in _attention(config, stream)],
        "Feed-forward": [box.label for box in _feed_forward(config, stream)],
    }
    text = " ".join(f"{name}: {', then '.join(labels)}." for name, labels in rows.items())
    shown = f" Lit: {', '.join(lit)}." if lit else ""
    sizes = f"d_model {config.d_model}, {config.n_heads} heads of {config.head_dim}, d_ff {config.d_ff}"
    return f"Diagram of a forward pass with its shapes ({sizes}, vocabulary {config.vocab_size:,}). {text}{shown}"


class _Drawing:
    """Boxes, arrows and zooms on one pair of axes, each lit or pale by its parts."""

    def __init__(self, axes, lit: Sequence[str]) -> None:
        self.axes, self.lit = axes, lit

    def colours(self, parts: Sequence[str]) -> tuple[str, str]:
        if not self.lit:
            return PLAIN
        return LIT if set(parts) & set(self.lit) else PALE

    def row(self, boxes: Sequence[_Box], left: float, right: float, y: float) -> list[FancyBboxPatch]:
        """Boxes from left to right, an arrow between two neighbours, the shapes below."""
        unit = (right - left - GAP * (len(boxes) - 1)) / sum(box.width for box in boxes)
        drawn = []
        for box in boxes:
            drawn.append(self.box(box, left, y, unit * box.width))
            left += unit * box.width + GAP
            if box is not boxes[-1]:
                self.arrow(left - GAP, left, y)
        return drawn

    def box(self, box: _Box, left: float, y: float, width: float) -> FancyBboxPatch:
        face, text = self.colours(box.parts)
        style = "round,pad=0,rounding_size=0.05"
        patch = FancyBboxPatch((left, y - BOX / 2), width, BOX, style, facecolor=face, edgecolor=LINE, linewidth=0.6)
        patch.set_gid(" ".join(box.parts))
        self.axes.add_patch(patch)
        self.axes.text(left + width / 2, y, box.label, ha="center", va="center", fontsize=7.5, color=text)
        rest = box.shape.split(", ")
        shape = box.shape if len(rest) < 3 else f"{', '.join(rest[:2])},\n{', '.join(rest[2:])}"
        below = {"ha": "center", "va": "top", "fontsize": 6.5, "linespacing": 1.15}
        self.axes.text(
            left + width / 2, y - BOX / 2 - 0.03, shape, color=PALE[1] if face == PALE[0] else "black", **below
        )
        return patch

    def arrow(self, start: float, end: float, y: float) -> None:
        style = {"arrowstyle": "-|>", "color": LINE, "linewidth": 0.8, "mutation_scale": 6, "shrinkA": 0, "shrinkB": 0}
        self.axes.annotate("", (end, y), (start, y), arrowprops=style)

    def block(self, config: DecoderConfig, stream: str, left: float, right: float, y: float):
        """x + attention(norm(x)), then + feed_forward(norm of that); gives the two boxes that are enlarged below."""
        step = (right - left) / 2
        shown = []
        self.arrow(left - 0.2, left + 0.1, y)
        for start, label, part in ((left, "attention", "attention"), (left + step, "feed-forward", "feed_forward")):
            inner = [_Box(_norm(config), "", ("norms",)), _Box(label, "", (part,), 1.1)]
            end = start + step - 0.22
            shown.append(self.row(inner, start + 0.1, end - GAP, y)[1])
            self.arrow(end - GAP, end, y)
            self.add(start, end + 0.08, y)
            self.arrow(end + 0.16, end + 0.32 if part == "attention" else end + 0.4, y)
        return shown

    def add(self, start: float, end: float, y: float) -> None:
        """The residual connection: the stream goes past the boxes and is added to what they give."""
        face, text = self.colours(("residual",))
        lit = face == LIT[0]
        way, wide = {"color": face if lit else LINE, "linewidth": 1.6 if lit else 0.8}, 0.26
        self.axes.plot([start, start, end, end], [y, y + wide, y + wide, y + 0.08], gid="residual way", **way)
        circle = Circle((end, y), 0.08, facecolor=face, edgecolor=LINE, linewidth=0.6, gid="residual", zorder=3)
        self.axes.add_patch(circle)
        self.axes.text(end, y - 0.005, "+", ha="center", va="center", fontsize=8, color=text, zorder=4)

    def zoom(self, box: FancyBboxPatch, left: float, right: float, top: float, bottom: float, label: str) -> None:
        """A frame that shows the inside of a box, tied to the box's lower edge."""
        frame = {"facecolor": "none", "edgecolor": "#AAAAAA", "linewidth": 0.7, "zorder": 0}
        self.axes.add_patch(Rectangle((left, bottom), right - left, top - bottom, **frame))
        x, y = box.get_x(), box.get_y()
        ends = [(x, y), (x + box.get_width(), y), (right, top), (left, top)]
        self.axes.add_patch(Polygon(ends, facecolor="#EFEFEF", edgecolor="none", alpha=0.6, zorder=-1))
        self.axes.text(left + 0.04, top - 0.03, label, ha="left", va="top", fontsize=7, color=LINE, style="italic")
