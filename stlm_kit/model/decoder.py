"""The one decoder of the kit: tokens in, features out, and a head that turns features into logits.

features = final_norm(blocks(embedding + positions)); forward is head(features). Losses that never want all logits at
once take `features` and `head`; checkpointing, layer sharing and LayerDrop work on `blocks` from outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import UsageError
from stlm_kit.model.attention import get_attention
from stlm_kit.model.layers import (
    LearnedPositions,
    Rotary,
    SinusoidalPositions,
    check_ids,
    make_feed_forward,
    make_norm,
    rotate,
)

Stream = Float[Tensor, "batch seq d_model"]
Turns = tuple[Float[Tensor, "seq half"], Float[Tensor, "seq half"]] | None


class Attention(nn.Module):
    """Project to queries, keys and values, turn them by position (rotary only), attend, project back."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.head_dim, self.window = config.head_dim, config.window
        keys = config.kv_heads * config.head_dim
        self.query = nn.Linear(config.d_model, config.d_model, bias=config.bias)
        self.key = nn.Linear(config.d_model, keys, bias=config.bias)
        self.value = nn.Linear(config.d_model, keys, bias=config.bias)
        self.output = nn.Linear(config.d_model, config.d_model, bias=config.bias)
        self.weight_dropout = nn.Dropout(config.dropout)  # applied inside the attention function
        self.dropout = nn.Dropout(config.dropout)
        self.function: Callable[..., Tensor] = get_attention("sdpa")

    def forward(self, x: Stream, turns: Turns = None, documents: Int[Tensor, "batch seq"] | None = None) -> Stream:
        q, k, v = (
            project(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        if turns is not None:
            q, k = rotate(q, *turns), rotate(k, *turns)
        dropout = self.weight_dropout.p if self.training else 0.0
        mixed = self.function(q, k, v, window=self.window, documents=documents, dropout=dropout)
        return self.dropout(self.output(mixed.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """A pre-norm block: x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.norm_1 = make_norm(config)
        self.attention = Attention(config)
        self.norm_2 = make_norm(config)
        self.feed_forward = make_feed_forward(config)

    def forward(self, x: Stream, turns: Turns = None, documents: Int[Tensor, "batch seq"] | None = None) -> Stream:
        x = x + self.attention(self.norm_1(x), turns, documents)
        return x + self.feed_forward(self.norm_2(x))


class Decoder(nn.Module):
    """A decoder-only transformer, every choice of which is in its `config`.

    Starts in training mode like any module; call `.eval()` before comparing or generating. Weights begin as
    N(0, init_std), those that write into the residual stream divided by sqrt(2 n_layers) (Radford et al. 2019,
    section 2.3), biases at 0.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        added = {"learned": LearnedPositions, "sinusoidal": SinusoidalPositions}.get(config.positions)
        self.positions = added(config) if added else None
        self.rotary = Rotary(config) if config.positions == "rotary" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.final_norm = make_norm(config)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=config.head_bias)
        if config.tied_head:
            self.head.weight = self.embedding.weight  # the same Parameter, so one matrix learns both jobs
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global generator."""
        if self.embedding.weight.is_meta:  # shapes only: nothing to draw
            return
        std = self.config.init_std
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif "norm" in name:
                parameter.fill_(1.0)
            else:
                into_stream = name.endswith(("attention.output.weight", "feed_forward.down.weight"))
                parameter.normal_(0.0, std / math.sqrt(2 * self.config.n_layers) if into_stream else std)

    def embed(self, ids: Int[Tensor, "batch seq"]) -> Stream:
        """Token embeddings with what is added to them: scale, positions, dropout."""
        check_ids(ids, self.config.vocab_size)
        x = self.embedding(ids)
        if self.config.embedding_scale:
            x = x * math.sqrt(self.config.d_model)
        return self.dropout(x if self.positions is None else self.positions(x))

    def turns(self, x: Stream) -> Turns:
        """Rotary cosines and sines for x's length, in the type that queries and keys will have; None without rotary."""
        if self.rotary is None:
            return None
        kind = x.device.type
        return self.rotary(x.shape[1], torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype)

    def features(self, ids: Int[Tensor, "batch seq"], documents: Int[Tensor, "batch seq"] | None = None) -> Stream:
        """What the head reads: the residual stream after the final norm.

        `documents` numbers the document of each position; where given, a token sees its own document only. Positions
        keep counting along the row either way. Raises KitError for a token id outside the vocabulary (checked on CPU;
        on CUDA it is a device-side assert, since looking would stall the GPU) and for more positions than were learned.
        """
        x = self.embed(ids)
        turns = self.turns(x)
        for block in self.blocks:
            x = block(x, turns, documents)
        return self.final_norm(x)

    def forward(
        self, ids: Int[Tensor, "batch seq"], documents: Int[Tensor, "batch seq"] | None = None
    ) -> Float[Tensor, "batch seq vocab"]:
        return self.head(self.features(ids, documents))

    def set_attention(self, name: str) -> Decoder:
        """Compute attention with "eager", "sdpa", "flex" or "flash" from now on.

        UsageError for an unknown name; KitError, one sentence, for one that this machine cannot run.
        """
        function = get_attention(name)
        for block in self.blocks:
            block.attention.function = function
        return self

    def set_dropout(self, probability: float) -> Decoder:
        """Change the one dropout rate from now on (for a schedule); `.eval()` still switches it off."""
        if not 0 <= probability < 1:
            raise UsageError(f"dropout = {probability} will not do: a probability from 0 up to, not including, 1.")
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = probability
        return self
