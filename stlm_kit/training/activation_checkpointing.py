"""Activation checkpointing: a block forgets what it computed and computes it again when the backward pass needs it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

aten = torch.ops.aten
# What selective checkpointing keeps: the results that are expensive to compute again. Norms, activations, dropout
# and the score matrix of eager attention (bmm) are cheap for the memory that they take.
EXPENSIVE = {
    aten.mm.default,
    aten.addmm.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
}


def _policy(context, operation, *arguments, **options) -> CheckpointPolicy:
    expensive = operation in EXPENSIVE or operation.namespace == "flash_attn"
    return CheckpointPolicy.MUST_SAVE if expensive else CheckpointPolicy.PREFER_RECOMPUTE


@contextmanager
def checkpointed(blocks: Iterable[nn.Module], how: str) -> Iterator[None]:
    """Within this context each block keeps for its backward pass: all ("none"), its input alone ("layer"; Chen et al.
    2016, section 3), or its matrix products ("selective"; Korthikanti et al. 2022, section 5, keeps by the same rule).
    "tiled" is "layer", a few rows at a time, so that nothing of a block exists for all rows at once.

    Only forward passes belong inside. Dropout draws the same masks again, so gradients are exactly those without.
    """
    if how == "none":
        yield
        return
    options = {"use_reentrant": False}
    if how == "selective":
        options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _policy)
    once = _in_tiles if how == "tiled" else functools.partial(checkpoint, **options)
    blocks = list(dict.fromkeys(blocks))  # one that is used several times is wrapped once
    for block in blocks:  # an instance's `forward` hides its class's, hooks included
        block.forward = functools.partial(once, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


TILES = 4  # at most: a GPU wants large matmuls, and each tile costs a sum over the block's weight gradients


def _in_tiles(
    forward: Callable[..., Tensor], x: Tensor, cos_sin: object = None, documents: Tensor | None = None, cached=None
) -> Tensor:
    """A block's forward pass over [batch, seq, d_model], each tile of rows checkpointed: rows know nothing of each
    other. Dropout draws tile after tile, so its masks are others than without tiles."""
    tiles = x.chunk(TILES)
    numbers = [None] * len(tiles) if documents is None else documents.chunk(TILES)
    rows = zip(tiles, numbers, strict=True)
    return torch.cat([checkpoint(forward, tile, cos_sin, of_tile, use_reentrant=False) for tile, of_tile in rows])
