"""The memory of a teacher and a student in one training step, predicted before either is built or loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stlm_kit.config import ModelConfig, config_from
from stlm_kit.data.smollm2 import smollm2_file
from stlm_kit.errors import KitError, UsageError
from stlm_kit.memory.devices import DEVICES, device_named
from stlm_kit.memory.predict import predict_peak
from stlm_kit.memory.recording import MIB
from stlm_kit.memory.report import MemoryReport, Semantics
from stlm_kit.model.decoder import Decoder
from stlm_kit.model.huggingface import kit_config
from stlm_kit.model.huggingface.files import read_settings
from stlm_kit.model.kinds import build_model
from stlm_kit.model.language_model import LanguageModel
from stlm_kit.presets import preset
from stlm_kit.saved_models import is_hf
from stlm_kit.teachers.empty import default_type
from stlm_kit.teachers.hub import CONFIGS
from stlm_kit.teachers.packed import check_bits, pack
from stlm_kit.teachers.smollm2 import llama_config
from stlm_kit.teachers.teacher import SMOLLM2, type_named
from stlm_kit.training.distillation import DistillationLoss
from stlm_kit.training.loss import Loss
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.run_folder import read_json

MakeLoss = Callable[[LanguageModel], Loss]


@dataclass(frozen=True)
class Fit:
    """What a step with a teacher needs, and what it may take, in MiB (2^20 bytes).

    teacher_mib: the teacher's weights. student_mib: the same step without a teacher. together_mib: the step with both.
    """

    teacher_mib: float
    student_mib: float
    together_mib: float
    budget_mib: float
    report: MemoryReport


def teacher_and_student(
    teacher: ModelConfig | str | Path,
    student: ModelConfig | str,
    recipe: Recipe | str,
    batch_size: int,
    context_length: int,
    budget: str | float = "mig-20gb",
    *,
    dtype: str | torch.dtype | None = "bf16",
    bits: int | None = None,
    loss: MakeLoss | None = None,
    semantics: Semantics = "cuda",
) -> Fit:
    """Predict a distillation step: the student's step, and the teacher's weights and forward pass without gradients.

    teacher: a config, or a name or folder that `load_teacher` takes; only its configuration is read. dtype, bits: as in
    `load_teacher`. student, recipe, batch_size, context_length: as in `predict_peak`. budget: a GPU of
    `memory.devices.DEVICES`, or MiB that torch may reserve. loss: `loss(teacher)` returns the loss that you train with;
    the default is `DistillationLoss(teacher)`.

    Nothing is loaded or fetched. Raises KitError where the step does not fit; the sentence names what would fit: fewer
    rows, the teacher in fewer bits, or its outputs from a cache. UsageError for unknown names and sizes out of range.
    """
    check_bits(bits)
    config, kind = teacher_config(teacher), type_named(dtype) or torch.float32
    student = preset(student) if isinstance(student, str) else student
    limit, make_loss = _limit_mib(budget), loss or short_distillation(student.vocab_size)

    def needed(rows: int, bits: int | None, taught: bool = True) -> tuple[float, MemoryReport]:
        make_teacher = stand_in(config, kind, bits)
        make = (lambda: make_loss(make_teacher())) if taught else None
        on = budget if budget in DEVICES and semantics == "cuda" else None
        report = predict_peak(
            student, recipe, rows, context_length, span="step", semantics=semantics, loss=make, device=on
        )
        return report.peak_reserved_mib if report.needed_mib is None else report.needed_mib, report

    together, report = needed(batch_size, bits)
    alone, _ = needed(batch_size, None, taught=False)
    weights = stored_mib(config, kind, bits)
    if together <= limit:
        return Fit(weights, alone, together, limit, report)
    choices = list(_what_fits(lambda rows, bits: needed(rows, bits)[0], limit, batch_size, bits))
    if alone <= limit:
        choices.append(f"the teacher's outputs from a cache (the student alone takes {_gib(alone)})")
    advice = f"what would fit: {'; or '.join(choices)}" if choices else "take a smaller student or a larger GPU"
    raise KitError(
        f"Teacher and student take {_gib(together)} in a step, {_gib(weights)} of it the teacher's weights, and "
        f"{budget if isinstance(budget, str) else 'the budget'} offers {_gib(limit)}; {advice}."
    )


def _what_fits(needed: Callable[[int, int | None], float], limit: float, rows: int, bits: int | None) -> Iterator[str]:
    """Changes, one at a time, with which the step fits: half as many rows and so on, or fewer bits."""
    fewer = rows // 2
    while fewer and needed(fewer, bits) > limit:
        fewer //= 2
    if fewer:
        yield f"batches of {fewer} (more of them accumulated in a step)"
    for choice in (8, 4):
        if (bits is None or choice < bits) and needed(rows, choice) <= limit:
            yield f"the teacher in {choice} bits (bits={choice})"
            return


def teacher_config(teacher: ModelConfig | str | Path) -> ModelConfig:
    """The configuration of a teacher by name or folder, or of a preset. No weights are read.

    UsageError for an unknown name, KitError for a folder without a model.
    """
    if isinstance(teacher, ModelConfig):
        return teacher
    if teacher == SMOLLM2:
        return llama_config(smollm2_file())
    if teacher in CONFIGS:
        return CONFIGS[teacher]
    folder = Path(teacher).expanduser()
    if not folder.is_dir():
        return preset(str(teacher))
    if is_hf(folder):
        return kit_config(read_settings(folder / "config.json"))
    settings = read_json(folder / "config.json")
    if settings is None or "model" not in settings:
        raise KitError(f"{folder} holds no config.json of a run or of a model; give a folder with one.")
    return config_from(settings["model"])


def stand_in(config: ModelConfig, dtype: torch.dtype, bits: int | None = None) -> Callable[[], LanguageModel]:
    """A function that returns a frozen model with the teacher's shapes and types. Its weights are not set.

    The structure is made here, without memory. The function makes the tensors, where a prediction calls it: so the
    prediction sees each of them once, in its final type.
    """
    model = without_memory(config, dtype, bits)
    parts = [part for module in model.modules() for part in (module._parameters, module._buffers)]
    slots = [(part, name, tensor) for part in parts for name, tensor in part.items() if tensor is not None]

    def make() -> LanguageModel:
        made: dict[int, Tensor] = {}  # a tied matrix is made once
        for part, name, tensor in slots:
            if id(tensor) not in made:
                empty = torch.empty(tensor.shape, dtype=tensor.dtype)
                is_parameter = isinstance(tensor, nn.Parameter)
                made[id(tensor)] = nn.Parameter(empty, requires_grad=False) if is_parameter else empty
            part[name] = made[id(tensor)]
        return model

    return make


def without_memory(config: ModelConfig, dtype: torch.dtype, bits: int | None = None) -> LanguageModel:
    """A model in evaluation mode whose tensors have shapes and types only."""
    with torch.device("meta"), default_type(dtype):
        model = build_model(config).eval()
    return model if bits is None else pack(model, bits)


def stored_mib(config: ModelConfig, dtype: torch.dtype, bits: int | None = None) -> float:
    """The MiB of a teacher's weights and tables of positions. A tied matrix counts once."""
    model = without_memory(config, dtype, bits)
    tensors = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) / MIB


def short_distillation(vocab_size: int) -> MakeLoss:
    """`DistillationLoss` with a teacher that holds all of its layers and runs through two of them.

    Without gradients a layer frees what the one before it allocated, so the others would not change the peak.
    """

    def make(teacher: LanguageModel) -> DistillationLoss:
        if isinstance(teacher, Decoder):
            teacher.order = list(teacher.config.order)[:2]
        return DistillationLoss(teacher, vocab_size=min(vocab_size, teacher.config.vocab_size))

    return make


def _limit_mib(budget: str | float) -> float:
    """A budget in MiB: what a named GPU offers with a margin, or the number given."""
    if isinstance(budget, str):
        return device_named(budget).safe_mib
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not 0 < budget < float("inf"):
        raise UsageError(f"budget = {budget!r} will not do; give {', '.join(DEVICES)}, or a number of MiB above 0.")
    return float(budget)


def _gib(mib: float) -> str:
    return f"{mib / 1024:.2f} GiB"
