"""The settings of what a run learns besides plain labels: from a teacher, or from softened labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stlm_kit.config import ModelConfig
from stlm_kit.errors import UsageError
from stlm_kit.model.language_model import LanguageModel
from stlm_kit.training.distillation import CachedTeacher, DistillationLoss
from stlm_kit.training.hidden_states import HiddenStates
from stlm_kit.training.kept_outputs import Kept
from stlm_kit.training.label_loss import LabelLoss
from stlm_kit.training.schedules import Schedule
from stlm_kit.training.teacher_outputs import LiveTeacher

Pair = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]
OF_LABELS = {"label_smoothing", "label_temperature"}  # these need no teacher


class DistillationSettings(BaseModel):
    """The numbers of a `DistillationLoss`, or of a `LabelLoss` where there is no teacher.

    With every setting at its default a run has the plain loss of its recipe. Raises pydantic's ValidationError for
    values out of range, and for a setting of distillation without a teacher.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    teacher: str | None = Field(None, description="smollm2-135m, or the folder of a run or model, to learn from")
    teacher_bits: Literal[4, 8] | None = Field(None, description="store the matrices of its blocks in as many bits")
    teacher_precision: Literal["bf16", "fp16"] | None = Field(None, description="None: the type of its weights")
    teacher_outputs: Literal["live", "full", "top-k", "sampled"] = Field(
        "live", description="live: the teacher runs along; otherwise what is read from a cache, made by the first run"
    )
    teacher_k: int | None = Field(None, ge=1, description="how many tokens of top-k or sampled")
    alpha: float = Field(0.0, ge=0, description="with a teacher: the factor of the labels' cross-entropy")
    beta: float = Field(1.0, ge=0, description="with a teacher: the factor of the divergence from it")
    beta_warmup_steps: int = Field(0, ge=0, description="steps in which beta rises from 0")
    divergence: Literal["forward_kl", "reverse_kl", "jensen_shannon"] = "forward_kl"
    jsd_beta: float = Field(0.5, gt=0, lt=1, description="the teacher's share in jensen_shannon")
    distillation_temperature: float = Field(1.0, gt=0, description="of both softmaxes in the divergence")
    t_squared: bool = Field(True, description="multiply the divergence by the square of that temperature")
    hidden_layers: list[Pair] | None = Field(None, description="pairs to match: [[student's, teacher's], ...]")
    hidden_distance: Literal["mean_squared", "cosine"] = "mean_squared"
    hidden_weight: float = Field(1.0, ge=0, description="the factor of the distance of hidden states")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="the share of a label that all tokens get equally")
    label_temperature: float = Field(1.0, gt=0, description="of the student's softmax against the labels")

    @model_validator(mode="after")
    def _has_a_teacher(self) -> DistillationSettings:
        if self.teacher is None:
            for name, field in DistillationSettings.model_fields.items():
                if name not in OF_LABELS and (value := getattr(self, name)) != field.default:
                    raise ValueError(f"{name} = {value} has no teacher; give teacher as well, or leave it out.")
        elif self.alpha == self.beta == 0 and not self.hidden_layers:
            raise ValueError("alpha and beta are both 0, so there is nothing to train; give one of them a weight.")
        return self

    @model_validator(mode="after")
    def _outputs_fit(self) -> DistillationSettings:
        kind = self.teacher_outputs
        if (self.teacher_k is not None) != (kind in ("top-k", "sampled")):
            raise ValueError(
                f"teacher_outputs = {kind!r} and teacher_k = {self.teacher_k} do not go together; change one."
            )
        if kind != "live" and self.hidden_layers:
            raise ValueError("Cached outputs hold no hidden states; take teacher_outputs = live, or no hidden_layers.")
        if kind == "sampled" and self.divergence != "forward_kl":
            raise ValueError(f"Sampled outputs give the forward_kl alone, not {self.divergence}; change one of them.")
        return self

    @property
    def kept(self) -> Kept | None:
        """What a cache keeps of the teacher's outputs; None where the teacher runs along."""
        if self.teacher_outputs == "live":
            return None
        temperature = 1.0 if self.teacher_outputs == "full" else self.distillation_temperature
        return Kept(self.teacher_outputs, self.teacher_k, temperature)

    @property
    def is_plain(self) -> bool:
        """Whether the loss is the recipe's own."""
        return all(getattr(self, name) == field.default for name, field in DistillationSettings.model_fields.items())

    def loss(
        self, student: ModelConfig, teacher: LanguageModel | CachedTeacher | None = None
    ) -> DistillationLoss | LabelLoss | None:
        """The loss of a run with this student and teacher; None for the recipe's own.

        The student's vocabulary is the tokenizer's; a teacher's padding is cut to it. The projections of hidden states
        are drawn from torch's generator. UsageError for a kind of model without the width that these need.
        """
        if self.is_plain:
            return None
        labels = LabelLoss(self.label_smoothing, self.label_temperature)
        if teacher is None:
            return labels
        hidden, warmup = None, self.beta_warmup_steps
        if self.hidden_layers:
            widths = [_width(config) for config in (student, teacher.config)]
            hidden = HiddenStates(self.hidden_layers, *widths, self.hidden_distance, self.hidden_weight)
        return DistillationLoss(
            LiveTeacher(teacher, self.teacher_precision) if isinstance(teacher, LanguageModel) else teacher,
            alpha=self.alpha,
            beta=Schedule(start=self.beta, warmup_steps=warmup) if warmup else self.beta,
            divergence=self.divergence,
            jsd_beta=self.jsd_beta,
            temperature=self.distillation_temperature,
            t_squared=self.t_squared,
            labels=labels,
            hidden=hidden,
            vocab_size=student.vocab_size,
        )


def _width(config: ModelConfig) -> int:
    width = getattr(config, "d_model", None)
    if width is None:
        raise UsageError(f"A {config.kind} has no streams of one width to match; leave hidden_layers out.")
    return width
