"""How rotary positions are stretched over a longer text than a model was first trained on: two ways, each a small
config that a `DecoderConfig` holds. `model.layers.rotary_rates` computes them. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Factor = Annotated[float, Field(gt=0)]


class LinearRope(BaseModel, frozen=True, extra="forbid"):
    """Every rate divided by `factor`, as if positions lay closer together (Chen et al. 2023, arXiv 2306.15595)."""

    model_config = ConfigDict(allow_inf_nan=False)

    kind: Literal["linear"] = "linear"
    factor: Factor


class Llama3Rope(BaseModel, frozen=True, extra="forbid"):
    """Slow rates divided by `factor`, fast ones kept, those between blended (Llama 3.1, Grattafiori et al. 2024).

    A rate is slow where its wave is longer than original_context / low_frequency, in positions, and fast where it is
    shorter than original_context / high_frequency.
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
