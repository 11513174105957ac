"""What a run of a study will take: memory, operations, hours, disk. Worked out beforehand; nothing is trained.

The settings are those that the run's notebook would use. Where the run's text lies on this machine, the share of real
targets and the size of the token files are counted in it; otherwise every position counts as real, an upper bound.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stlm_kit.config import DecoderConfig, ModelConfig, preset
from stlm_kit.reproduce.run import Run
from stlm_kit.reproduce.text_figures import known_padding, on_this_machine, text_figures
from stlm_kit.reproduce.trace_cache import kept
from stlm_kit.training.recipe import Recipe

if TYPE_CHECKING:
    from stlm_kit.memory.operations import StepOperations
    from stlm_kit.memory.report import MemoryReport, Semantics
    from stlm_kit.train_from_text import RunSettings

FULLEST = 3.09  # standard deviations: one batch in a thousand has more real targets
MARGIN, START_UP_HOURS = 1.5, 10 / 60  # of a time limit: a slower node; set-up and tokenizing
ROW_OF_METRICS = 300  # bytes a step
MIB = 2**20


@dataclass(frozen=True)
class Work:
    """A run as its predictor needs it. `valid_fraction`: of all positions, the share with a real target; `fullest`: of
    the fullest batch in a thousand; both None where neither the text nor its padding is known. `scored`: tokens of one
    evaluation, `token_mib`: token files in the cache, for all runs; both None where the text is elsewhere."""

    run: Run
    settings: RunSettings
    config: DecoderConfig
    recipe: Recipe
    valid_fraction: float | None
    fullest: float | None
    scored: int | None
    token_mib: float | None

    @property
    def rows(self) -> int:
        """Rows that one step takes."""
        return self.settings.batch_size * self.settings.accumulation_steps

    @property
    def trainable(self) -> tuple[str, ...] | None:
        """The subset of parameters that the run trains; None for all."""
        return None if self.settings.trainable is None else tuple(self.settings.trainable)

    def memory(self, batch_size: int | None = None, semantics: Semantics = "cuda") -> MemoryReport:
        """The predicted report on a step of the fullest batch. More than two micro-batches take what two take."""
        from stlm_kit.memory.budget import predicted
        from stlm_kit.memory.report import MemoryReport

        size = batch_size or self.settings.batch_size
        parts = min(math.ceil(self.rows / size), 2)
        length = self.settings.context_length
        share, trained = self.fullest or 1.0, self.trainable
        step = (self.config, self.recipe, size, length, share, parts, semantics, trained)
        return kept(MemoryReport, predicted, *step)

    @property
    def evaluations(self) -> int:
        """How many times the run evaluates: every so many steps, and after the last one."""
        steps, every = self.settings.steps, self.settings.eval_every
        return 1 + ((steps - 1) // every if every else 0)

    def flops(self) -> int:
        """Operations of all the run's steps, recomputed ones among them."""
        return self.settings.steps * self._operations().spent

    def evaluation_flops(self) -> int | None:
        """Operations of all its evaluations, which are forward passes; None where the text is elsewhere."""
        if self.scored is None:
            return None
        a_token = self._operations().forward / (self.rows * self.settings.context_length)
        return round(self.evaluations * self.scored * a_token)

    def _operations(self) -> StepOperations:
        """Of one step."""
        from stlm_kit.memory.operations import StepOperations, step_operations

        length, share = self.settings.context_length, self.valid_fraction or 1.0
        return kept(StepOperations, step_operations, self.config, self.recipe, self.rows, length, share)

    def disk_mib(self) -> float:
        """Two checkpoints, since one is kept until the next is whole, frozen weights once, and the rows of metrics."""
        weights = kept(list[tuple[int, bool]], weights_of, self.config, self.trainable)
        checkpoint = sum(n * 4 + 2 * n * self._bytes_of_a_moment(n) for n, trained in weights if trained)
        frozen = sum(4 * n for n, trained in weights if not trained)
        return (2 * checkpoint + frozen + self.settings.steps * ROW_OF_METRICS) / MIB

    def _bytes_of_a_moment(self, n: int) -> float:
        """Of each of n weights; torchao keeps 8 bits and a scale for each 256, where there are enough, and whole."""
        return 1 + 4 / 256 if self.recipe.optimizer == "8bit" and n >= 4096 and n % 256 == 0 else 4


def weights_of(config: ModelConfig, trainable: tuple[str, ...] | None) -> list[tuple[int, bool]]:
    """(how many numbers, whether they are trained) of each of a model's weights."""
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
    """One row of the plan; `index` counts from 1. `hours` and `time_limit` are None where the peak is not known."""

    index: int
    name: str
    predicted_mib: float  # the peak of what is allocated
    reserved_mib: float  # of what the allocator holds, where it has room
    needed_mib: float  # the least that it gets by with
    fits: str  # "yes"; "tight": only if the allocator gives blocks back; "no": refused; "" where there is no budget
    steps: int
    tokens: int  # positions computed, padding among them
    valid_fraction: float | None
    flops: int  # of the steps
    hours: float | None  # of steps and evaluations
    evaluation_hours: float | None  # of the evaluations among them; None where they are not known, and left out
    seconds_per_step: float | None
    utilisation: float | None
    disk_mib: float
    token_mib: float | None
    time_limit: str | None
    refusal: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def work_of(run: Run, *, fetch: bool = False) -> Work:
    """What a run is made of. fetch: a corpus that is not on this machine may be fetched, as the run itself would.

    Raises UsageError for settings that do not fit together, KitError for a text that cannot be read.
    """
    from stlm_kit.options import settings_from

    settings = settings_from(run.parameters["settings"])
    recipe = Recipe.named(settings.recipe)
    if not (fetch or on_this_machine(settings.corpus, settings.max_documents)):
        changes = {"context_length": settings.context_length, **settings.overrides}
        share = _shares(settings, *known_padding(settings))
        return Work(run, settings, preset(settings.preset, **changes), recipe, *share, None, None)
    from stlm_kit.train_from_text import model_config

    text = text_figures(settings)
    share = _shares(settings, text.valid_fraction, text.spread)
    config = model_config(settings, text.name, text.vocab_size)
    return Work(run, settings, config, recipe, *share, text.scored, text.token_mib)


def _shares(settings: RunSettings, mean: float | None, spread: float) -> tuple[float | None, float | None]:
    """(the mean share of real targets, the share in the fullest batch of a thousand)."""
    if mean is None:
        return None, None
    return mean, min(mean + FULLEST * spread / math.sqrt(settings.batch_size), 1.0)


def time_limit(hours: float) -> str:
    """A batch system's limit for a run of so many hours, margin included: "HH:MM:00", in quarters of an hour."""
    quarters = math.ceil(4 * (MARGIN * hours + START_UP_HOURS))
    return f"{quarters // 4:02}:{quarters % 4 * 15:02}:00"


def needed_of(report: MemoryReport) -> float:
    """The MiB without which a step does not run: on a CPU, whose allocator keeps nothing, its peak."""
    return report.peak_allocated_mib if report.needed_mib is None else report.needed_mib


def refusal(work: Work, budget_mib: float, semantics: Semantics = "cuda") -> str:
    """Why a run cannot fit into a budget, and what would, as one sentence; "" where it may.

    It cannot where an allocator that gives back what it keeps still runs short. What is reserved where there is plenty
    says less.
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
