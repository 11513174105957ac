"""One training step: the function that the loop, a memory measurement and a prediction all call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from stlm_kit.data.batches import Batch
from stlm_kit.errors import UsageError
from stlm_kit.model.language_model import LanguageModel
from stlm_kit.training.activation_checkpointing import checkpointed
from stlm_kit.training.compilation import compiled
from stlm_kit.training.loss import Loss, LossValue, NextTokenLoss
from stlm_kit.training.optimizer import updated_in_backward
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.trainable import named_trainable


class Step:
    """`step(batch)` or `step([micro_batch, ...])`: forward, backward, clip, update. Returns the loss as a tensor.

    The loss is the mean over all real targets of all micro-batches, in nats. Each micro-batch adds its *summed* nats
    divided by that common count. Averaging each micro-batch first would give a nearly empty row the weight of a full
    one. `loss` computes the nats; the default is the next token's cross-entropy, as the recipe says.

    No value is read back from the device, so fake tensors work, too. The exceptions are fp16's scaler, which checks for
    infinities, and losses over real rows only, whose number must be read from a GPU.

    gradient_norm: the last global norm before clipping, a scalar tensor; None where clip is 0 or the recipe updates
    inside backward. outputs: the last logits where the recipe keeps them. logged: the loss's other figures, divided by
    the count.

    A step is `compute` (forward and backward), then `update`. A memory measurement reads between the two.
    """

    def __init__(
        self,
        model: LanguageModel,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        *,
        clip: float = 1.0,
        compile: bool = False,
        loss: Loss | None = None,
    ):
        self.model, self.optimizer, self.recipe, self.clip = model, optimizer, recipe, clip
        self.gradient_norm: Tensor | None = None
        self.outputs: Tensor | None = None
        self.logged: dict[str, float | Tensor] = {}
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type) if recipe.precision == "fp16" else None
        self.loss = NextTokenLoss(recipe) if loss is None else loss
        model.set_attention(recipe.attention)
        if recipe.outputs == "kept" and not hasattr(model, "head"):
            raise UsageError(
                f"{type(model).__name__} has no head whose outputs could be kept; leave out kept or study."
            )
        if compile and loss is None:
            self.loss.nats = compiled(self.loss.nats, self.device.type)
        elif compile:
            self.loss = compiled(self.loss, self.device.type)
        self._trained = [parameter for _, parameter in named_trainable(model, loss)]

    def __call__(self, batches: Batch | Sequence[Batch], number: int = 1) -> Tensor:
        loss = self.compute(batches, number)
        self.update()
        return loss

    def compute(self, batches: Batch | Sequence[Batch], number: int = 1) -> Tensor:
        """Forward and backward over the micro-batches of step `number`. Returns the loss; gradients are in the
        parameters.

        A recipe that updates inside backward has then updated the weights. UsageError for such a recipe with several
        micro-batches.
        """
        batches = [batches] if isinstance(batches, Batch) else batches
        in_backward = self.recipe.update == "in_backward"
        if in_backward and len(batches) > 1:
            raise UsageError(
                "in-backward updates after each micro-batch; leave it out, or set accumulation_steps to 1."
            )
        expected = sum(batch.weight for batch in batches)  # the expected sum of counts, unless a loss counts otherwise
        total, counts, logged = 0.0, [], []
        self.optimizer.zero_grad(set_to_none=True)
        with self.recipe.matmul_precision(), updated_in_backward(self.optimizer) if in_backward else nullcontext():
            for batch in batches:
                nats, count, log = self.forward(batch.to(self.device), number)
                loss = nats / _not_zero(count if len(batches) == 1 else expected)
                del nats
                (self.scaler.scale(loss) if self.scaler else loss).backward()
                total = total + loss.detach()
                counts.append(count)
                logged.append(log)
        counted = sum(counts)
        if len(batches) > 1 and (isinstance(counted, Tensor) or counted != expected):
            total = self._recounted(total, _not_zero(expected) / _not_zero(counted))
        self.logged = {name: sum(log[name] for log in logged) / _not_zero(counted) for name in logged[0]}
        return total

    def _recounted(self, total: Tensor, factor: float | Tensor) -> Tensor:
        """The loss divided by the losses' own count, where it differs from that of the batches.

        Gradients are rescaled, too.
        """
        for parameter in self._trained:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
        return total * factor

    def forward(self, batch: Batch, number: int = 1) -> LossValue:
        """Only the forward pass: the loss of a batch on the model's device, connected to the autograd graph."""
        with (
            self.recipe.autocast(self.device.type),
            checkpointed(getattr(self.model, "blocks", ()), self.recipe.checkpointing),
            self._keeping_outputs(),
        ):
            return self.loss(self.model, batch, number)

    def update(self) -> None:
        """Clip, then let the optimizer step. Does nothing where backward has updated the weights."""
        if self.recipe.update == "in_backward":
            return
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        if self.clip:
            self.gradient_norm = nn.utils.clip_grad_norm_(self._trained, self.clip)
        if self.scaler:  # skips a step whose gradients overflowed, and lowers its scale
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()

    @contextmanager
    def _keeping_outputs(self) -> Iterator[None]:
        if self.recipe.outputs == "dropped":
            yield
            return

        def keep(head: nn.Module, features: tuple, logits: Tensor) -> None:
            self.outputs = logits  # frees those of the previous step

        hook = self.model.head.register_forward_hook(keep)
        try:
            yield
        finally:
            hook.remove()


def _not_zero(count: float | Tensor) -> float | Tensor:
    """A divisor that is not 0: a batch without any real target has a loss of 0."""
    return torch.where(count > 0, count, 1) if isinstance(count, Tensor) else count or 1
