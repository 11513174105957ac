"""Quantities that change over a run: one type for learning rate, dropout and anything else that depends on the step."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stlm_kit.errors import UsageError, first_sentence


class Schedule(BaseModel, frozen=True, extra="forbid"):
    """A value for each step, from 1: a warm-up from 0, a constant part at `start`, then a decay to `end`.

    Up to `warmup_steps` the value rises linearly to `start`. It is still `start` at step `begin`, and exactly `end` at
    step `steps` and after it. kind "cosine": half a cosine in between (Loshchilov & Hutter 2017, SGDR, equation 5 with
    one period). "linear": a straight line. "constant": always `start`.

    Raises UsageError for values that are impossible.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    kind: Literal["constant", "linear", "cosine"] = "constant"
    start: float
    end: float | None = None  # None: start
    steps: int = Field(1, ge=1)
    warmup_steps: int = Field(0, ge=0)
    begin: int | None = Field(None, ge=0)  # None: the last step of the warm-up, or 1 without one

    def __init__(self, **settings) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise UsageError(first_sentence(error)) from None

    def at(self, step: int) -> float:
        """The value at a step."""
        if step <= self.warmup_steps:
            return self.start * (step / self.warmup_steps)  # exactly `start` at the last step of the warm-up
        begin = max(self.warmup_steps, 1) if self.begin is None else self.begin
        if self.kind == "constant" or self.end is None:
            return self.start
        if step >= self.steps:
            return self.end
        if step <= begin:
            return self.start
        progress = (step - begin) / (self.steps - begin)
        if self.kind == "linear":
            return self.start + (self.end - self.start) * progress
        return self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * progress))
