"""A block of the decoder: attention, then a feed-forward layer, each after a norm and added to the residual stream."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor, nn

from stlm_kit.config import DecoderConfig
from stlm_kit.model.attention import get_attention
from stlm_kit.model.cache import CacheEntry
from stlm_kit.model.layers import CosSin, make_feed_forward, make_norm, rotate

Stream = Float[Tensor, "batch seq d_model"]
Documents = Int[Tensor, "batch positions"] | None


class Attention(nn.Module):
    """Project to queries, keys and values, rotate queries and keys (rotary positions only), attend, project back."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.head_dim, self.window = config.head_dim, config.window
        queries, keys = config.n_heads * config.head_dim, config.kv_heads * config.head_dim
        self.query = nn.Linear(config.d_model, queries, bias=config.bias)
        self.key = nn.Linear(config.d_model, keys, bias=config.bias)
        self.value = nn.Linear(config.d_model, keys, bias=config.bias)
        self.output = nn.Linear(queries, config.d_model, bias=config.bias)
        norm = (lambda: nn.RMSNorm(config.head_dim, eps=config.norm_epsilon)) if config.qk_norm else nn.Identity
        self.query_norm, self.key_norm = norm(), norm()  # as in Qwen3 (Yang et al. 2025), over each head
        self.weight_dropout = nn.Dropout(config.dropout)  # used inside the attention function
        self.dropout = nn.Dropout(config.dropout)
        self.function: Callable[..., Tensor] = get_attention("sdpa")

    def forward(
        self, x: Stream, cos_sin: CosSin | None = None, documents: Documents = None, cached: CacheEntry | None = None
    ) -> Stream:
        """The attention output, [batch, seq, d_model], without the residual. `cached` is extended by keys and
        values.
        """
        q, k, v = (
            project(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        q, k = self.query_norm(q), self.key_norm(k)
        if cos_sin is not None:
            q, k = rotate(q, *cos_sin), rotate(k, *cos_sin)
        if cached is not None:
            k, v = cached.extend(k, v)
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

    def forward(
        self, x: Stream, cos_sin: CosSin | None = None, documents: Documents = None, cached: CacheEntry | None = None
    ) -> Stream:
        """The residual stream after the block, [batch, seq, d_model]."""
        x = x + self.attention(self.norm_1(x), cos_sin, documents, cached)
        return x + self.feed_forward(self.norm_2(x))
