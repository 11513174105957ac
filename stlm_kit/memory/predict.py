"""Predict the memory of a training step without running it on the device: it runs on fake tensors, which have no data.

    build() and step(state) -> trace -> recording -> more steps like the last (steady_state.py) -> allocator -> report

Everything that decides about memory is real: the kit's step or your own loop, autograd, and the optimizer. Only the
numbers are missing, so a batch of thousands of rows is traced as quickly as a small one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean

from torch import Tensor, nn
from torch.optim import Optimizer

from stlm_kit.config import ModelConfig
from stlm_kit.errors import UsageError
from stlm_kit.memory.assumptions import assumptions
from stlm_kit.memory.devices import Device, device_named
from stlm_kit.memory.fake_run import fake_run
from stlm_kit.memory.kernel_scratch import CpuScratch, CudaScratch, WithoutValues
from stlm_kit.memory.recording import Recording
from stlm_kit.memory.report import MemoryReport, Semantics, Span, check_choices, report_of
from stlm_kit.memory.steady_state import growth_per_share, repeated, shares
from stlm_kit.memory.step_under_test import Subject, folded
from stlm_kit.memory.tracker import Tracker
from stlm_kit.training.loss import Loss
from stlm_kit.training.recipe import Recipe

WARM_UP, AVERAGED = 8, 16  # steps that are replayed before the averaged ones, and averaged steps
# with uneven padding, a second trace at this multiple of the share shows which tensors grow with it
ONE_MORE_SHARE = 1.125


def predict_step(
    build: Callable[[], object],
    step: Callable[[object], object],
    *,
    semantics: Semantics = "cuda",
    span: Span = "forward_backward",
    steps: int = 2,
    valid_fraction: float = 1.0,
    vocab_size: int | None = None,
    device: str | Device | None = None,
    read_back: Callable[[Tensor], float | None] | None = None,
) -> MemoryReport:
    """The memory of one training step of any module and any loop, in MiB.

    `build()` returns the state, on the default device (the CPU): modules and optimizers, alone, in a list or dict, or
    as attributes of an object. `step(state)` trains once and makes its own batch. What it stores in the state lives on
    into the next call, as in a real loop. Both run on fake tensors, which have shapes but no values. `steps` of them
    are traced (two, because the first creates the optimizer's state), and the last is reported.

    valid_fraction: a boolean mask that indexes a tensor is true for this share of its entries, the same for every mask.
    read_back: a number that is read back (`.item()`, `if loss < best:`) counts as 1 or True, and never as infinite or
    NaN, so `if torch.isnan(loss)` is not entered. `read_back(tensor)` may return another value, or None where it has
    none. The tensor has a shape and a type. vocab_size: tells logits from other tensors (default: the rows of the
    largest embedding).

    semantics: "cuda" or "cpu", whose kept tensors and allocations are predicted. device: the GPU (`devices.DEVICES`;
    the default is a slice of an A100).

    Raises UsageError for unknown choices and for what cannot be predicted (refusals.py: LSTM, LBFGS, sparse gradients,
    shapes that depend on values). Other exceptions of `build` and `step` are not caught.
    """
    check_choices(span, semantics)
    check_numbers(steps, valid_fraction)
    on = device_for(semantics, device)
    recording = trace(
        build,
        step,
        semantics=semantics,
        steps=steps,
        valid_fraction=valid_fraction,
        vocab_size=vocab_size,
        device=on,
        read_back=read_back,
    )
    if steps > 1:
        recording = settled(recording, semantics)
    return report_of(recording, span, semantics, assumptions=assumptions(semantics, device=on))


def predict_peak(
    config: ModelConfig | str,
    recipe: Recipe | str,
    batch_size: int,
    sequence_length: int,
    valid_fraction: float = 1.0,
    valid_fraction_std: float = 0.0,
    span: Span = "forward_backward",
    semantics: Semantics = "cuda",
    accumulation_steps: int = 1,
    trainable: Sequence[str] | None = None,
    loss: Callable[[], Loss] | None = None,
    device: str | Device | None = None,
) -> MemoryReport:
    """The memory of one training step of a preset with a recipe, in MiB. It takes at most 3 s for any batch.

    sequence_length: input positions (the memory study's rows of 256 tokens give 255). valid_fraction: the share of
    positions with a real target; the others are padding. A row's share varies by `valid_fraction_std`. The peak is
    convex in the share, so it is then the mean of the peaks over batches. accumulation_steps: micro-batches of
    `batch_size` rows in one step. trainable: the names of the trained parameters (default: all). loss: `loss()` returns
    your own loss. If it is a module, its weights count, and its trained ones also with their gradients and state.
    device: a GPU of `devices.DEVICES` by name, or changed with `dataclasses.replace`; the default is a slice of an
    A100.

    Weights, gradients and AdamW's state are those of training with the recipe. Raises UsageError with one sentence for
    unknown names, sizes out of range and wrong combinations.
    """
    check_choices(span, semantics)
    subject = Subject.of(
        config, recipe, batch_size, sequence_length, valid_fraction, accumulation_steps, trainable=trainable, loss=loss
    )
    subject.check_runs_on(semantics)
    on = device_for(semantics, device, subject)
    spread = _spread_of_batches(valid_fraction_std, batch_size * accumulation_steps)
    recording = trace_subject(subject, semantics, on)
    more = {"assumptions": assumptions(semantics, subject, on)}
    if not spread:
        return report_of(settled(recording, semantics), span, semantics, **more)
    return _average(subject, recording, spread, span, semantics, on, more)


def device_for(semantics: Semantics, device: str | Device | None, subject: Subject | None = None) -> Device | None:
    """The GPU that a prediction is for, or None on the CPU.

    UsageError for an unknown name, or a GPU that cannot run the recipe.
    """
    if semantics == "cpu":
        if device is not None:
            raise UsageError('A device is a GPU to predict for; leave it out, or take semantics="cuda".')
        return None
    found = device_named(device)
    if subject and subject.recipe.attention == "flash" and not found.has_flash:
        raise UsageError(f"flash-attn needs an Ampere GPU or a later one, which {found.name} is not; use sdpa.")
    return found


def trace(
    build: Callable[[], object],
    step: Callable[[object], object],
    *,
    semantics: Semantics,
    steps: int = 2,
    valid_fraction: float = 1.0,
    vocab_size: int | None = None,
    device: Device | None = None,
    read_back: Callable[[Tensor], float | None] | None = None,
) -> Recording:
    """Run `build` once and `step` several times on fake tensors. Returns all allocations and frees, in order."""
    scratch = CudaScratch(device) if semantics == "cuda" else CpuScratch()
    values = WithoutValues(valid_fraction, read_back)
    tracker = Tracker(vocab_size, run=values, scratch=scratch)
    with fake_run(semantics, values, device), tracker:
        state = run_steps(tracker, build, step, steps)
    del state
    return tracker.recording


def run_steps(tracker: Tracker, build: Callable[[], object], step: Callable[[object], object], steps: int) -> object:
    """Build and train under a tracker, and tell it which tensors are weights, inputs and state. Returns the state.

    Keep the state until the tracker is done. Otherwise tensors that live on into a next step would be freed at the end
    of the last one.
    """
    state = build()
    parts = list(_parts(state))
    modules = [part for part in parts if isinstance(part, nn.Module)]
    tracker.vocab_size = tracker.vocab_size or _largest_embedding(modules)
    tracker.built(modules, [part for part in parts if isinstance(part, Optimizer)])
    for _ in range(steps):
        tracker.step_begins()
        step(state)
        tracker.step_ends()
    return state


def _parts(state: object) -> Iterator[object]:
    if isinstance(state, nn.Module | Optimizer):
        yield state
    elif isinstance(state, dict | list | tuple):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _parts(part)
    else:
        yield from (part for part in getattr(state, "__dict__", {}).values() if isinstance(part, nn.Module | Optimizer))


def _largest_embedding(modules: list[nn.Module]) -> int | None:
    embeddings = (part for module in modules for part in module.modules() if isinstance(part, nn.Embedding))
    return max((part.num_embeddings for part in embeddings), default=None)


@functools.lru_cache(maxsize=32)  # a report on another span, spread or budget needs the same trace
def trace_subject(subject: Subject, semantics: Semantics, device: Device | None = None) -> Recording:
    """`trace` of a step of the kit, in which repeated equal work is traced a few times only.

    The result is shared: do not change it.
    """
    with folded(subject.recipe, semantics):
        return trace(
            subject.build, subject.step, semantics=semantics, valid_fraction=subject.valid_fraction, device=device
        )


def settled(recording: Recording, semantics: Semantics) -> Recording:
    """The last step as it runs after others like it.

    CUDA's allocator state depends on earlier steps, the CPU's does not.
    """
    return repeated(recording, [{}] * WARM_UP)[0] if semantics == "cuda" else recording


def _average(
    subject: Subject,
    recording: Recording,
    spread: float,
    span: Span,
    semantics: Semantics,
    device: Device | None,
    more: dict,
) -> MemoryReport:
    """The mean over batches whose share of real targets varies by `spread`."""
    share = subject.valid_fraction
    other = replace(subject, valid_fraction=min(share * ONE_MORE_SHARE, 1.0) if share < 1 else share / ONE_MORE_SHARE)
    growing = growth_per_share(recording, trace_subject(other, semantics, device), other.valid_fraction - share)
    if growing is not None:
        drawn = shares(share, spread, AVERAGED)
        sizes = [
            {one: max(round(one.n_bytes + growth * (now - share)), 0) for one, growth in growing.items()}
            for now in drawn[:WARM_UP] + drawn
        ]
        longer, starts = repeated(recording, sizes)
        if starts:
            return report_of(longer, span, semantics, starts[WARM_UP:], **more)
    # The number of chunks changes with the share, so three traces are averaged at the points of Gauss-Hermite
    # quadrature for a normal distribution.
    points = {share + offset * spread: weight for offset, weight in ((-(3**0.5), 1), (0.0, 4), (3**0.5, 1))}
    clipped = [(min(max(point, 1 / subject.positions), 1.0), weight) for point, weight in points.items()]
    reports = [
        report_of(trace_subject(replace(subject, valid_fraction=point), semantics, device), span, semantics, **more)
        for point, _ in clipped
    ]
    weights = [weight for _, weight in clipped]
    means = {
        name: fmean([getattr(report, name) for report in reports], weights)
        for name in ("peak_allocated_mib", "after_forward_mib", "after_backward_mib")
    }
    most = {"peak_reserved_mib": max(report.peak_reserved_mib for report in reports)}
    if reports[1].needed_mib is not None:
        most["needed_mib"] = max(report.needed_mib for report in reports)
    return replace(reports[1], **most, **means)


def _spread_of_batches(std: float, n_rows: int) -> float:
    """The standard deviation of a batch's share, from that of a row's."""
    if isinstance(std, bool) or not isinstance(std, int | float) or not 0 <= std <= 0.5:
        raise UsageError(
            f"valid_fraction_std = {std!r} will not do; give the standard deviation of a row's share of real targets, "
            "from 0 to 0.5."
        )
    return std / math.sqrt(n_rows)


def check_numbers(steps: int, valid_fraction: float) -> None:
    """Raise UsageError for a number of steps or a share of real targets that is out of range."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise UsageError(f"steps = {steps!r} will not do; give a whole number of 1 or more (2 reach the steady state).")
    if isinstance(valid_fraction, bool) or not isinstance(valid_fraction, int | float) or not 0 < valid_fraction <= 1:
        raise UsageError(
            f"valid_fraction = {valid_fraction!r} will not do; give the share of a mask that is true, more than 0, at "
            "most 1."
        )
