"""The step that is predicted or measured: a preset trained with a recipe, as the two functions `build` and `step`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from unittest import mock

import torch
from torch import Tensor

from stlm_kit.config import ModelConfig
from stlm_kit.data.batches import IGNORE, Batch
from stlm_kit.errors import UsageError
from stlm_kit.memory.attention_kernels import cuda_attention
from stlm_kit.memory.report import Semantics
from stlm_kit.memory.torch_patches import eight_bit_update_without_temporaries
from stlm_kit.model.blocks import Attention
from stlm_kit.model.kinds import build_model
from stlm_kit.presets import preset
from stlm_kit.training import loss as losses
from stlm_kit.training.loss import Loss
from stlm_kit.training.optimizer import build_optimizer
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.settings import TrainingSettings
from stlm_kit.training.step import Step
from stlm_kit.training.trainable import ready, train_only

LARGEST = 2**31  # of any size; beyond it nothing trains, so it is probably a typing error


@dataclass(frozen=True)
class Subject:
    """A training step of the kit: `build()` creates its state, `step(state)` trains on one more batch.

    valid_fraction: the share of positions with a real target; the others are padding. accumulation_steps: micro-batches
    of `batch_size` rows in one step. trainable: the names of the trained parameters. loss: makes your own loss. Both
    are as in training. Raises UsageError with one sentence for sizes and combinations that are impossible.
    """

    config: ModelConfig
    recipe: Recipe
    batch_size: int
    sequence_length: int  # input positions
    valid_fraction: float = 1.0
    accumulation_steps: int = 1
    device: str = "cpu"
    trainable: tuple[str, ...] | None = None
    loss: Callable[[], Loss] | None = None  # called where the model is built, so that its tensors are fake, too

    @classmethod
    def of(cls, config: ModelConfig | str, recipe: Recipe | str, *sizes, **more) -> Subject:
        """A subject from names or objects. UsageError for an unknown name."""
        config = preset(config) if isinstance(config, str) else config
        recipe = Recipe.named(recipe) if isinstance(recipe, str) else recipe
        for value, kind in ((config, ModelConfig), (recipe, Recipe)):
            if not isinstance(value, kind):
                raise UsageError(f"{value!r} will not do; give a {kind.__name__} or its name.")
        return cls(config, recipe, *sizes, **more)

    def __post_init__(self) -> None:
        for name in ("batch_size", "sequence_length", "accumulation_steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
                raise UsageError(f"{name} = {value!r} will not do; give a whole number from 1 to 2^31.")
        share = self.valid_fraction
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise UsageError(
                f"valid_fraction = {share!r} will not do; give the share of real targets, more than 0, at most 1."
            )
        config, recipe, head_dim = self.config, self.recipe, getattr(self.config, "head_dim", 0)
        if self.trainable is not None:
            object.__setattr__(self, "trainable", tuple(self.trainable))
        for wrong, sentence in (
            (
                getattr(config, "positions", "") == "learned" and self.sequence_length > config.context_length,
                f"The model has {config.context_length} learned positions and sequence_length is "
                f"{self.sequence_length}; shorten it, or use rotary or sinusoidal positions.",
            ),
            (
                recipe.attention == "flex" and config.dropout > 0,
                "Flex attention cannot drop attention weights; set dropout to 0 or use sdpa.",
            ),
            (
                recipe.attention == "flash" and head_dim > 256,
                f"flash-attn takes heads up to 256 wide, not {head_dim}; use more heads, or sdpa.",
            ),
            (
                recipe.update == "in_backward" and self.accumulation_steps > 1,
                "in-backward updates after each micro-batch; leave it out, or set accumulation_steps to 1.",
            ),
        ):
            if wrong:
                raise UsageError(sentence)

    @property
    def positions(self) -> int:
        """Input positions of one micro-batch: rows times sequence length."""
        return self.batch_size * self.sequence_length

    def check_runs_on(self, device_type: Semantics) -> None:
        """Raise UsageError with one sentence where the recipe cannot train on such a device."""
        reason = self.recipe.unsuitable(device_type)
        if not reason and device_type == "cpu" and self.recipe.attention in ("flex", "flash"):
            reason = f"Attention {self.recipe.attention!r} needs a CUDA GPU; use 'sdpa' or semantics=\"cuda\"."
        if reason:
            raise UsageError(reason)

    def build(self) -> Step:
        """Create the step with its model and optimizer."""
        with torch.device(self.device):
            model = build_model(self.config).train()
            loss = None if self.loss is None else ready(self.loss())
        train_only(model, self.trainable)
        recipe = self.recipe
        optimizer = build_optimizer(model, TrainingSettings(), recipe, loss)
        if self.device == "cpu" and recipe.attention in STAND_INS:
            step = Step(model, optimizer, replace(recipe, attention="sdpa"), loss=loss)
            for module in model.modules():
                if isinstance(module, Attention):
                    module.function = STAND_INS[recipe.attention]
            return step
        return Step(model, optimizer, recipe, loss=loss)

    def step(self, state: Step) -> None:
        """Train on one more batch."""
        state([self.batch(number) for number in range(self.accumulation_steps)])

    def batch(self, number: int = 0) -> Batch:
        """A batch of arbitrary tokens. `valid_fraction` of its positions, at its end, have a real target."""
        shape = self.batch_size, self.sequence_length
        inputs = torch.zeros(shape, dtype=torch.int64, device=self.device)
        targets = torch.zeros(shape, dtype=torch.int64, device=self.device)
        n_padding = self.positions - round(self.valid_fraction * self.positions)
        if n_padding:
            targets.view(-1)[:n_padding] = IGNORE
        return Batch(inputs, targets)


def flash_stand_in(q, k, v, window=None, documents=None, dropout=0.0) -> Tensor:
    """Attention that saves the same tensors as flash-attn: q, k, v, the output, and one log-sum-exp for each query.

    flash-attn needs a GPU, so this calls PyTorch's FlashAttention operator, which takes the same tensors.
    """
    return cuda_attention(q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=True)


class _Flex(torch.autograd.Function):
    """The allocations of compiled FlexAttention: the output and one log-sum-exp for each query.

    In the backward pass it allocates one dot product for each query.
    """

    @staticmethod
    def forward(ctx, q, k, v):
        out, log_sum_exp = torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, log_sum_exp)
        return out

    @staticmethod
    def backward(ctx, gradient):
        q, k, v, _, log_sum_exp = ctx.saved_tensors
        dots = torch.empty_like(log_sum_exp)  # noqa: F841
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def flex_stand_in(q, k, v, window=None, documents=None, dropout=0.0) -> Tensor:
    """Attention that allocates what compiled FlexAttention allocates, without computing."""
    return _Flex.apply(q, k, v)


STAND_INS = {"flash": flash_stand_in, "flex": flex_stand_in}


@contextmanager
def folded(recipe: Recipe, semantics: Semantics):
    """Within this context repeated equal work is done a few times only. No size changes.

    Of a chunked loss's equal chunks, the first, the second and the last are computed, because each leaves its tensors
    behind. With CUDA's semantics a chunk is as large as on a GPU and is not divided. torchao's update is compiled on a
    GPU, so it allocates nothing temporary.
    """
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(mock.patch.object(losses, "chunk_starts", few))
        if semantics == "cuda":
            on_gpu = losses.chunk_rows("cuda")
            enter(mock.patch.object(losses, "chunk_rows", lambda device_type: on_gpu))
            enter(mock.patch.object(losses, "cached_rows", lambda device_type, rows: rows))
            if recipe.optimizer == "8bit":
                enter(eight_bit_update_without_temporaries())
        yield


@contextmanager
def in_one_chunk():
    """Within this context a chunked loss takes all positions as one chunk: the same products in fewer operations."""
    with (
        mock.patch.object(losses, "chunk_rows", lambda device_type: LARGEST),
        mock.patch.object(losses, "cached_rows", lambda device_type, rows: rows),
    ):
        yield


def few(n_positions: int, rows: int) -> list[int]:
    """The starts of the first two chunks and of the last one."""
    whole = range(0, n_positions, rows)
    return list(whole) if len(whole) <= 3 else [whole[0], whole[1], whole[-1]]
