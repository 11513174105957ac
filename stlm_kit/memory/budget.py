"""The largest batch for a memory budget: by prediction, without the device, or by trial on it.

A budget is what torch's allocator may reserve: the device's memory minus the CUDA context. Sizes are in MiB.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from stlm_kit.config import ModelConfig
from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.memory.devices import DEVICES, Device
from stlm_kit.memory.measure import empty_gpu, measure_step
from stlm_kit.memory.predict import predict_peak
from stlm_kit.memory.recording import MIB
from stlm_kit.memory.report import MemoryReport, Semantics
from stlm_kit.memory.step_under_test import Subject
from stlm_kit.training.loss import Loss
from stlm_kit.training.recipe import Recipe

MOST = 2**20  # the largest batch that a search tries
OUT_OF_MEMORY = ("out of memory", "STATUS_ALLOC_FAILED")  # the texts of CUDA's out-of-memory errors


@dataclass(frozen=True)
class Budget:
    """`mib` that torch may reserve, and the source of that number."""

    name: str
    mib: float
    source: str


def find_budget(name: str) -> Budget:
    """The budget of a named GPU (devices.DEVICES), of "device" (the GPU of this machine), or a number of MiB.

    For a named GPU that is this machine's, the free memory is measured. Otherwise the budget is the GPU's memory minus
    the CUDA context. Raises UsageError for another name, KitError for "device" where torch finds no GPU.
    """
    if name == "device":
        found = device_budget()
        if found is None:
            raise KitError("torch finds no CUDA device here; give the budget as mig-20gb, or in MiB.")
        return found
    if name in DEVICES:
        device, found = DEVICES[name], device_budget()
        if found is not None and abs(found.mib - device.memory_mib) < 0.1 * device.memory_mib:
            return Budget(name, found.mib, found.source)
        source = f"{device.memory_mib:,.0f} MiB of {name}, less {device.context_mib:,.0f} for the CUDA context"
        return Budget(name, device.usable_mib, source)
    try:
        mib = float(name.replace(",", ""))
    except ValueError:
        mib = 0.0
    if not 0 < mib < float("inf"):
        names = [*DEVICES, "device"]
        raise UsageError(
            f"There is no budget {name!r}; give {' or '.join(names)}, or a number of MiB above 0.{near(name, names)}"
        )
    return Budget(name, mib, "as given")


# The question is asked in another process, because it creates a CUDA context. A context in this process would take
# memory from every run that it starts.
ASK = "import torch; print(*torch.cuda.mem_get_info(), torch.cuda.get_device_name())"


@lru_cache(maxsize=1)
def device_budget() -> Budget | None:
    """What a process can now reserve on the first CUDA device, in MiB, without the context. None without a device."""
    if not torch.cuda.is_available():
        return None
    try:
        asked = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, timeout=120, check=True)
        free, total, name = asked.stdout.strip().split(maxsplit=2)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise KitError(
            "The CUDA device does not say how much memory it has; look whether nvidia-smi lists it."
        ) from error
    return Budget("device", int(free) / MIB, f"free on {name}, which has {int(total) / MIB:,.0f} MiB")


@lru_cache(maxsize=256)
def predicted(
    config: ModelConfig,
    recipe: Recipe,
    batch_size: int,
    sequence_length: int,
    valid_fraction: float = 1.0,
    accumulation_steps: int = 1,
    semantics: Semantics = "cuda",
    trainable: tuple[str, ...] | None = None,
    device: str | Device | None = None,
    loss: Callable[[], Loss] | None = None,
) -> MemoryReport:
    """The report on a whole training step, including gradient clipping and update.

    Raises what `predict_peak` raises.
    """
    return predict_peak(
        config,
        recipe,
        batch_size,
        sequence_length,
        valid_fraction=valid_fraction,
        span="step",
        semantics=semantics,
        accumulation_steps=accumulation_steps,
        trainable=trainable,
        loss=loss,
        device=device,
    )


def largest_batch(
    config: ModelConfig,
    recipe: Recipe,
    budget_mib: float,
    sequence_length: int | None = None,
    *,
    valid_fraction: float = 1.0,
    accumulation_steps: int = 1,
    semantics: Semantics = "cuda",
    trainable: tuple[str, ...] | None = None,
    device: str | Device | None = None,
    loss: Callable[[], Loss] | None = None,
    most: int = MOST,
) -> int:
    """The largest batch whose predicted step needs at most `budget_mib`, or 0 where one row does not fit.

    The needed memory is less than what torch reserves on an unlimited device (`MemoryReport.needed_mib`). The
    prediction is of the whole step; a report's `assumptions` list what it leaves out. No batch above `most` is tried.

    sequence_length: input positions (default: the preset's). device: as in `predict_peak`. Raises UsageError for a
    budget that is not a positive size.
    """
    _check_budget(budget_mib)
    length = config.context_length if sequence_length is None else sequence_length

    def needed(batch_size: int) -> float:
        sizes = config, recipe, batch_size, length, valid_fraction
        report = predicted(*sizes, accumulation_steps, semantics, trainable, device, loss)
        return report.peak_reserved_mib if report.needed_mib is None else report.needed_mib

    return _last_that_fits(needed, budget_mib, most)


def _last_that_fits(size_of: Callable[[int], float], limit: float, most: int) -> int:
    """The largest n up to `most` with size_of(n) <= limit and size_of(n + 1) above it, or 0 where size_of(1) is above.

    Sizes grow almost linearly, so each guess interpolates between the two ends of the open interval. Where that gains
    little, the next guess is the middle.
    """
    low, at_low = 1, size_of(1)
    if at_low > limit:
        return 0
    high = min(2, most)
    while (at_high := size_of(high)) <= limit:  # search upwards for the first size that does not fit
        if high == most:
            return most
        per_row = (at_high - at_low) / (high - low)
        reach = round((limit - at_high) / per_row * 1.01) if per_row > 0 else high
        low, at_low, high = high, at_high, min(high + max(reach, 1), 64 * high, most)
    halve = False
    while high - low > 1:
        open_before = high - low
        guess = low + open_before // 2 if halve else low + int((limit - at_low) / (at_high - at_low) * open_before)
        guess = min(max(guess, low + 1), high - 1)
        size = size_of(guess)
        if size <= limit:
            low, at_low = guess, size
        else:
            high, at_high = guess, size
        halve = high - low > open_before / 2
    return low


def find_largest_batch(
    config: ModelConfig,
    recipe: Recipe,
    sequence_length: int | None = None,
    *,
    device: str = "cuda",
    limit_mib: float | None = None,
    valid_fraction: float = 1.0,
    accumulation_steps: int = 1,
    trainable: tuple[str, ...] | None = None,
    loss: Callable[[], Loss] | None = None,
    most: int = MOST,
) -> int:
    """The largest batch that trains for two steps on `device`, found by trying, or 0 where one row does not fit.

    On CUDA the limit is the device's memory, or `limit_mib` that torch may reserve. On a CPU the system would end the
    process before torch raised an error. So a CPU needs `limit_mib`, and a batch fits where its measured peak is below
    it. The device is restored: nothing stays allocated, and no limit is set.

    Raises UsageError for a limit that is not a positive size, for another device, or for a recipe that cannot train on
    it. KitError for a device that this machine lacks.
    """
    length = config.context_length if sequence_length is None else sequence_length
    if limit_mib is not None:
        _check_budget(limit_mib)
    kind = device.split(":")[0]
    if kind not in ("cuda", "cpu"):
        raise UsageError(f"A batch can be tried on cuda or cpu, not on {device!r}.")
    if kind == "cpu" and limit_mib is None:
        raise UsageError(
            "A CPU runs out of memory by having the process killed; give limit_mib, the MiB that a step may take."
        )
    if kind == "cuda" and not torch.cuda.is_available():
        raise KitError("torch finds no CUDA device here to try a batch on; try it on cpu, or go by prediction.")

    Subject.of(config, recipe, 1, length, valid_fraction, accumulation_steps).check_runs_on(kind)

    def fits(batch_size: int) -> bool:
        sizes = batch_size, length, valid_fraction, accumulation_steps
        subject = Subject.of(config, recipe, *sizes, device, trainable, loss)
        return _trains(subject, limit_mib) if kind == "cuda" else _stays_below(subject, limit_mib)

    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _trains(subject: Subject, limit_mib: float | None) -> bool:
    """Whether two steps run on a CUDA device without running out of memory. It cleans up in both cases."""
    total = torch.cuda.get_device_properties(subject.device).total_memory
    share = 1.0 if limit_mib is None else min(limit_mib * MIB / total, 1.0)
    _empty(subject.device)
    torch.cuda.set_per_process_memory_fraction(share, torch.device(subject.device).index or 0)
    try:
        trained = not ran_out_of_memory(lambda: _two_steps(subject))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, torch.device(subject.device).index or 0)
    _empty(subject.device)
    return trained


def ran_out_of_memory(run: Callable[[], None]) -> bool:
    """Whether a function ended because the GPU's memory was too small. Other exceptions are not caught.

    When this returns, the exception is gone, and with it the stack frames that held tensors. Only then can the
    allocator free their memory.
    """
    try:
        run()
    except RuntimeError as error:  # torch.OutOfMemoryError is one; a library without workspace raises a plain one
        if not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        return True
    return False


def _two_steps(subject: Subject) -> None:
    """Train twice, because the first step creates the optimizer's state. Everything is freed when this returns."""
    state = subject.build()
    for _ in range(2):
        subject.step(state)
    if subject.device != "cpu":
        torch.cuda.synchronize(subject.device)


def _empty(device: str) -> None:
    with torch.cuda.device(device):
        empty_gpu()


def _stays_below(subject: Subject, limit_mib: float) -> bool:
    """Whether the measured peak of a step on the CPU is below a limit.

    A step that is predicted to need twice the limit is not tried, because the system might end the process.
    """
    sizes = subject.config, subject.recipe, subject.batch_size, subject.sequence_length, subject.valid_fraction
    parts = subject.accumulation_steps
    if predicted(*sizes, parts, "cpu", subject.trainable, loss=subject.loss).peak_allocated_mib > 2 * limit_mib:
        return False
    measured = measure_step(subject.build, subject.step, subject.device, span="step", repeats=0)
    return measured.peak_allocated_mib <= limit_mib


def _check_budget(mib: float) -> None:
    if isinstance(mib, bool) or not isinstance(mib, int | float) or not 0 < mib < float("inf"):
        raise UsageError(f"A budget of {mib!r} MiB will not do; give a size above 0.")
