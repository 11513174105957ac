"""The floating-point operations of a training step, counted while the step runs on fake tensors.

Matrix products and attention kernels are counted as torch's FlopCounterMode counts them: a multiplication and an
addition each. Causal attention counts in full, so with a window the count is an upper bound. A fused attention kernel
computes its scores again in the backward pass (Dao et al. 2022, section 3.1), and these count, too. Everything else is
left out. The largest such part is the optimizer's update: a few operations a weight, where a step needs six a weight
and position.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from stlm_kit.config import ModelConfig
from stlm_kit.memory.fake_run import fake_run
from stlm_kit.memory.kernel_scratch import WithoutValues
from stlm_kit.memory.predict import check_numbers
from stlm_kit.memory.report import Semantics, check_choices
from stlm_kit.memory.step_under_test import Subject, in_one_chunk
from stlm_kit.memory.torch_patches import in_each_backward
from stlm_kit.training.loss import Loss
from stlm_kit.training.recipe import Recipe

aten = torch.ops.aten


def _attention(q, k, v, *_, **__) -> int:
    """The operations of a kernel from the shapes of its arguments. Each query head multiplies its keys and values."""
    return sdpa_flop_count(q, *((*x[:1], q[1], *x[2:]) for x in (k, v)))


def _attention_backward(gradient, q, k, v, *_, **__) -> int:
    return sdpa_backward_flop_count(gradient, q, *((*x[:1], q[1], *x[2:]) for x in (k, v)))


# torch's counter does not know the CPU's attention kernel and, before torch 2.13, no grouped queries.
ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten._scaled_dot_product_efficient_attention: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten._scaled_dot_product_flash_attention_backward: _attention_backward,
    aten._scaled_dot_product_efficient_attention_backward: _attention_backward,
}


@dataclass(frozen=True)
class StepOperations:
    """The operations of one training step. `recomputed`: those that checkpointing does a second time."""

    forward: int
    backward: int
    recomputed: int

    @property
    def own(self) -> int:
        """The operations of the model itself, without recomputation."""
        return self.forward + self.backward

    @property
    def spent(self) -> int:
        """All operations that the device computes, with recomputation."""
        return self.own + self.recomputed


def count_operations(
    build: Callable[[], object],
    step: Callable[[object], object],
    *,
    semantics: Semantics = "cuda",
    valid_fraction: float = 1.0,
) -> int:
    """The operations of one training step of any module and any loop, including recomputation.

    `build` and `step` are those of `predict_step`, and boolean masks are treated as there. One step is run. UsageError
    for unknown semantics or a share out of range. Exceptions of `build` and `step` are not caught.
    """
    check_choices("step", semantics)
    check_numbers(1, valid_fraction)
    return sum(_counted(build, step, semantics, valid_fraction))


@functools.lru_cache(maxsize=256)
def step_operations(
    config: ModelConfig | str,
    recipe: Recipe | str,
    rows: int,
    sequence_length: int,
    valid_fraction: float = 1.0,
    accumulation_steps: int = 1,
    loss: Callable[[], Loss] | None = None,
) -> StepOperations:
    """The operations of a preset's training step with a recipe, on CUDA.

    loss: makes your own loss, as in `predict_peak`. What it computes in the forward pass counts as forward, such as a
    teacher's forward pass, and the head's gradients of a loss in chunks.

    A step is `accumulation_steps` micro-batches of `rows` rows of `sequence_length` input positions. `valid_fraction`
    of the positions have a real target. A chunked loss computes the head's gradients in the forward pass; here they
    count as backward, as with the plain loss. Raises UsageError for unknown names, sizes out of range and wrong
    combinations.
    """
    subject = Subject.of(config, recipe, rows, sequence_length, valid_fraction, accumulation_steps, loss=loss)
    # An update multiplies no matrices, and tiling splits a layer's products by rows without changing their number. The
    # stand-in for FlexAttention computes nothing, so its products are counted in SDPA.
    computed = replace(subject.recipe, optimizer="fused", update="after")
    if computed.checkpointing == "tiled":
        computed = replace(computed, checkpointing="layer")
    if computed.attention == "flex":
        computed = replace(computed, attention="sdpa")
    plain = replace(computed, checkpointing="none", loss="plain" if computed.loss == "chunked" else computed.loss)
    forward, backward = _passes(subject, plain)
    spent = forward + backward if computed == plain else sum(_passes(subject, computed))
    parts = (forward, backward, spent - forward - backward)
    return StepOperations(*(accumulation_steps * part for part in parts))


def _passes(subject: Subject, recipe: Recipe) -> tuple[int, int]:
    """(operations outside the backward passes, inside them) of one micro-batch, without clipping and update."""
    subject = replace(subject, recipe=recipe, accumulation_steps=1)
    return _counted(subject.build, lambda state: state.compute(subject.batch()), "cuda", subject.valid_fraction)


def _counted(
    build: Callable[[], object], step: Callable[[object], object], semantics: Semantics, valid_fraction: float
) -> tuple[int, int]:
    """(operations outside the backward passes of one step, operations inside them)."""
    counter = FlopCounterMode(display=False, custom_mapping=ATTENTION)
    inside = 0

    @contextmanager
    def adding_up() -> Iterator[None]:
        nonlocal inside
        before = counter.get_total_flops()
        yield
        inside += counter.get_total_flops() - before

    values = WithoutValues(valid_fraction)
    with in_one_chunk(), fake_run(semantics, values):
        answering = _Answering(values)
        with answering:
            state = build()
        # The counter is below, so it sees the operations that replaced those that need values.
        with in_each_backward(adding_up), counter, answering:
            step(state)
    return counter.get_total_flops() - inside, inside


class _Answering(TorchDispatchMode):
    """Within this context, operations that need a fake tensor's values are computed with assumed values."""

    def __init__(self, answer: WithoutValues) -> None:
        super().__init__()
        self._answer = answer

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "prim":
            return func(*args, **(kwargs or {}))
        if any(map(is_traceable_wrapper_subclass, tree_leaves((args, kwargs)))):
            return NotImplemented  # a wrapper tensor unpacks itself and calls this again
        return self._answer(func, args, kwargs or {}, in_backward=False)
