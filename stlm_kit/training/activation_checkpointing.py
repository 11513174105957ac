"""Activation checkpointing: a block's activations are dropped and recomputed when the backward pass needs them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

aten = torch.ops.aten
# The results that selective checkpointing keeps, because they are expensive to recompute. Norms, activations, dropout
# and the score matrix of eager attention (bmm) are cheap to recompute, compared with the memory that they take.
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
    """Within this context each block saves for its backward pass what `how` says.

    "none": everything.
    "layer": its input only (Chen et al. 2016, section 3).
    "selective": its input and matrix products, the rule of Korthikanti et al. 2022, section 5.
    "tiled": as "layer", but a few rows at a time, so that no activation of a block exists for all rows at once.

    Run only forward passes inside. Dropout draws the same masks in the recomputation, so gradients equal those without
    checkpointing.
    """
    if how == "none":
        yield
        return
    options = {"use_reentrant": False}
    if how == "selective":
        options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _policy)
    once = _in_tiles if how == "tiled" else functools.partial(checkpoint, **options)
    blocks = list(dict.fromkeys(blocks))  # a block that is used several times is wrapped once
    for block in blocks:  # an instance's `forward` hides its class's, hooks included
        block.forward = functools.partial(once, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


TILES = 4  # at most: a GPU needs large matmuls, and each tile costs a sum over the block's weight gradients


def _in_tiles(
    forward: Callable[..., Tensor], x: Tensor, cos_sin: object = None, documents: Tensor | None = None, cached=None
) -> Tensor:
    """A block's forward pass over [batch, seq, d_model] in tiles of rows, each checkpointed.

    Rows do not depend on each other. Dropout draws masks for each tile, so they differ from those without tiles.
    """
    tiles = x.chunk(TILES)
    numbers = [None] * len(tiles) if documents is None else documents.chunk(TILES)
    rows = zip(tiles, numbers, strict=True)
    return torch.cat([checkpoint(forward, tile, cos_sin, of_tile, use_reentrant=False) for tile, of_tile in rows])
