"""Everything a training run is told, validated before anything is computed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from stlm_kit.errors import UsageError
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.schedules import Schedule


class TrainingSettings(BaseModel):
    """The numbers of a training run.

    Rows have `context_length` input positions. A step takes `batch_size * accumulation_steps` rows. Losses are in nats
    a token. A setting of 0 switches an option off. Raises pydantic's ValidationError for values out of range or in
    conflict.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    steps: int = Field(1000, ge=1)
    batch_size: int = Field(16, ge=1)
    context_length: int = Field(128, ge=1)
    accumulation_steps: int = Field(1, ge=1)

    learning_rate: float = Field(1e-3, gt=0)
    min_learning_rate: float = Field(1e-4, ge=0)
    warmup_steps: int | None = Field(None, ge=0, description="None: a tenth of the steps, at most 1,000")
    schedule: Literal["cosine", "constant"] = "cosine"

    weight_decay: float = Field(0.1, ge=0)
    beta_1: float = Field(0.9, ge=0, lt=1)
    beta_2: float = Field(0.95, ge=0, lt=1)
    epsilon: float = Field(1e-8, gt=0)
    clip: float = Field(1.0, ge=0, description="largest global gradient norm; 0: no clipping")

    dropout_start: float | None = Field(None, ge=0, lt=1, description="None: the preset's constant rate")
    dropout_end: float | None = Field(None, ge=0, lt=1)
    dropout_steps: int | None = Field(None, ge=1, description="None: all steps")

    trainable: list[str] | None = Field(None, description="None: all; subsets by name, or patterns of names")
    recipe: str = "fp32"
    seed: int = Field(0, ge=0, lt=2**31)
    compile: bool = False
    deterministic: bool = Field(False, description="a GPU computes the same bits each time, slower; a CPU does anyway")

    eval_every: int = Field(0, ge=0, description="0: only at the end")
    sample_every: int = Field(0, ge=0)
    checkpoint_every: int = Field(100, ge=0, description="0: only when interrupted and at the end")
    target_perplexity: float | None = Field(None, gt=1, description="stop once an evaluation reaches it")

    @field_validator("recipe")
    @classmethod
    def _recipe_exists(cls, name: str) -> str:
        try:
            return Recipe.named(name).name
        except UsageError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _agree(self) -> TrainingSettings:
        if self.accumulation_steps > 1 and Recipe.named(self.recipe).update == "in_backward":
            raise ValueError("in-backward updates after each micro-batch; leave it out, or set accumulation_steps = 1.")
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate {self.min_learning_rate} lies above learning_rate {self.learning_rate}; lower it."
            )
        if self.warmup_steps is not None and self.warmup_steps >= self.steps > 1:
            raise ValueError(f"warmup_steps {self.warmup_steps} leaves none of the {self.steps} steps; use fewer.")
        if (self.dropout_start is None) != (self.dropout_end is None):
            raise ValueError("A dropout schedule needs both dropout_start and dropout_end; give the other one too.")
        if self.dropout_steps is not None and self.dropout_start is None:
            raise ValueError(
                f"dropout_steps = {self.dropout_steps} has no dropout schedule to last for; "
                "give dropout_start and dropout_end as well."
            )
        if self.target_perplexity is not None and not self.eval_every:
            raise ValueError("target_perplexity is only seen at evaluations; set eval_every as well.")
        return self

    @property
    def warmup(self) -> int:
        """The number of warm-up steps, with the default resolved."""
        return min(1000, self.steps // 10) if self.warmup_steps is None else self.warmup_steps

    @property
    def learning_rate_schedule(self) -> Schedule:
        """The learning rate of each step: a linear warm-up, then a cosine or a constant."""
        return Schedule(
            kind=self.schedule,
            start=self.learning_rate,
            end=self.min_learning_rate,
            steps=self.steps,
            warmup_steps=self.warmup,
            begin=self.warmup,
        )

    def learning_rate_at(self, step: int) -> float:
        """The learning rate at a step from 1 to `steps`."""
        return self.learning_rate_schedule.at(step)

    def dropout_schedule(self, constant: float) -> Schedule:
        """The dropout rate of each step: a straight line, or the preset's `constant` where none is set.

        Super Tiny Language Models' code goes from 0 to 0.1 over 10,000 iterations.
        """
        if self.dropout_start is None:
            return Schedule(start=constant)
        steps = self.dropout_steps or self.steps
        return Schedule(kind="linear", start=self.dropout_start, end=self.dropout_end, steps=steps)

    def dropout_at(self, step: int, constant: float) -> float:
        """The dropout rate at a step."""
        return self.dropout_schedule(constant).at(step)
