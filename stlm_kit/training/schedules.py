"""Quantities that change over a run, as pure functions of the step number (1 is the first step, `steps` the last)."""

from __future__ import annotations

import math


def warmup_cosine(step: int, *, steps: int, warmup_steps: int, peak: float, minimum: float) -> float:
    """Learning rate: linear from peak/warmup_steps up to `peak`, then half a cosine to exactly `minimum` at `steps`.

    Loshchilov & Hutter 2017 (SGDR), equation 5 with one period, after a linear warm-up.
    """
    if step <= warmup_steps:
        return peak * (step / warmup_steps)  # in this order the last step of the warm-up is `peak` to the last bit
    progress = (step - warmup_steps) / (steps - warmup_steps)
    return minimum + (peak - minimum) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_constant(step: int, *, warmup_steps: int, peak: float) -> float:
    """Learning rate: linear up to `peak`, then `peak` for ever (the memory study, without its warm-up of 0 steps)."""
    return peak * step / warmup_steps if step < warmup_steps else peak


def ramp(step: int, *, start: float, end: float, steps: int) -> float:
    """A straight line from `start` at step 1 to `end` at step `steps`, and `end` afterwards.

    The dropout schedule of Super Tiny Language Models' code goes 0 -> 0.1 over 10,000 iterations.
    """
    return end if step >= steps else start + (end - start) * (step - 1) / (steps - 1)
