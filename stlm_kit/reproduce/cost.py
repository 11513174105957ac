"""What a run of a study will take: memory, operations, hours, disk. Worked out beforehand; nothing is trained.

The settings are those that the run's notebook would use. Where the run's text lies on this machine, the share of real
targets and the size of the token files are counted in it; otherwise every position counts as real, an upper bound.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stlm_kit.config import DecoderConfig, ModelConfig, preset, preset_entry
from stlm_kit.paths import cache_dir
from stlm_kit.reproduce.run import Run
from stlm_kit.reproduce.study_file import load_study, study_names
from stlm_kit.reproduce.trace_cache import kept
from stlm_kit.training.recipe import Recipe

if TYPE_CHECKING:
    from stlm_kit.data.token_files import TokenFile
    from stlm_kit.data.tokenizers import Tokenizer
    from stlm_kit.memory.report import MemoryReport, Semantics
    from stlm_kit.train_from_text import RunSettings

FULLEST = 3.09  # standard deviations: one batch in a thousand has more real targets
MARGIN, START_UP_HOURS = 1.5, 10 / 60  # of a time limit: evaluation, a slower node; set-up and tokenizing
ROW_OF_METRICS = 300  # bytes a step
MIB = 2**20


@dataclass(frozen=True)
class Work:
    """A run as its predictor needs it. `valid_fraction`: of all positions, the share with a real target; `fullest`: of
    the fullest batch in a thousand; both None where neither the text nor its padding is known. `token_mib`: token files
    in the cache, for all runs."""

    run: Run
    settings: RunSettings
    config: DecoderConfig
    recipe: Recipe
    valid_fraction: float | None
    fullest: float | None
    token_mib: float | None  # None where the text is not on this machine

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

    def flops(self) -> int:
        """Operations of all the run's steps, recomputed ones among them."""
        from stlm_kit.memory.operations import StepOperations, step_operations

        length, share = self.settings.context_length, self.valid_fraction or 1.0
        step = kept(StepOperations, step_operations, self.config, self.recipe, self.rows, length, share)
        return self.settings.steps * step.spent

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
    fits: str  # "yes"; "tight": only if the allocator gives blocks back; "no": refused; "" where there is no budget
    steps: int
    tokens: int  # positions computed, padding among them
    valid_fraction: float | None
    flops: int
    hours: float | None
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
    if not (fetch or on_this_machine(settings.corpus)):
        changes = {"context_length": settings.context_length, **settings.overrides}
        share = _shares(settings, *_known_padding(settings))
        return Work(run, settings, preset(settings.preset, **changes), recipe, *share, None)
    from stlm_kit.train_from_text import model_config, valid_fraction

    name = settings.tokenizer or preset_entry(settings.preset).tokenizer
    reading = (settings.split_seed, settings.max_documents, settings.separator, settings.text_field)
    tokenizer, tokens = _text(settings.corpus, *reading, name)
    share = _shares(settings, *valid_fraction(settings, tokens["train"]))
    size = sum(file.ids.nbytes + file.offsets.nbytes + file.document_bytes.nbytes for file in tokens.values()) / MIB
    return Work(run, settings, model_config(settings, tokenizer), recipe, *share, size)


def _known_padding(settings: RunSettings) -> tuple[float | None, float]:
    """(mean, spread) of the share of real targets in a text that is elsewhere, where a study states it."""
    for study in map(load_study, study_names()):
        known = study.padding
        if known and all(getattr(settings, name) == getattr(known, name) for name in ("corpus", "packing", "preset")):
            return known.valid_fraction, known.valid_fraction_std
    return None, 0.0


def _shares(settings: RunSettings, mean: float | None, spread: float) -> tuple[float | None, float | None]:
    """(the mean share of real targets, the share in the fullest batch of a thousand)."""
    if mean is None:
        return None, None
    return mean, min(mean + FULLEST * spread / math.sqrt(settings.batch_size), 1.0)


def on_this_machine(corpus: str) -> bool:
    """Whether a corpus can be read without fetching anything."""
    from stlm_kit.data.corpora import SHIPPED
    from stlm_kit.data.hub import SPEAKLEASH

    if corpus in SHIPPED or Path(corpus).expanduser().exists():
        return True
    if corpus in SPEAKLEASH:
        return any((cache_dir() / "speakleash").glob("*"))
    return any((cache_dir() / "corpora").glob(f"{corpus}-*/train.parquet"))


@lru_cache(maxsize=8)
def _text(
    corpus: str, split_seed: int, max_documents: int | None, separator: str | None, text_field: str, tokenizer: str
) -> tuple[Tokenizer, dict[str, TokenFile]]:
    from stlm_kit.data.corpora import load_corpus
    from stlm_kit.data.token_files import tokenize_corpus
    from stlm_kit.data.tokenizers import load_tokenizer

    texts = load_corpus(corpus, split_seed, separator=separator, text_field=text_field, max_documents=max_documents)
    made = load_tokenizer(tokenizer, corpus=texts)
    return made, tokenize_corpus(texts, made)


def time_limit(hours: float) -> str:
    """A batch system's limit for a run of so many hours, margin included: "HH:MM:00", in quarters of an hour."""
    quarters = math.ceil(4 * (MARGIN * hours + START_UP_HOURS))
    return f"{quarters // 4:02}:{quarters % 4 * 15:02}:00"


def refusal(work: Work, budget_mib: float, semantics: Semantics = "cuda") -> str:
    """Why a run cannot fit into a budget, and what would, as one sentence; "" where it may.

    What cannot fit is what its tensors alone fill. Reserved memory says less: an allocator that runs short gives free
    blocks back and tries again. So it only decides about what is suggested, which is to fit with room to spare.
    """
    report = work.memory(semantics=semantics)
    if report.peak_allocated_mib <= budget_mib:
        return ""
    need = f"needs {report.peak_allocated_mib:,.0f} MiB and {budget_mib:,.0f} are there"
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
