"""Activation checkpointing: a block forgets what it computed and computes it again when the backward pass needs it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

aten = torch.ops.aten
# What selective checkpointing keeps: the results that are dear to compute again. Norms, activations, dropout and the
# score matrix of eager attention (bmm) are cheap for the memory that they take.
DEAR = {
    aten.mm.default,
    aten.addmm.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
}


def _policy(context, operation, *arguments, **options) -> CheckpointPolicy:
    dear = operation in DEAR or operation.namespace == "flash_attn"
    return CheckpointPolicy.MUST_SAVE if dear else CheckpointPolicy.PREFER_RECOMPUTE


@contextmanager
def checkpointed(blocks: Iterable[nn.Module], how: str) -> Iterator[None]:
    """Within this context each block keeps for its backward pass: all ("none"), its input alone ("layer"; Chen et al.
    2016, section 3), or its matrix products ("selective"; Korthikanti et al. 2022, section 5, keeps by the same rule).

    Only forward passes belong inside. Dropout draws the same masks again, so gradients are exactly those without.
    """
    if how == "none":
        yield
        return
    options = {"use_reentrant": False}
    if how == "selective":
        options["context_fn"] = functools.partial(create_selective_checkpoint_contexts, _policy)
    blocks = list(blocks)
    for block in blocks:  # an instance's `forward` hides its class's, hooks included
        block.forward = functools.partial(checkpoint, block.forward, **options)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
