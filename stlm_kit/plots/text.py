"""Text as the model gets it: bytes and tokens side by side, rows padded and packed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from stlm_kit.plots.style import PALETTE, describe, figure, house_style


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
            written = part.hex() if label == "bytes" else label_of(part)
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
    counts = ", ".join(f"{len(parts)} pieces as {label}" for label, parts in strips.items())
    return describe(new, f"The text {shown!r} in rows of boxes, as wide as the bytes that they hold: {counts}.")


def label_of(part: bytes) -> str:
    """How a token is written in a picture: as text that the font can draw, a space as a dot; otherwise hexadecimal."""
    from matplotlib.font_manager import findfont, get_font

    try:
        text = part.decode().replace(" ", "·").replace("\n", "↵").replace("$", r"\$")
    except UnicodeDecodeError:
        text = ""
    glyphs = get_font(findfont("DejaVu Sans")).get_charmap()
    return text if text and all(ord(letter) in glyphs for letter in text) else part.hex()


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
        axes.set(
            xlabel="position (tokens)", ylabel="row", title=f"{name}: {100 * batch.valid_fraction:.0f} % real targets"
        )
        axes.grid(False)
    shares = [f"{100 * batch.valid_fraction:.0f} % real targets" for batch in (padded, packed)]
    return describe(
        new,
        f"Two rectangles of rows by positions. Left, one document a row: {shares[0]}, the rest is padding in grey. "
        f"Right, packed rows: {shares[1]}, and documents follow each other along each row.",
    )
