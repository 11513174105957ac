"""Causal attention with four backends and one signature: attention(q, k, v, window=None, documents=None, dropout=0.0).

`eager` is the readable specification and computes the score matrix. `sdpa`, `flex` and `flash` compute the same with
kernels that do not need it; tests compare them with `eager`. k and v may have fewer heads than q (grouped queries,
Ainslie et al. 2023): query head h then reads key-value head h // (n_heads / n_kv_heads). With a cache there may be
fewer queries than keys; the queries are then the last positions.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stlm_kit.errors import KitError, UsageError, near

Query = Float[Tensor, "batch n_heads queries head_dim"]
KeyValue = Float[Tensor, "batch n_kv_heads keys head_dim"]
Documents = Int[Tensor, "batch keys"]


def visible(
    n_queries: int,
    n_keys: int | None = None,
    window: int | None = None,
    documents: Documents | None = None,
    device: torch.device | None = None,
) -> Bool[Tensor, "*batch 1 queries keys"]:
    """The boolean mask: which key (column) each query (row) may attend to.

    No key after the query, none more than `window` before it, and none of another document. The queries are the last
    `n_queries` of `n_keys` positions (default: all of them).
    """
    n_keys = n_queries if n_keys is None else n_keys
    query = torch.arange(n_keys - n_queries, n_keys, device=device)[:, None]
    key = torch.arange(n_keys, device=device)
    seen = key <= query
    if window is not None:
        seen = seen & (query - key <= window)
    if documents is not None:
        seen = seen & (documents[:, None, n_keys - n_queries :, None] == documents[:, None, None, :])
    return seen


def eager(
    q: Query,
    k: KeyValue,
    v: KeyValue,
    window: int | None = None,
    documents: Documents | None = None,
    dropout: float = 0.0,
) -> Query:
    """Scaled dot-product attention, Vaswani et al. 2017, equation 1."""
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~visible(q.shape[2], k.shape[2], window, documents, q.device), -math.inf)
    weights = F.dropout(scores.softmax(dim=-1), dropout)
    return weights @ v


def sdpa(
    q: Query,
    k: KeyValue,
    v: KeyValue,
    window: int | None = None,
    documents: Documents | None = None,
    dropout: float = 0.0,
) -> Query:
    """torch's fused kernel.

    Causal attention needs no mask tensor; a window or documents need one boolean for each score.
    """
    grouped, n_queries, n_keys = q.shape[1] != k.shape[1], q.shape[2], k.shape[2]
    if window is not None and window >= n_keys - 1:
        window = None  # the window covers every position
    if window is None and documents is None and n_queries in (1, n_keys):
        # torch's is_causal would align fewer queries with the *first* keys. A single query is the last and sees every
        # key.
        causal = n_queries == n_keys
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal, enable_gqa=grouped)
    seen = visible(n_queries, n_keys, window, documents, q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=dropout, enable_gqa=grouped)


@functools.cache
def _compiled_flex() -> Callable:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)  # without compilation it computes the score matrix


def _block_mask(n_queries: int, n_keys: int, window: int | None, documents: Documents | None, device: torch.device):
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(batch, head, query, key):
        query = query + n_keys - n_queries
        inside = key <= query
        if window is not None:
            inside = inside & (query - key <= window)
        if documents is not None:
            inside = inside & (documents[batch, query] == documents[batch, key])
        return inside

    batch = None if documents is None else documents.shape[0]
    return create_block_mask(seen, batch, None, n_queries, n_keys, device=device)


# Without documents every layer of every step has the same mask.
_lasting_block_mask = functools.lru_cache(maxsize=8)(_block_mask)


def flex(
    q: Query,
    k: KeyValue,
    v: KeyValue,
    window: int | None = None,
    documents: Documents | None = None,
    dropout: float = 0.0,
) -> Query:
    """torch's FlexAttention: the mask is a function, compiled into a kernel that skips fully masked blocks.

    It has no dropout of attention weights: KitError where dropout is above 0. On CPU it has no backward pass, so
    `set_attention` allows it only on a GPU.
    """
    from torch.nn.attention.flex_attention import flex_attention

    if dropout:
        raise KitError("Flex attention cannot drop attention weights; set dropout to 0 or use 'sdpa'.")
    make = _lasting_block_mask if documents is None else _block_mask
    mask = make(q.shape[2], k.shape[2], window, documents, q.device)
    kernel = _compiled_flex() if q.device.type == "cuda" else flex_attention
    return kernel(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])


def flash(
    q: Query,
    k: KeyValue,
    v: KeyValue,
    window: int | None = None,
    documents: Documents | None = None,
    dropout: float = 0.0,
) -> Query:
    """The package flash-attn (Dao 2023), for bf16 and fp16 on a GPU.

    A document must be one contiguous run of its row. Runs become separate sequences, without padding. Fewer queries
    than keys are aligned with the last keys (flash-attn 2.1 and later). Raises KitError for another type, and for
    documents together with a cache.
    """
    from flash_attn import flash_attn_func, flash_attn_varlen_func

    if q.dtype not in (torch.bfloat16, torch.float16):
        raise KitError(f"Flash attention computes in bf16 or fp16, not {q.dtype}; use a bf16 recipe or 'sdpa'.")
    if documents is not None and q.shape[2] != k.shape[2]:
        raise KitError("Flash attention keeps no documents apart with a cache; use 'sdpa' to generate from such a row.")
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # flash-attn takes [batch, seq, heads, head_dim]
    reach = (-1 if window is None else window, 0)
    how = {"dropout_p": dropout, "causal": True, "window_size": reach}
    how["deterministic"] = torch.are_deterministic_algorithms_enabled()  # otherwise its backward pass sums in any order
    if documents is None:
        out = flash_attn_func(q, k, v, **how)
    else:
        batch, length = documents.shape
        begins = torch.ones_like(documents, dtype=torch.bool)
        begins[:, 1:] = documents[:, 1:] != documents[:, :-1]  # a row's first position always starts a document
        starts = begins.flatten().nonzero().flatten()
        bounds = torch.cat([starts, starts.new_tensor([batch * length])]).to(torch.int32)
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))
        out = flash_attn_varlen_func(q, k, v, bounds, bounds, length, length, **how).unflatten(0, (batch, length))
    return out.transpose(1, 2)


BACKENDS: dict[str, Callable[..., Tensor]] = {"eager": eager, "sdpa": sdpa, "flex": flex, "flash": flash}


def unavailable(name: str) -> str | None:
    """Why this machine cannot run a backend, as one sentence, or None where it can."""
    if name in ("flex", "flash") and not torch.cuda.is_available():
        return f"Attention {name!r} needs a CUDA GPU and this machine offers none; use 'sdpa'."
    if name == "flash" and importlib.util.find_spec("flash_attn") is None:
        return "Attention 'flash' needs the flash-attn package; install requirements-gpu.txt or use 'sdpa'."
    return None


def get_attention(name: str) -> Callable[..., Tensor]:
    """The backend called `name`. UsageError for an unknown name, KitError for one that this machine cannot run."""
    if name not in BACKENDS:
        hint = near(name, BACKENDS) or f" There are {', '.join(BACKENDS)}."
        raise UsageError(f"There is no attention named {name!r}.{hint}")
    if reason := unavailable(name):
        raise KitError(reason)
    return BACKENDS[name]
