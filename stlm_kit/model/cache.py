"""Keys and values kept from one forward pass for the next, so that a new token costs one position, not all of them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

KeyValue = Float[Tensor, "batch n_kv_heads keys head_dim"]


class CacheEntry:
    """The keys and values of one use of a block, for all positions read so far."""

    def __init__(self) -> None:
        self.keys: KeyValue | None = None
        self.values: KeyValue | None = None

    def extend(self, keys: KeyValue, values: KeyValue) -> tuple[KeyValue, KeyValue]:
        """Add the newest positions; gives all of them."""
        if self.keys is not None:
            keys, values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


class Cache:
    """One entry for each use of a block: two layers that share weights still see different streams.

    Handed to `Decoder.features`, which reads on from `length` and moves it. Anything with a `length`, and `entries`
    whose items can `extend`, serves as a cache.
    """

    def __init__(self, n_layers: int) -> None:
        self.entries = [CacheEntry() for _ in range(n_layers)]
        self.length = 0  # positions read so far
