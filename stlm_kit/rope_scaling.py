"""Two ways to stretch rotary positions beyond the length of a model's first training, as small configs.

A `DecoderConfig` holds one of them, and `model.layers.rotary_rates` computes it. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Factor = Annotated[float, Field(gt=0)]


class LinearRope(BaseModel, frozen=True, extra="forbid"):
    """Every rate is divided by `factor`, as if positions were closer together (Chen et al. 2023, arXiv 2306.15595)."""

    model_config = ConfigDict(allow_inf_nan=False)

    kind: Literal["linear"] = "linear"
    factor: Factor


class Llama3Rope(BaseModel, frozen=True, extra="forbid"):
    """Slow rates are divided by `factor`, fast ones kept, others interpolated (Llama 3.1, Grattafiori et al. 2024).

    A rate is slow where its wavelength in positions exceeds original_context / low_frequency, and fast where it is
    below original_context / high_frequency.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    kind: Literal["llama3"] = "llama3"
    factor: Factor
    low_frequency: Factor
    high_frequency: Factor
    original_context: Annotated[int, Field(ge=1)]  # positions of the first training

    @model_validator(mode="after")
    def _apart(self) -> Llama3Rope:
        if self.low_frequency >= self.high_frequency:
            raise ValueError(
                f"low_frequency = {self.low_frequency} must lie below high_frequency = {self.high_frequency}."
            )
        return self


RopeScaling = Annotated[LinearRope | Llama3Rope, Field(discriminator="kind")]
