"""AdamW with decay groups: matrices are decayed, norms and biases are not. Where and in how many bits it keeps its
two moments, and when each weight is updated, is the recipe's choice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from stlm_kit.training.recipe import Recipe
from stlm_kit.training.settings import TrainingSettings
from stlm_kit.training.trainable import named_trainable


def build_optimizer(
    model: nn.Module, settings: TrainingSettings, recipe: Recipe | None = None, loss: object = None
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) over the parameters that are trained, in two groups: those of
    `model`, and those of a `loss` that is a module with its own. Frozen ones take no state.

    Weight decay pulls matrices and embeddings (two or more dimensions) towards zero; a norm's scale or a bias has no
    reason to be small, so those are left alone. A tied matrix is one Parameter and is updated once.
    """
    recipe = recipe or Recipe()
    trained = [parameter for _, parameter in named_trainable(model, loss)]
    matrices = [parameter for parameter in trained if parameter.ndim >= 2]
    vectors = [parameter for parameter in trained if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    numbers = {"lr": settings.learning_rate, "betas": (settings.beta_1, settings.beta_2), "eps": settings.epsilon}
    if recipe.optimizer == "8bit":
        from stlm_kit.training.adamw8bit import EightBitAdamW

        return EightBitAdamW(groups, **numbers)
    kind = next(model.parameters()).device.type
    fused = recipe.optimizer == "fused" and kind in ("cpu", "cuda")  # same arithmetic, a dozen times fewer kernels
    return torch.optim.AdamW(groups, **numbers, fused=fused, foreach=not fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):  # compiled optimizers hold it in a tensor
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate


@contextmanager
def updated_in_backward(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within this context `.backward()` updates each weight once its gradient is whole, then drops the gradient.

    So never more than one gradient exists (Lv et al. 2023, LOMO, do it for SGD). An optimizer passes over weights
    that have no gradient: a step while there is only one updates that one. No global norm exists to clip by.
    """

    def update(parameter: nn.Parameter) -> None:
        optimizer.step()
        parameter.grad = None

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    hooks = [parameter.register_post_accumulate_grad_hook(update) for parameter in parameters]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
