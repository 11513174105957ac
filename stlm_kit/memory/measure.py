"""Measure the memory of a real training step: on CUDA with its allocator, on the CPU with the profiler's memory events.

Both start before the model is built and report the last of several steps. A profiler that starts later misses frees of
tensors that were allocated before it. The parts (categories, modules, live tensors) come from a second run under the
tracker, on real tensors. Memory that the tracker cannot see, such as scratch memory of kernels, counts as workspace.
"""

from __future__ import annotations

import gc
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from stlm_kit.config import ModelConfig
from stlm_kit.errors import KitError, UsageError
from stlm_kit.memory.devices import device_here
from stlm_kit.memory.kernel_scratch import CpuScratch, CudaScratch
from stlm_kit.memory.predict import run_steps
from stlm_kit.memory.recording import MIB
from stlm_kit.memory.report import MemoryReport, Span, check_choices, report_of, without_parts
from stlm_kit.memory.step_under_test import Subject
from stlm_kit.memory.torch_patches import in_each_backward, uncompiled
from stlm_kit.memory.tracker import Tracker
from stlm_kit.training.loss import Loss
from stlm_kit.training.recipe import Recipe

Build, Step = Callable[[], object], Callable[[object], object]
# largest ratio of tracked to measured peak; more means that kernels are fused differently under the tracker
FUSED = 1.05
AS_WRITTEN = "What the memory is made of is left out: while it is watched the step takes more, as a compiled one does."
NOT_ASKED = "What the memory is made of is left out: a compiled step cannot be watched operation by operation."
# Names among the profiler's events.
STEP, BACKWARD, END, MEMORY = "measured step", "measured backward pass", "measured end", "[memory]"


def measure_step(
    build: Build,
    step: Step,
    device: str = "cpu",
    *,
    span: Span = "forward_backward",
    steps: int = 2,
    repeats: int = 5,
    vocab_size: int | None = None,
    parts: bool = True,
) -> MemoryReport:
    """The memory, in MiB, and the time of one training step of any module and any loop, on a real device.

    `build` and `step` are those of `predict_step`. They place everything on `device` themselves. The model is built
    three times: for the sizes, for the time of `repeats` steps, and for the parts of the memory. The timing
    synchronizes the device after each step, because a step that is not waited for has only been queued. `step_s`:
    median, least and most, in seconds, without warm-up.

    parts=False leaves out the third run. It is also left out where a step cannot run under the tracker (FlexAttention),
    or needs more memory there (torch.compile's fused kernels run as separate operations); `assumptions` then says so.

    Raises UsageError for unknown choices, KitError where the device is missing.
    """
    check_choices(span, "cpu")
    if not isinstance(repeats, int) or repeats < 0 or not isinstance(steps, int) or steps < 1:
        raise UsageError("steps must be 1 or more and repeats 0 or more, whole numbers.")
    kind = torch.device(device).type
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"Memory is measured on 'cpu' and 'cuda', not on {device!r}.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise KitError("There is no CUDA GPU here to measure on; measure on 'cpu', or predict.")
    sizes = (_on_cuda if kind == "cuda" else _on_cpu)(build, step, device, steps, span)
    known = {**sizes, "found": "measured", "step_s": _seconds(build, step, device, repeats) if repeats else None}
    watched, why_not = _parts(build, step, steps, span, device, vocab_size) if parts else (None, NOT_ASKED)
    if watched and watched.peak_allocated_mib > FUSED * sizes["peak_allocated_mib"]:
        watched, why_not = None, AS_WRITTEN
    if watched:
        return _with_untracked(replace(watched, **known))
    return without_parts(span, kind, assumptions=[why_not], **known)


def measure_peak(
    config: ModelConfig | str,
    recipe: Recipe | str,
    batch_size: int,
    sequence_length: int,
    valid_fraction: float = 1.0,
    span: Span = "forward_backward",
    device: str = "cpu",
    accumulation_steps: int = 1,
    repeats: int = 5,
    trainable: Sequence[str] | None = None,
    loss: Callable[[], Loss] | None = None,
) -> MemoryReport:
    """The measured counterpart of `predict_peak`: the same step of the kit, on a real device. MiB and seconds.

    Raises UsageError or KitError with one sentence for what is impossible or cannot run on the device.
    """
    subject = Subject.of(
        config, recipe, batch_size, sequence_length, valid_fraction, accumulation_steps, device, trainable, loss
    )
    kind, recipe = torch.device(device).type, subject.recipe
    subject.check_runs_on(kind)
    compiled = kind == "cuda" and (recipe.attention == "flex" or recipe.optimizer == "8bit")
    return measure_step(subject.build, subject.step, device, span=span, repeats=repeats, parts=not compiled)


def _on_cuda(build: Build, step: Step, device: str, steps: int, span: Span) -> dict[str, float]:
    """Sizes from the allocator. Its peak is reset at the start of the last step."""
    _forget(device)
    seen: dict[str, float] = {}

    def look_at_peaks() -> None:
        seen["peak_allocated_mib"] = torch.cuda.max_memory_allocated(device) / MIB
        seen["peak_reserved_mib"] = torch.cuda.max_memory_reserved(device) / MIB

    @contextmanager
    def looking_at_both_ends() -> Iterator[None]:
        seen["after_forward_mib"] = torch.cuda.memory_allocated(device) / MIB
        yield
        seen["after_backward_mib"] = torch.cuda.memory_allocated(device) / MIB
        look_at_peaks()

    state = build()
    for _ in range(steps - 1):
        step(state)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    with in_each_backward(looking_at_both_ends):
        step(state)
    if span == "step":
        look_at_peaks()
    del state
    _forget(device)
    return _checked(seen)


def _on_cpu(build: Build, step: Step, device: str, steps: int, span: Span) -> dict[str, float]:
    """Sizes from the profiler's memory events, summed from before the model was built."""
    _forget(device)
    # otherwise the profiler prints a line to a notebook each time it starts
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with (
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler,
        in_each_backward(lambda: record_function(BACKWARD)),
    ):
        state = build()
        for _ in range(steps):
            with record_function(STEP):
                step(state)
        with record_function(END):
            pass
    del state
    return _checked(_read_events(profiler.profiler.kineto_results.events(), span))


def _read_events(events: list, span: Span) -> dict[str, float]:
    """The sizes at the ends of the last step's last forward and backward pass, and the highest in its span."""
    named: dict[str, list] = {STEP: [], BACKWARD: [], END: [], MEMORY: []}
    for event in events:
        if event.name() in named:
            named[event.name()].append(event)
    step, backward = (max(named[name], key=lambda event: event.start_ns(), default=None) for name in (STEP, BACKWARD))
    if backward is None or backward.start_ns() < step.start_ns():
        return {}
    changes = sorted((event.start_ns(), event.nbytes()) for event in named[MEMORY])
    moments = [moment for moment, _ in changes]
    levels = [0, *accumulate(n_bytes for _, n_bytes in changes)]

    def count(moment: int) -> int:
        return bisect_right(moments, moment)

    stop = backward.end_ns() if span == "forward_backward" else named[END][0].start_ns()
    peak = max(levels[count(step.start_ns()) : count(stop) + 1])
    return {
        "peak_allocated_mib": peak / MIB,
        "peak_reserved_mib": peak / MIB,
        "after_forward_mib": levels[count(backward.start_ns())] / MIB,
        "after_backward_mib": levels[count(backward.end_ns())] / MIB,
    }


def _checked(sizes: dict[str, float]) -> dict[str, float]:
    if not sizes:
        raise KitError("The step ran no backward pass, so there is nothing to measure; it has to train.")
    return sizes


def _parts(
    build: Build, step: Step, steps: int, span: Span, device: str, vocab_size: int | None
) -> tuple[MemoryReport | None, str]:
    """The parts of the memory, from the same steps under the tracker; or why they cannot run there.

    Under the tracker compiled functions run uncompiled. Otherwise torch would fail to compile them and remember the
    failure. For flex_attention torch has no rule under a dispatch mode.
    """
    kind, why_not = torch.device(device).type, ""
    tracker = Tracker(vocab_size, scratch=CpuScratch() if kind == "cpu" else CudaScratch(device_here()))
    try:
        with uncompiled(), tracker:
            state = run_steps(tracker, build, step, steps)
        del state
    except Exception as error:  # the same steps ran without the tracker, so the tracker causes the failure
        reason = str(error).partition("\n")[0].rstrip(".")
        why_not = (
            f"What the memory is made of is left out: the step cannot be watched ({type(error).__name__}: {reason})."
        )
    _forget(device)  # after the exception is gone, and with it the frames that hold tensors
    return (None, why_not) if why_not else (report_of(tracker.recording, span, kind), "")


def _with_untracked(report: MemoryReport) -> MemoryReport:
    """The report with its parts adding up to the peak: what the tracker did not see counts as workspace."""
    untracked = report.peak_allocated_mib - sum(report.by_category.values())
    workspace = report.by_category["workspace"] + untracked
    return replace(report, by_category={**report.by_category, "workspace": workspace})


def _seconds(build: Build, step: Step, device: str, repeats: int) -> dict[str, float]:
    state, found = build(), []
    for number in range(repeats + 1):
        _wait(device)
        started = time.perf_counter()
        step(state)
        _wait(device)
        if number:  # the first step is a warm-up
            found.append(time.perf_counter() - started)
    del state
    _forget(device)
    return {"median": median(found), "least": min(found), "most": max(found), "repeats": repeats}


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _forget(device: str) -> None:
    """Free what earlier steps left behind."""
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        with torch.cuda.device(device):
            empty_gpu()


def empty_gpu() -> None:
    """Return all unused memory that torch caches on the current GPU, including cuBLAS's workspaces.

    These workspaces would otherwise outlive the step that created them.
    """
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
