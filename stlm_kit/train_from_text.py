"""From text to a trained model in one call: corpus -> tokens -> batches -> model -> train.

This module combines all the others; `stlm train` and notebooks/run.ipynb both call it.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from stlm_kit.code_hash import rooms_hash
from stlm_kit.config import ModelConfig
from stlm_kit.data.batches import DocumentBatches, PackedBatches
from stlm_kit.data.corpora import load_corpus, read_record
from stlm_kit.data.open_file import is_unicode, shown
from stlm_kit.data.token_files import TokenFile, tokenize_corpus
from stlm_kit.data.tokenizers import Tokenizer, load_tokenizer
from stlm_kit.errors import UsageError, first_sentence, near
from stlm_kit.evaluation.perplexity import Perplexity, evaluate_tokens
from stlm_kit.generation import generate
from stlm_kit.model.kinds import build_model
from stlm_kit.model.language_model import LanguageModel
from stlm_kit.presets import preset, preset_entry
from stlm_kit.processor import cost_in_words, evaluation_recipe
from stlm_kit.provenance import source_hash, versions
from stlm_kit.run_teacher import loss_of_run
from stlm_kit.saved_models import copy_state, pick_device, start_from, weights_hash
from stlm_kit.tracking import trackers_for
from stlm_kit.training.distillation_settings import DistillationSettings
from stlm_kit.training.loop import TrainResult, train
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.run_folder import read_json
from stlm_kit.training.settings import TrainingSettings


def known_device(name: str) -> str:
    """A device's name with "auto" resolved: CUDA where there is one, else MPS, else the CPU. ValueError if unknown."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.split(":")[0] not in ("cpu", "cuda", "mps"):
        raise ValueError(f"There is no device named {name!r}; choose auto, cpu, cuda or mps.")
    return name


class TextSettings(BaseModel):
    """The model, the text and the device of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    preset: str = Field("laptop-llama", min_length=1, description="a named configuration")
    overrides: dict[str, Any] = Field(default_factory=dict, description="fields of the preset to change")
    init_from: str | None = Field(None, description="a run's folder, or one in Hugging Face's layout, to start from")
    corpus: str = Field("sotu", min_length=1, description="a corpus by name, or a path")
    text_field: str = Field("text", min_length=1, description="the field of a .jsonl or .parquet row that holds text")
    separator: str | None = Field(None, description="what stands between the documents of a text file")
    tokenizer: Annotated[str | None, AfterValidator(lambda name: None if name == "preset" else name)] = Field(
        None, description='None or "preset": the preset\'s default'
    )
    packing: Literal["packed", "documents"] = "packed"
    attend_across_documents: bool = True
    split_seed: int = Field(0, ge=0, lt=2**32, description="of the split into training and validation")
    max_documents: int | None = Field(None, ge=1, description="the first N documents of the corpus only")
    train_documents: int | None = Field(None, ge=1, description="train on the first N training documents only")
    eval_documents: int | None = Field(None, ge=1, description="score the first N validation documents only")
    spread_documents: bool = Field(
        False, description="spread these N evenly, first and last included; the last is also scored alone"
    )
    prompt: str = Field("", description="what samples of generated text start from")
    device: Annotated[str, AfterValidator(known_device)] = Field("cpu", description="auto: a GPU where there is one")


class RunSettings(TrainingSettings, TextSettings, DistillationSettings):
    """A training run from text: the settings of training, of model, text and device, and of what it learns from."""

    @property
    def training(self) -> TrainingSettings:
        """The settings of the training loop."""
        return TrainingSettings(**{name: getattr(self, name) for name in TrainingSettings.model_fields})

    @property
    def text(self) -> TextSettings:
        """The settings of model, text and device."""
        return TextSettings(**{name: getattr(self, name) for name in TextSettings.model_fields})

    @property
    def distillation(self) -> DistillationSettings:
        """The settings of a teacher, and of softened labels."""
        return DistillationSettings(**{name: getattr(self, name) for name in DistillationSettings.model_fields})


def run_settings(**values: Any) -> RunSettings:
    """RunSettings from keyword arguments. UsageError with one sentence for an unknown name or an impossible value."""
    for name, value in values.items():
        if name not in RunSettings.model_fields:
            raise UsageError(f"There is no setting named {name!r}.{near(name, RunSettings.model_fields)}")
        if isinstance(value, str) and not is_unicode(value):
            raise UsageError(f"{name} = {shown(value)} is not Unicode text, which settings are kept as; rename it.")
    try:
        return RunSettings(**values)
    except ValidationError as error:
        raise UsageError(first_sentence(error)) from error


def model_config(settings: RunSettings, tokenizer: str, vocab_size: int) -> ModelConfig:
    """The preset with the run's context length, overrides and vocabulary size.

    tokenizer: the name of the tokenizer with this vocabulary. UsageError for a published preset with another vocabulary
    size, unless the preset states this number of tokens: then the rows beyond it are padding and never a target.
    """
    entry = preset_entry(settings.preset)
    changes = {"context_length": settings.context_length, **settings.overrides}
    if not entry.published:
        changes.setdefault("vocab_size", vocab_size)
    config = preset(settings.preset, **changes)
    padded = vocab_size == entry.tokenizer_size and vocab_size < config.vocab_size
    if config.vocab_size != vocab_size and not padded:
        raise UsageError(
            f"The preset {settings.preset!r} has {config.vocab_size:,} tokens and the tokenizer {tokenizer!r} "
            f"{vocab_size:,}; use the tokenizer {entry.tokenizer!r}, or override vocab_size."
        )
    return config


def prepare(settings: RunSettings) -> tuple[Tokenizer, dict[str, TokenFile], ModelConfig]:
    """The tokenizer, the token file of each split, and the model's configuration for a run."""
    return prepare_and_record(settings)[:3]


def prepare_and_record(settings: RunSettings) -> tuple[Tokenizer, dict[str, TokenFile], ModelConfig, dict]:
    """What `prepare` returns, and the record of what was read (`read_record`), with documents and bytes by split."""
    entry = preset_entry(settings.preset)
    corpus = load_corpus(
        settings.corpus,
        split_seed=settings.split_seed,
        separator=settings.separator,
        text_field=settings.text_field,
        max_documents=settings.max_documents,
    )
    tokenizer = load_tokenizer(settings.tokenizer or entry.tokenizer, corpus=corpus)
    config = model_config(settings, tokenizer.name, tokenizer.vocab_size)
    tokens = chosen_documents(settings, tokenize_corpus(corpus, tokenizer))
    sizes = {split: {"documents": file.n_documents, "bytes": file.n_bytes} for split, file in tokens.items()}
    return tokenizer, tokens, config, {**read_record(corpus), "parts": sizes}


def chosen_documents(settings: TextSettings, tokens: dict[str, TokenFile]) -> dict[str, TokenFile]:
    """The documents of each split that a run uses. A tokenizer that is trained here has seen all of them."""
    chosen = dict(tokens)
    wanted = {"train": settings.train_documents, "validation": settings.eval_documents}
    for split, n in wanted.items():
        of = tokens[split].n_documents
        if n is not None and n < of and (split == "train" or settings.spread_documents):
            spread = np.linspace(0, of - 1, n).round().astype(int)
            chosen[split] = tokens[split].select(spread if settings.spread_documents else range(n))
    return chosen


def said_of(read: dict) -> str:
    """One line on what was read: its origin, how it was split, which files, and the size of each split."""
    sizes = (
        f"{split} {part['documents']:,} documents, {part['bytes']:,} bytes" for split, part in read["parts"].items()
    )
    return f"corpus: {read.get('sentence', '')} {'; '.join(sizes)}"


def train_from_text(
    settings: RunSettings,
    run_dir: Path | str | None = None,
    *,
    progress: bool = True,
    loggers: Sequence[Callable[[dict], None]] = (),
    begin_with: Path | None = None,
    say: Callable[[str], None] | None = None,
    **trackers: str | bool | None,
) -> TrainResult:
    """Train a preset's model on a corpus; see `train` for the files in `run_dir` and what is raised.

    Validation perplexity (a token) and bits per byte are measured at evaluations and at the end, on whole documents.
    Where the recipe's precision is slow on this processor, the evaluation is in fp32; "evaluation_precision" records
    it.

    loggers: each is called with each row of metrics. trackers: `wandb` names a project of Weights & Biases,
    `tensorboard` a folder (True: the default ones). Without them STLM_WANDB and STLM_TENSORBOARD apply. begin_with: the
    folder of a run whose last checkpoint and metrics this run starts from (see continuation.py). say: called before
    training with a line on what was read; config.json keeps the same under "read". A slow precision adds a sentence,
    which goes to standard error without `say`.
    """
    device = pick_device(settings.device)
    tracked = trackers_for(trackers, run_dir, settings.model_dump(mode="json"))
    tokenizer, tokens, config, read = prepare_and_record(settings)
    if say:
        say(said_of(read))
    batches = make_batches(settings, tokens["train"])
    torch.manual_seed(settings.seed)
    model = build_model(config).to(device)
    start = {} if settings.init_from is None else {"init_from": start_from(model, settings.init_from)}
    loss, taught_by = loss_of_run(settings.distillation, config, tokenizer, batches, settings.device, say)
    recipe = Recipe.named(settings.recipe)
    if cost := cost_in_words(recipe, device.type):
        say(cost) if say else print(cost, file=sys.stderr)
    scoring = evaluation_recipe(recipe, device.type)

    def score(model: LanguageModel, tokens: TokenFile) -> Perplexity:
        options = {"batch_size": settings.batch_size, "recipe": scoring, "progress": progress}
        return evaluate_tokens(model, tokens, max_documents=settings.eval_documents, **options)

    def evaluate(model: LanguageModel) -> dict[str, float | str]:
        held_out, found = tokens["validation"], {}
        if settings.spread_documents and held_out.n_documents > 1:
            *others, last = range(held_out.n_documents)
            of_last = score(model, held_out.select([last]))
            whole = score(model, held_out.select(others)) + of_last
            found = {"last_document_bits_per_byte": of_last.bits_per_byte}
        else:
            whole = score(model, held_out)
        scores = {"perplexity": whole.perplexity, "bits_per_byte": whole.bits_per_byte}
        return {**scores, **found, "evaluation_precision": scoring.precision}

    def sample(model: LanguageModel) -> str:
        return generate(model, tokenizer, settings.prompt, max_new_tokens=60, temperature=0.8, seed=settings.seed)

    about = {
        "run": settings.text,
        **({} if settings.distillation.is_plain else {"distillation": settings.distillation}),
        "read": read,
        "content": {
            "tokenizer": tokenizer.content_hash,
            **{split: file.content_hash for split, file in tokens.items()},
            **start,
            **taught_by,
            **({} if begin_with is None else {"continued_from": weights_hash(begin_with)}),
        },
        "made_by": {"source": source_hash(), "rooms": rooms_hash(), **versions()},
    }

    def keep(folder: Path) -> None:
        tokenizer.save(folder / "tokenizer")
        if begin_with is not None:
            copy_state(begin_with, folder)

    with ExitStack() as stack:
        result = train(
            model,
            batches,
            settings.training,
            loss=loss,
            run_dir=run_dir,
            evaluate=evaluate,
            sample=sample if settings.sample_every else None,
            about=about,
            keep=keep,
            loggers=[*loggers, *(stack.enter_context(tracker) for tracker in tracked)],
            progress=progress,
        )
    if run_dir is not None:
        made_by = read_json(Path(run_dir) / "config.json")["made_by"]
        result.result["made_by_other_code"] = {**made_by, "source": ""} != {**about["made_by"], "source": ""}
    return result


def make_batches(settings: RunSettings, tokens: TokenFile) -> PackedBatches | DocumentBatches:
    """The run's batches from a token file."""
    if settings.packing == "documents":
        return DocumentBatches(tokens, settings.batch_size, settings.context_length, seed=settings.seed)
    return PackedBatches(
        tokens,
        settings.batch_size,
        settings.context_length,
        seed=settings.seed,
        attend_across_documents=settings.attend_across_documents,
    )


def valid_fraction(settings: RunSettings, tokens: TokenFile) -> tuple[float, float]:
    """(mean, standard deviation) over rows of the share of positions with a real target."""
    if settings.packing == "documents":
        targets = np.minimum(np.diff(tokens.offsets) - 1, settings.context_length)
        shares = targets / settings.context_length
        return float(shares.mean()), float(shares.std())
    if settings.attend_across_documents:
        return 1.0, 0.0
    return 1.0 - tokens.n_documents / tokens.n_tokens, 0.0  # the target after an end of document does not count


class _Callable(types.ModuleType):
    """`kit.train_from_text` is this module and also its function: calling the module calls the function."""

    __call__ = staticmethod(train_from_text)


sys.modules[__name__].__class__ = _Callable
