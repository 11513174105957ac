"""One training step: the function that the loop, a memory measurement and a prediction all call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from stlm_kit.data.batches import Batch
from stlm_kit.errors import UsageError
from stlm_kit.training.activation_checkpointing import checkpointed
from stlm_kit.training.compilation import compiled
from stlm_kit.training.loss import loss_of
from stlm_kit.training.optimizer import updated_in_backward
from stlm_kit.training.recipe import Recipe


class Step:
    """`step(batch)` or `step([micro_batch, ...])`: forward, backward, clip, update; gives the loss as a tensor.

    The loss is the mean over all real targets of all micro-batches, in nats. Each micro-batch adds its *summed* nats
    divided by that common count: averaging per micro-batch first would weigh a nearly empty row like a full one.
    Nothing here waits for the device or reads a value back, so fake tensors go through it too (but for fp16's scaler,
    which looks for infinities, and for losses over real rows alone, whose number a GPU has to be asked for).
    `gradient_norm` holds the last global norm before clipping (a scalar tensor; None where clip is 0 or the recipe
    updates inside backward). `outputs` holds the last logits where the recipe keeps them.

    The step is `compute` (forward and backward), then `update`; a memory measurement looks between the two.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, *, clip: float = 1.0, compile=False
    ):
        self.model, self.optimizer, self.recipe, self.clip = model, optimizer, recipe, clip
        self.gradient_norm: Tensor | None = None
        self.outputs: Tensor | None = None
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type) if recipe.precision == "fp16" else None
        model.set_attention(recipe.attention)
        self._loss = loss_of(recipe)
        self._nats: Callable[..., Tensor] = (
            compiled(self._summed_nats, self.device.type) if compile else self._summed_nats
        )

    def __call__(self, batches: Batch | Sequence[Batch]) -> Tensor:
        loss = self.compute(batches)
        self.update()
        return loss

    def compute(self, batches: Batch | Sequence[Batch]) -> Tensor:
        """Forward and backward over the micro-batches: the loss; gradients lie in the parameters afterwards.

        A recipe that updates inside backward has updated by then. UsageError where that meets several micro-batches.
        """
        batches = [batches] if isinstance(batches, Batch) else batches
        in_backward = self.recipe.update == "in_backward"
        if in_backward and len(batches) > 1:
            raise UsageError(
                "in-backward updates after each micro-batch; leave it out, or set accumulation_steps to 1."
            )
        n_real = sum(batch.n_real for batch in batches)
        total = 0.0
        self.optimizer.zero_grad(set_to_none=True)
        with self.recipe.matmul_precision(), updated_in_backward(self.optimizer) if in_backward else nullcontext():
            for batch in batches:
                batch = batch.to(self.device)
                loss = self.forward(batch) / max(n_real, 1)
                (self.scaler.scale(loss) if self.scaler else loss).backward()
                total = total + loss.detach()
        return total

    def forward(self, batch: Batch) -> Tensor:
        """The forward pass alone: the summed nats of a batch that lies on the model's device, with its graph."""
        with (
            self.recipe.autocast(self.device.type),
            checkpointed(self.model.blocks, self.recipe.checkpointing),
            self._keeping_outputs(),
        ):
            return self._nats(batch.inputs, batch.targets, batch.documents)

    def update(self) -> None:
        """Clip and let the optimizer step; nothing is left to do where backward did."""
        if self.recipe.update == "in_backward":
            return
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        if self.clip:
            self.gradient_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        if self.scaler:  # passes over a step whose gradients overflowed, and scales less next time
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()

    def _summed_nats(self, inputs: Tensor, targets: Tensor, documents: Tensor | None) -> Tensor:
        return self._loss(self.model.features(inputs, documents), self.model.head, targets)

    @contextmanager
    def _keeping_outputs(self) -> Iterator[None]:
        if self.recipe.outputs == "dropped":
            yield
            return

        def keep(head: nn.Module, features: tuple, logits: Tensor) -> None:
            self.outputs = logits  # those of the step before are let go only now

        hook = self.model.head.register_forward_hook(keep)
        try:
            yield
        finally:
            hook.remove()
