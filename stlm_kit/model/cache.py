"""The key/value cache: with the keys and values of earlier passes, a new token needs one position instead of all."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

KeyValue = Float[Tensor, "batch n_kv_heads keys head_dim"]


class CacheEntry:
    """The keys and values of one application of a block, for all positions read so far."""

    def __init__(self) -> None:
        self.keys: KeyValue | None = None
        self.values: KeyValue | None = None

    def extend(self, keys: KeyValue, values: KeyValue) -> tuple[KeyValue, KeyValue]:
        """Append the newest positions. Returns the keys and values of all positions."""
        if self.keys is not None:
            keys, values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


class Cache:
    """One entry for each application of a block, because layers that share weights still have different inputs.

    `Decoder.features` continues from `length` and updates it. Any object works as a cache that has a `length`, and
    `entries` whose items can `extend`.
    """

    def __init__(self, n_layers: int) -> None:
        self.entries = [CacheEntry() for _ in range(n_layers)]
        self.length = 0  # positions read so far
