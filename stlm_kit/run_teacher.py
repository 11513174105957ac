"""The loss of a run that its settings describe, with its teacher loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stlm_kit.config import ModelConfig, config_from
from stlm_kit.data.tokenizers import Tokenizer
from stlm_kit.errors import KitError, UsageError
from stlm_kit.model.huggingface import kit_config
from stlm_kit.model.huggingface.files import read_settings
from stlm_kit.model.kinds import build_model
from stlm_kit.saved_models import LoadedRun, is_hf, load_model, weights_hash
from stlm_kit.training.kept_outputs import EmptyTeacher
from stlm_kit.training.run_folder import read_json
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

    KitError for a folder without a model, UsageError for a teacher with another tokenizer.
    """
    if settings.teacher is None:
        return settings.loss(student), {}
    teacher = load_teacher(settings.teacher, tokenizer, device).model
    read = {"teacher": weights_hash(Path(settings.teacher).expanduser())}
    if settings.kept is None:
        return settings.loss(student, teacher), read
    cache = make_cache(LiveTeacher(teacher, settings.teacher_precision), batches, settings.kept, say=say)
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
        return self.settings.loss(self.student, None if self.teacher is None else build_model(self.teacher))


def empty_loss_of_run(settings: DistillationSettings, student: ModelConfig) -> EmptyLoss | None:
    """What makes the loss of a run for its sizes alone; None where the loss is the recipe's own.

    Of the teacher only its configuration is read. KitError for a folder without a model.
    """
    if settings.is_plain:
        return None
    live = settings.teacher is not None and settings.kept is None
    return EmptyLoss(settings, student, teacher_config(settings.teacher) if live else None)


def teacher_config(place: str) -> ModelConfig:
    """The configuration of the model in a folder. KitError where there is none."""
    folder = Path(place).expanduser()
    if is_hf(folder):
        return kit_config(read_settings(folder / "config.json"))
    found = read_json(folder / "config.json")
    if found is None or "model" not in found:
        raise KitError(f"There is no teacher in {folder} yet; train it first, or give the folder of a model.")
    return config_from(found["model"])


def load_teacher(place: str, tokenizer: Tokenizer, device: str) -> LoadedRun:
    """A teacher from a folder. UsageError where it reads text with another tokenizer than the student's.

    Token ids mean something only within one tokenizer, and a teacher's probabilities belong to its ids.
    """
    loaded = load_model(place, device)
    if loaded.tokenizer.content_hash != tokenizer.content_hash:
        raise UsageError(
            f"The teacher in {place} reads text with the tokenizer {loaded.tokenizer.name!r} and the run with "
            f"{tokenizer.name!r}, so their tokens differ; train the student with tokenizer="
            f"{str(Path(place) / 'tokenizer')!r}, or take another teacher."
        )
    return loaded
