"""AdamW with decay groups: matrices are decayed, norms and biases are not.

The recipe chooses how many bits its two moments have, and when each weight is updated.
"""

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
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) over the trained parameters of `model` and of a `loss` module.

    Frozen parameters have no state. There are two groups: weight decay applies to matrices and embeddings (two or more
    dimensions), but not to norm scales and biases, which need not be small. A tied matrix is one Parameter and is
    updated once.
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
    # the same arithmetic with a dozen times fewer kernels
    fused = recipe.optimizer == "fused" and kind in ("cpu", "cuda")
    return torch.optim.AdamW(groups, **numbers, fused=fused, foreach=not fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):  # compiled optimizers hold it in a tensor
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate


@contextmanager
def updated_in_backward(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within this context `.backward()` updates each weight once its gradient is complete, then frees the gradient.

    So at most one gradient exists at a time (Lv et al. 2023, LOMO, do this for SGD). An optimizer skips weights without
    a gradient, so a step with only one gradient updates only that weight. There is no global norm to clip by.
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
