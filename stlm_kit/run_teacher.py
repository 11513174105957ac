"""The loss of a run that its settings describe, with its teacher loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stlm_kit.config import ModelConfig
from stlm_kit.data.tokenizers import Tokenizer
from stlm_kit.errors import KitError
from stlm_kit.model.kinds import build_model
from stlm_kit.teachers import check_same_tokenizer, fit, load_teacher
from stlm_kit.teachers.packed import pack
from stlm_kit.teachers.teacher import NAMES, content_hash
from stlm_kit.training.kept_outputs import EmptyTeacher
from stlm_kit.training.teacher_cache import make_cache
from stlm_kit.training.teacher_outputs import LiveTeacher

if TYPE_CHECKING:
    from stlm_kit.data.batches import DocumentBatches, PackedBatches
    from stlm_kit.training.distillation_settings import DistillationSettings
    from stlm_kit.training.loss import Loss


def loss_of_run(
    settings: DistillationSettings,
    student: ModelConfig,
    tokenizer: Tokenizer,
    batches: PackedBatches | DocumentBatches,
    device: str,
    say: Callable[[str], object] | None = None,
) -> tuple[Loss | None, dict[str, str]]:
    """(loss, what was read). The loss is None where it is the recipe's own; what was read is a hash of the weights.

    With outputs from a cache, the first run makes it for all rows of `batches`, and `say` is told its size and time
    before. Later runs, with any seed, find it, and the teacher is not in memory while they train.

    KitError for a folder without a model, and for a teacher with another tokenizer.
    """
    if settings.teacher is None:
        return settings.loss(student), {}
    teacher = load_teacher(settings.teacher, device, bits=settings.teacher_bits)
    check_same_tokenizer(teacher, tokenizer)
    read = {"teacher": content_hash(settings.teacher)}
    if settings.kept is None:
        return settings.loss(student, teacher.model), read
    cache = make_cache(LiveTeacher(teacher.model, settings.teacher_precision), batches, settings.kept, say=say)
    return settings.loss(student, cache), read


@dataclass(frozen=True, eq=False)
class EmptyLoss:
    """Makes a run's loss with a teacher of the right sizes and other weights, for a prediction or a measurement."""

    settings: DistillationSettings
    student: ModelConfig
    teacher: ModelConfig | None

    def __call__(self) -> Loss:
        if self.settings.kept is not None:
            return self.settings.loss(self.student, EmptyTeacher(self.settings.kept, self.student.vocab_size))
        if self.teacher is None:
            return self.settings.loss(self.student)
        teacher, bits = build_model(self.teacher), self.settings.teacher_bits
        return self.settings.loss(self.student, teacher if bits is None else pack(teacher, bits))


def empty_loss_of_run(
    settings: DistillationSettings, student: ModelConfig, teacher: ModelConfig | None = None
) -> EmptyLoss | None:
    """What makes the loss of a run for its sizes alone; None where the loss is the recipe's own.

    teacher: its configuration, where it is known; otherwise it is read, and nothing else is. KitError for a folder
    without a model.
    """
    if settings.is_plain:
        return None
    live = settings.teacher is not None and settings.kept is None
    return EmptyLoss(settings, student, (teacher or teacher_config(settings.teacher)) if live else None)


def teacher_config(place: str) -> ModelConfig:
    """The configuration of a teacher by name or in a folder. KitError where there is none."""
    if place not in NAMES and not Path(place).expanduser().is_dir():
        raise KitError(f"There is no teacher in {place} yet; train it first, or give one of {', '.join(NAMES)}.")
    return fit.teacher_config(place)
