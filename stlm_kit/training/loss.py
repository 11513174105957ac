"""Losses over (features, head, targets), so that a loss may decide how much of the logits ever exists at once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stlm_kit.data.batches import IGNORE


def plain_loss(
    features: Float[Tensor, "batch seq d_model"], head: nn.Linear, targets: Int[Tensor, "batch seq"]
) -> Float[Tensor, ""]:
    """Cross-entropy of every real target, summed, in nats: -sum log softmax(head(features))[target].

    Summed, not averaged, so that sums over micro-batches of unequal size add up to the loss of their union.
    Positions whose target is IGNORE (-100) count nothing.
    """
    logits = head(features).flatten(0, 1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # bf16 sums lose digits; float64 stays
    return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE, reduction="sum")
