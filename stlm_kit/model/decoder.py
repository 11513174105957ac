"""The kit's one decoder: token ids in, features out, and a head that maps features to logits.

features = final_norm(layers(embedding + positions)), and forward is head(features). Losses that never hold all logits
at once use `features` and `head`. Checkpointing wraps `blocks` from outside. Each layer is one application of a block,
in the order of `order`, so blocks can be shared, repeated or left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import overload

import torch
from jaxtyping import Int
from torch import Tensor, nn

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import UsageError
from stlm_kit.layer_sharing import owners
from stlm_kit.model.blocks import Documents, Stream
from stlm_kit.model.cache import Cache
from stlm_kit.model.language_model import FeatureModel
from stlm_kit.model.layers import (
    CosSin,
    LearnedPositions,
    Rotary,
    SinusoidalPositions,
    check_ids,
    make_norm,
)
from stlm_kit.model.sharing import make_blocks


class Decoder(FeatureModel):
    """A decoder-only transformer. Its `config` holds every choice.

    It starts in training mode like any module; call `.eval()` before you compare or generate. Weights start as N(0,
    init_std), biases at 0. Weights that write into the residual stream are divided by sqrt(2 n_layers) (Radford et al.
    2019, section 2.3). n_layers counts layers and not distinct blocks, because a repeated block adds to the stream each
    time.

    order: the block that each layer uses (None: each block once). A schedule may change it between steps, as LayerDrop
    does to leave blocks out.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        added = {"learned": LearnedPositions, "sinusoidal": SinusoidalPositions}.get(config.positions)
        self.positions = added(config) if added else None
        self.rotary = Rotary(config) if config.positions == "rotary" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = make_blocks(config)
        self.order: Sequence[int] | None = config.order if len(self.blocks) < config.n_layers else None
        self.layer_index = nn.Embedding(config.n_layers, config.d_model) if config.layer_index else None
        self.final_norm = make_norm(config)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=config.head_bias)
        if config.tied_head:
            self.head.weight = self.embedding.weight  # the same Parameter: one matrix, trained by both uses
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all weights again from torch's global generator."""
        if self.embedding.weight.is_meta:  # shapes only, nothing to draw
            return
        for name, parameter in self.named_parameters():
            if name.endswith(("bias", "lora_out.weight")):
                parameter.zero_()
            elif "norm" in name:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, self._start_std(name))

    def _start_std(self, name: str) -> float:
        """The standard deviation that a matrix starts with."""
        config, std = self.config, self.config.init_std
        if ".lora_in." in name:
            return std
        for part in ("attention.output", "feed_forward.down"):
            if f"{part}." in name:  # it writes into the stream
                uses = owners(config.sharing, config.n_layers)
                owned = uses.attention if part.startswith("attention") else uses.feed_forward
                if config.layer_order is not None:
                    owned = config.layer_order
                std /= math.sqrt(2 * (config.n_layers if config.init_residuals == "layers" else len(set(owned))))
        if config.factor_rank is not None and "feed_forward" in name:
            # Two factors: a product of numbers with std s each, summed over the rank, has the std s^2 sqrt(rank).
            return math.sqrt(std / math.sqrt(config.factor_rank))
        return std

    def embed(self, ids: Int[Tensor, "batch seq"], start: int = 0) -> Stream:
        """Token embeddings [batch, seq, d_model] with scale, positions (counted from `start`) and dropout."""
        check_ids(ids, self.config.vocab_size)
        x = self.embedding(ids)
        if self.config.embedding_scale:
            x = x * math.sqrt(self.config.d_model)
        return self.dropout(x if self.positions is None else self.positions(x, start))

    def cos_sin(self, x: Stream, start: int = 0) -> CosSin | None:
        """Rotary cosines and sines for x's positions, counted from `start`, in the type of queries and keys.

        None without rotary positions.
        """
        if self.rotary is None:
            return None
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return self.rotary(x.shape[1], dtype, start)

    def layers(self) -> Iterator[nn.Module]:
        """The block that each layer uses, in order."""
        return iter(self.blocks) if self.order is None else (self.blocks[number] for number in self.order)

    def new_cache(self) -> Cache:
        """An empty key/value cache with one entry for each layer."""
        return Cache(len(list(self.layers())))

    @overload
    def features(self, ids, documents=None, *, cache=None, layers: None = None) -> Stream: ...

    @overload
    def features(self, ids, documents=None, *, cache=None, layers: Sequence[int]) -> tuple[Stream, list[Stream]]: ...

    def features(
        self,
        ids: Int[Tensor, "batch seq"],
        documents: Documents = None,
        *,
        cache: Cache | None = None,
        layers: Sequence[int] | None = None,
    ):
        """The input of the head: the residual stream after the final norm, [batch, seq, d_model].

        documents: the number of each position's document. If it is given, a token attends only within its document.
        Positions are counted along the row in either case. With a cache, `documents` covers all positions, the cached
        ones first. cache: keys and values of the positions before `ids`. The new ones are appended, and positions
        continue from there. layers: return (features, [the stream after that many layers, for each entry]) instead; 0
        is the embedding.

        Raises KitError for a token id outside the vocabulary and for more positions than were learned. The ids are
        checked on the CPU; on CUDA a check would force a synchronization, so a wrong id is a device-side assert.
        UsageError for a layer that does not exist.
        """
        start = 0 if cache is None else cache.length
        x = self.embed(ids, start)
        cos_sin = self.cos_sin(x, start)
        streams = [] if layers is None else [x]
        for use, block in enumerate(self.layers()):
            if self.layer_index is not None:
                x = x + self.layer_index.weight[use]
            x = block(x, cos_sin, documents, None if cache is None else cache.entries[use])
            if layers is not None:
                streams.append(x)
        if cache is not None:
            cache.length += ids.shape[1]
        if layers is None:
            return self.final_norm(x)
        if wrong := [layer for layer in layers if not 0 <= layer < len(streams)]:
            raise UsageError(f"There is no stream after layer {wrong[0]}; they go from 0 to {len(streams) - 1}.")
        return self.final_norm(x), [streams[layer] for layer in layers]
