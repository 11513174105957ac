"""Perplexity and bits per byte of whole documents.

Each document is scored token by token. Its first token is predicted from the end-of-document token alone, as at the
start of every document in packed training. That end token is only context: it is never a target and has no bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stlm_kit.data.batches import IGNORE, Batch
from stlm_kit.errors import KitError, UsageError
from stlm_kit.progress import late_bar

if TYPE_CHECKING:
    from stlm_kit.data.token_files import TokenFile
    from stlm_kit.data.tokenizers import Tokenizer
    from stlm_kit.model.language_model import LanguageModel
    from stlm_kit.training.recipe import Recipe


@dataclass(frozen=True)
class Perplexity:
    """The score of a text: nats summed over all targets, the number of targets, and the UTF-8 bytes that they spell."""

    nats: float
    n_targets: int
    n_bytes: int

    @property
    def loss(self) -> float:
        """Mean loss in nats a token."""
        return self.nats / self.n_targets

    @property
    def perplexity(self) -> float:
        """exp of the mean loss. It is comparable only between models with the same tokenizer."""
        return math.exp(min(self.loss, 700.0))  # exp(710) overflows

    @property
    def bits_per_byte(self) -> float:
        """nats / (ln 2 x bytes). It is comparable between tokenizers, because the bytes are those of the raw text."""
        return self.nats / (math.log(2) * self.n_bytes)

    def __add__(self, other: Perplexity) -> Perplexity:
        return Perplexity(self.nats + other.nats, self.n_targets + other.n_targets, self.n_bytes + other.n_bytes)


MOST_LOGITS = 2**26  # 256 MiB in fp32


def evaluate_tokens(
    model: LanguageModel,
    tokens: TokenFile,
    *,
    context_length: int | None = None,
    batch_size: int = 8,
    max_documents: int | None = None,
    recipe: Recipe | None = None,
    progress: bool = False,
) -> Perplexity:
    """The perplexity of a token file's documents, or of the first `max_documents`. Bytes are those of the raw text.

    A document longer than `context_length` (default: the model's) is cut into consecutive windows, so each of its
    tokens is scored exactly once. The first tokens of a window have little context, as in training.

    `batch_size` windows are scored at a time, fewer where their logits would exceed 256 MiB. A recipe that never holds
    all logits may have trained with a batch that is too large to score at once. progress: show a bar over the
    documents.

    Raises UsageError for sizes out of range, KitError where the token file does not fit the model or holds no text.
    """
    if tokens.vocab_size > model.config.vocab_size:
        raise KitError(
            f"The text was tokenized into {tokens.vocab_size:,} different tokens and the model knows "
            f"{model.config.vocab_size:,}; evaluate it with the tokenizer it was trained with."
        )
    n = tokens.n_documents if max_documents is None else min(max_documents, tokens.n_documents)
    documents = ((tokens.document(i), int(tokens.document_bytes[i])) for i in range(n))
    with late_bar(documents, n, "evaluating", "document", enabled=progress) as documents:
        return _score(model, documents, tokens.end_of_document, context_length, batch_size, recipe)


def evaluate_text(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[str],
    *,
    context_length: int | None = None,
    batch_size: int = 8,
    recipe: Recipe | None = None,
    progress: bool = False,
) -> Perplexity:
    """The perplexity of texts, one document each; see `evaluate_tokens`. UsageError for a single str."""
    if isinstance(documents, str):
        raise UsageError("Give evaluate_text a list of documents; put a single text into brackets.")
    pairs = zip(tokenizer.encode_batch(list(documents)), (len(text.encode()) for text in documents), strict=True)
    with late_bar(pairs, len(documents), "evaluating", "document", enabled=progress) as pairs:
        return _score(model, pairs, tokenizer.end_of_document, context_length, batch_size, recipe)


@torch.no_grad()
def _score(
    model: LanguageModel,
    documents: Iterable[tuple[Sequence[int], int]],
    end_of_document: int,
    context_length: int | None,
    batch_size: int,
    recipe: Recipe | None,
) -> Perplexity:
    """Sum the nats of (token ids, bytes) pairs. Empty documents are skipped."""
    longest = model.config.context_length
    context_length = longest if context_length is None else context_length
    if not 1 <= context_length <= longest:
        raise UsageError(f"context_length = {context_length} will not do: the model takes 1 to {longest} positions.")
    if batch_size < 1:
        raise UsageError(f"batch_size = {batch_size} will not do: score at least 1 window at a time.")
    batch_size = min(batch_size, max(1, MOST_LOGITS // (context_length * model.config.vocab_size)))
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total = Perplexity(0.0, 0, 0)
    try:
        windows = _windows(documents, end_of_document, context_length)
        while rows := list(islice(windows, batch_size)):
            batch = _padded(rows, end_of_document)
            with recipe.autocast(device.type) if recipe is not None else nullcontext():
                nats, n_bytes = model.score(batch.to(device))
            total += Perplexity(nats.double().sum().item(), batch.real_targets, int(n_bytes.sum()))
    finally:
        model.train(was_training)
    if not total.n_targets:
        raise KitError("There is no text to score: every document is empty; give some text.")
    return total


def _windows(
    documents: Iterable[tuple[Sequence[int], int]], end_of_document: int, context_length: int
) -> Iterator[tuple[Tensor, int]]:
    """(ids, bytes) of each window: up to context_length + 1 ids.

    A window starts with the last id of the window before it, the first one with the end token. All bytes of a document
    count with its last window.
    """
    for ids, n_bytes in documents:
        row = torch.from_numpy(np.concatenate([[end_of_document], np.asarray(ids, dtype=np.int64)]))
        for start in range(0, len(row) - 1, context_length):
            yield row[start : start + context_length + 1], n_bytes if start + context_length + 1 >= len(row) else 0


def _padded(rows: Sequence[tuple[Tensor, int]], filler: int) -> Batch:
    """Rows of unequal length as one batch. The padding is on the right, where no real position attends to it."""
    length = max(len(row) for row, _ in rows) - 1
    ids = torch.full((len(rows), length), filler)
    targets = torch.full((len(rows), length), IGNORE)
    for i, (row, _) in enumerate(rows):
        ids[i, : len(row) - 1] = row[:-1]
        targets[i, : len(row) - 1] = row[1:]
    return Batch(ids, targets, target_bytes=torch.tensor([n_bytes for _, n_bytes in rows]))
