"""The cost of a study's run: memory, operations, hours, disk. Computed before the run; nothing is trained.

The settings are those that the run's notebook would use. Where the run's text is on this machine, the share of real
targets and the size of the token files are counted in it. Otherwise every position counts as real, an upper bound.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stlm_kit.config import DecoderConfig, ModelConfig
from stlm_kit.presets import preset
from stlm_kit.reproduce.run import Run
from stlm_kit.reproduce.text_figures import known_padding, on_this_machine, text_figures
from stlm_kit.reproduce.trace_cache import kept
from stlm_kit.training.recipe import Recipe

if TYPE_CHECKING:
    from stlm_kit.memory.operations import StepOperations
    from stlm_kit.memory.report import MemoryReport, Semantics
    from stlm_kit.run_teacher import EmptyLoss
    from stlm_kit.train_from_text import RunSettings

FULLEST = 3.09  # standard deviations: one batch in a thousand has more real targets
MARGIN, START_UP_HOURS = 1.5, 10 / 60  # factors of a time limit: a slower node; hours for set-up and tokenizing
ROW_OF_METRICS = 300  # bytes a step
MIB = 2**20


@dataclass(frozen=True)
class Work:
    """A run in the form that its predictor needs.

    valid_fraction: the share of positions with a real target. fullest: the same share in the fullest batch of a
    thousand. Both are None where neither the text nor its padding is known. scored: tokens of one evaluation.
    token_mib: MiB of token files in the cache, shared by all runs. Both are None where the text or its tokenizer is not
    on this machine. teacher: the configuration of a teacher that another run of the study trains. text_rows: of the
    training text, where it is on this machine.
    """

    run: Run
    settings: RunSettings
    config: DecoderConfig
    recipe: Recipe
    valid_fraction: float | None
    fullest: float | None
    scored: int | None
    token_mib: float | None
    teacher: ModelConfig | None = None
    text_rows: int | None = None

    @property
    def rows(self) -> int:
        """Rows of one step, over all its micro-batches."""
        return self.settings.batch_size * self.settings.accumulation_steps

    @property
    def trainable(self) -> tuple[str, ...] | None:
        """The names of the parameters that the run trains, or None for all."""
        return None if self.settings.trainable is None else tuple(self.settings.trainable)

    @property
    def loss(self) -> EmptyLoss | None:
        """What makes the run's loss for its sizes; None for the recipe's own. KitError where its teacher is missing."""
        from stlm_kit.run_teacher import empty_loss_of_run

        return empty_loss_of_run(self.settings.distillation, self.config, self.teacher)

    def memory(self, batch_size: int | None = None, semantics: Semantics = "cuda") -> MemoryReport:
        """The predicted report on a step of the fullest batch.

        Two micro-batches need the same memory as more of them.
        """
        from stlm_kit.memory.budget import predicted
        from stlm_kit.memory.report import MemoryReport

        size = batch_size or self.settings.batch_size
        parts = min(math.ceil(self.rows / size), 2)
        length = self.settings.context_length
        share, trained = self.fullest or 1.0, self.trainable
        step = (self.config, self.recipe, size, length, share, parts, semantics, trained)
        return kept(MemoryReport, predicted, *step, loss=self.loss)

    @property
    def evaluations(self) -> int:
        """How many times the run evaluates: every `evaluate_every` steps, and after the last one."""
        steps, every = self.settings.steps, self.settings.eval_every
        return 1 + ((steps - 1) // every if every else 0)

    def flops(self) -> int:
        """Operations of all the run's steps, including recomputation."""
        return self.settings.steps * self._operations().spent

    def evaluation_flops(self) -> int | None:
        """Operations of all its evaluations, which are forward passes. None where the text is not on this machine."""
        if self.scored is None:
            return None
        a_token = self._operations(taught=False).forward / (self.rows * self.settings.context_length)
        return round(self.evaluations * self.scored * a_token)

    def _operations(self, taught: bool = True) -> StepOperations:
        """The operations of one step. taught: with the run's own loss and its teacher."""
        from stlm_kit.memory.operations import StepOperations, step_operations

        length, share = self.settings.context_length, self.valid_fraction or 1.0
        loss = self.loss if taught else None
        return kept(StepOperations, step_operations, self.config, self.recipe, self.rows, length, share, loss=loss)

    def kept_outputs(self) -> KeptOutputs | None:
        """What a cache of the teacher's outputs takes; None without one, and where the text is not on this machine."""
        if self.settings.kept is None or self.text_rows is None:
            return None
        from stlm_kit.memory.operations import StepOperations, step_operations
        from stlm_kit.run_teacher import teacher_config

        settings, length = self.settings, self.settings.context_length
        teacher = self.teacher or teacher_config(settings.teacher)
        a_row = kept(StepOperations, step_operations, teacher, Recipe.named("fp32"), 1, length, 1.0).forward
        n_bytes = self.text_rows * length * settings.kept.bytes_per_position(self.config.vocab_size)
        what = settings.teacher_outputs + (f" {settings.teacher_k}" if settings.teacher_k else "")
        return KeptOutputs(settings.teacher, what, self.text_rows, n_bytes / MIB, self.text_rows * a_row)

    def disk_mib(self) -> float:
        """MiB on disk: two checkpoints (one is kept until the next is complete), frozen weights once, metrics."""
        weights = kept(list[tuple[int, bool]], weights_of, self.config, self.trainable)
        checkpoint = sum(n * 4 + 2 * n * self._bytes_of_a_moment(n) for n, trained in weights if trained)
        frozen = sum(4 * n for n, trained in weights if not trained)
        return (2 * checkpoint + frozen + self.settings.steps * ROW_OF_METRICS) / MIB

    def _bytes_of_a_moment(self, n: int) -> float:
        """Bytes of one AdamW moment of each of n weights.

        torchao keeps 8 bits, and a scale for each 256 of them, where n is at least 4096 and a multiple of 256.
        """
        return 1 + 4 / 256 if self.recipe.optimizer == "8bit" and n >= 4096 and n % 256 == 0 else 4


@dataclass(frozen=True)
class KeptOutputs:
    """What a cache of a teacher's outputs takes, once for all runs that read it."""

    teacher: str
    what: str  # the kind of outputs, with k
    rows: int
    mib: float
    flops: int


def weights_of(config: ModelConfig, trainable: tuple[str, ...] | None) -> list[tuple[int, bool]]:
    """(size, whether it is trained) of each of a model's weights."""
    import torch

    from stlm_kit.model.kinds import build_model
    from stlm_kit.model.parameters import distinct_parameters
    from stlm_kit.training.trainable import train_only

    with torch.device("meta"):
        model = build_model(config)
    train_only(model, trainable)
    return [(parameter.numel(), parameter.requires_grad) for _, parameter in distinct_parameters(model)]


@dataclass(frozen=True)
class Cost:
    """One row of the plan; `index` counts from 1.

    `hours` and `time_limit` are None where the device's peak is not known.
    """

    index: int
    name: str
    predicted_mib: float  # the peak of allocated memory
    reserved_mib: float  # the peak of reserved memory, with room to spare
    needed_mib: float  # the least memory in which it runs
    fits: str  # "yes"; "tight": only if the allocator returns cached segments; "no": refused; "" without a budget
    steps: int
    tokens: int  # computed positions, including padding
    valid_fraction: float | None
    flops: int  # of the steps
    hours: float | None  # of steps and evaluations
    evaluation_hours: float | None  # the part of evaluations; None where unknown, and then not in `hours`
    seconds_per_step: float | None
    utilisation: float | None
    disk_mib: float
    token_mib: float | None
    time_limit: str | None
    refusal: str

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict, for JSON."""
        return asdict(self)


def work_of(run: Run, *, fetch: bool = False) -> Work:
    """A run's settings, model and data in one `Work`.

    fetch: a corpus that is not on this machine may be fetched, as the run itself would. Raises UsageError for settings
    in conflict, KitError for a text that cannot be read.
    """
    from stlm_kit.options import settings_from

    settings = settings_from(run.parameters["settings"])
    recipe = Recipe.named(settings.recipe)
    teacher = work_of(run.needs["teacher"], fetch=fetch).config if "teacher" in run.needs else None
    if not (fetch or on_this_machine(settings)):
        changes = {"context_length": settings.context_length, **settings.overrides}
        share = _shares(settings, *known_padding(settings))
        return Work(run, settings, preset(settings.preset, **changes), recipe, *share, None, None, teacher)
    from stlm_kit.train_from_text import model_config

    text = text_figures(settings)
    share = _shares(settings, text.valid_fraction, text.spread)
    config = model_config(settings, text.name, text.vocab_size)
    return Work(run, settings, config, recipe, *share, text.scored, text.token_mib, teacher, text.rows)


def _shares(settings: RunSettings, mean: float | None, spread: float) -> tuple[float | None, float | None]:
    """(the mean share of real targets, the share in the fullest batch of a thousand)."""
    if mean is None:
        return None, None
    return mean, min(mean + FULLEST * spread / math.sqrt(settings.batch_size), 1.0)


def time_limit(hours: float) -> str:
    """A batch system's time limit for a run of `hours` hours, with a margin: "HH:MM:00", in quarters of an hour."""
    quarters = math.ceil(4 * (MARGIN * hours + START_UP_HOURS))
    return f"{quarters // 4:02}:{quarters % 4 * 15:02}:00"


def needed_of(report: MemoryReport) -> float:
    """The MiB that a step needs at least. On a CPU, whose allocator caches nothing, this is its peak."""
    return report.peak_allocated_mib if report.needed_mib is None else report.needed_mib


def refusal(work: Work, budget_mib: float, semantics: Semantics = "cuda") -> str:
    """Why a run cannot fit into a budget, and what would, as one sentence; "" where it may fit.

    Compared is the memory that an allocator needs after it has returned its cached segments. The memory that it
    reserves on an unlimited device is larger.
    """
    report = work.memory(semantics=semantics)
    needed = needed_of(report)
    if needed <= budget_mib:
        return ""
    need = f"needs {needed:,.0f} MiB and {budget_mib:,.0f} are there"
    from stlm_kit.memory.budget import largest_batch

    accumulates = work.recipe.update != "in_backward"
    most = kept(
        int,
        largest_batch,
        work.config,
        work.recipe,
        budget_mib,
        work.settings.context_length,
        valid_fraction=work.fullest or 1.0,
        accumulation_steps=2 if accumulates else 1,
        semantics=semantics,
        trainable=work.trainable,
        loss=work.loss,
        most=work.settings.batch_size,
    )
    if most == 0:
        return f"{need}; not even a batch of one row fits, so choose another recipe or a smaller model."
    if not accumulates:
        return f"{need}; the largest batch that fits is {most} (-p batch_size={most}), in-backward cannot accumulate."
    batch_size = max(size for size in range(1, most + 1) if work.rows % size == 0)
    return (
        f"{need}; the largest batch that fits is {most}, and -p batch_size={batch_size} "
        f"-p accumulation_steps={work.rows // batch_size} gives the same {work.rows} rows a step."
    )
