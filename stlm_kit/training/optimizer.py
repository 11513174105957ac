"""AdamW with decay groups: matrices are decayed, norms and biases are not."""

from __future__ import annotations

import torch
from torch import nn

from stlm_kit.training.settings import TrainingSettings


def build_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) over `model`'s parameters in two groups.

    Weight decay pulls matrices and embeddings (two or more dimensions) towards zero; a norm's scale or a bias has no
    reason to be small, so those are left alone. A tied matrix is one Parameter and is updated once.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    device_type = next(model.parameters()).device.type
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.beta_1, settings.beta_2),
        eps=settings.epsilon,
        fused=device_type in ("cpu", "cuda"),  # one kernel a tensor instead of a dozen; same arithmetic
    )
