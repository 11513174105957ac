"""The loss of a run that its settings describe, with its teacher loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stlm_kit.config import ModelConfig
from stlm_kit.data.tokenizers import Tokenizer
from stlm_kit.errors import UsageError
from stlm_kit.model.kinds import build_model
from stlm_kit.saved_models import LoadedRun, load_model, weights_hash

if TYPE_CHECKING:
    from stlm_kit.training.distillation_settings import DistillationSettings
    from stlm_kit.training.loss import Loss


def loss_of_run(
    settings: DistillationSettings, student: ModelConfig, tokenizer: Tokenizer, device: str
) -> tuple[Loss | None, dict[str, str]]:
    """(loss, what was read). The loss is None where it is the recipe's own; what was read is a hash of the weights.

    KitError for a folder without a model, UsageError for a teacher with another tokenizer.
    """
    if settings.teacher is None:
        return settings.loss(student), {}
    loaded = load_teacher(settings.teacher, tokenizer, device)
    return settings.loss(student, loaded.model), {"teacher": weights_hash(Path(settings.teacher).expanduser())}


def empty_loss_of_run(
    settings: DistillationSettings, student: ModelConfig, tokenizer: Tokenizer
) -> Callable[[], Loss] | None:
    """What makes the same loss with a teacher of the same sizes, for a prediction or a measurement of memory.

    None where the loss is the recipe's own. Raises what `loss_of_run` raises.
    """
    if settings.is_plain:
        return None
    if settings.teacher is None:
        return lambda: settings.loss(student)
    config = load_teacher(settings.teacher, tokenizer, "cpu").model.config
    return lambda: settings.loss(student, build_model(config))


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
