"""One training step: the function that the loop, a memory measurement and a prediction all call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from stlm_kit.data.batches import Batch
from stlm_kit.training.compilation import compiled
from stlm_kit.training.loss import LOSSES
from stlm_kit.training.recipe import Recipe


class Step:
    """`step(batch)` or `step([micro_batch, ...])`: forward, backward, clip, update; gives the loss as a tensor.

    The loss is the mean over all real targets of all micro-batches, in nats. Each micro-batch adds its *summed* nats
    divided by that common count: averaging per micro-batch first would weigh a nearly empty row like a full one.
    Nothing here waits for the device or reads a value back, so fake tensors go through it too.
    `gradient_norm` holds the last global norm before clipping (a scalar tensor; None where clip is 0).
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, *, clip: float = 1.0, compile=False
    ):
        self.model, self.optimizer, self.recipe, self.clip = model, optimizer, recipe, clip
        self.gradient_norm: Tensor | None = None
        self.device = next(model.parameters()).device
        model.set_attention(recipe.attention)
        self._nats: Callable[..., Tensor] = (
            compiled(self._summed_nats, self.device.type) if compile else self._summed_nats
        )

    def _summed_nats(self, inputs: Tensor, targets: Tensor, documents: Tensor | None) -> Tensor:
        return LOSSES[self.recipe.loss](self.model.features(inputs, documents), self.model.head, targets)

    def __call__(self, batches: Batch | Sequence[Batch]) -> Tensor:
        batches = [batches] if isinstance(batches, Batch) else batches
        n_real = sum(batch.n_real for batch in batches)
        total = 0.0
        self.optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            batch = batch.to(self.device)
            with self.recipe.autocast(self.device.type):
                loss = self._nats(batch.inputs, batch.targets, batch.documents) / max(n_real, 1)
            loss.backward()
            total = total + loss.detach()
        if self.clip:
            self.gradient_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return total


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
