"""Which weights the layers of a decoder have in common: patterns by name, without torch.

A pattern says for each layer, and for each of its parts, which layer owns the weights. Layers are numbered from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Pattern = Literal["none", "feed-forward", "attention", "matrices", "all", "pairs", "looped"]


@dataclass(frozen=True)
class Owners:
    """For each layer the layer whose attention, feed-forward and norms it uses; its own number where it has its own."""

    attention: tuple[int, ...]
    feed_forward: tuple[int, ...]
    norms: tuple[int, ...]

    @property
    def whole_blocks(self) -> bool:
        """Whether a layer uses all of another layer's block or nothing of it."""
        return self.attention == self.feed_forward == self.norms


def owners(pattern: Pattern, n_layers: int) -> Owners:
    """The owners of each layer's parts under a pattern.

    - none: each layer has its own.
    - feed-forward: one feed-forward for all (MobiLlama, Thawakar et al. 2024, section 3; STLM, section 2.1).
    - attention: one attention for all (Lan et al. 2020, Table 4, "shared-attention").
    - matrices: attention and feed-forward, while each layer keeps its norms.
    - all: one block for all layers (ALBERT, Lan et al. 2020, section 3.1; DistilQwen3's "one decoder layer is reused").
    - pairs: each block is used twice in a row (MobileLLM, Liu et al. 2024, section 2.3).
    - looped: the first and the last layer have their own block, those between share one.
    """
    own, first = tuple(range(n_layers)), (0,) * n_layers
    if pattern == "pairs":
        pairs = tuple(layer - layer % 2 for layer in own)
        return Owners(pairs, pairs, pairs)
    if pattern == "looped":
        looped = tuple(min(layer, 1) if layer < n_layers - 1 else layer for layer in own)
        return Owners(looped, looped, looped)
    return Owners(
        attention=first if pattern in ("attention", "matrices", "all") else own,
        feed_forward=first if pattern in ("feed-forward", "matrices", "all") else own,
        norms=first if pattern == "all" else own,
    )


def numbered(uses: tuple[int, ...]) -> tuple[int, ...]:
    """Owners renumbered 0, 1, 2 as they first come: (0, 0, 2, 2) becomes (0, 0, 1, 1)."""
    places = {owner: place for place, owner in enumerate(dict.fromkeys(uses))}
    return tuple(places[owner] for owner in uses)
