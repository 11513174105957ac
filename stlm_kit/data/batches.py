"""Two ways to make batches from a TokenFile: packed rows without padding, or one document a row.

A source of batches is a function of a seed and a number. Batch i is the same whenever it is requested, so a training
run that resumes at step i needs no saved data state. Each epoch visits every row once, in a new order. Rows that do not
fill a last batch are left out of that epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from stlm_kit.data.token_files import TokenFile
from stlm_kit.errors import KitError, UsageError

IGNORE = -100  # marks a position without a target; the default ignore_index of `torch.nn.functional.cross_entropy`


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch from any source. All fields except `ids` and `targets` may be None.

    ids: the input tokens. targets: `targets[b, t]` is the token after `ids[b, t]`, or IGNORE.
    documents: the number of the document of each position, within its row.
    weights: the weight of each target in the loss, where it is not 1 (0 masks a prompt, for example).
    rows: the number of each row in its token file. Precomputed values of a row are found by it.
    groups: the number of the group of each position, within its row (the token that a byte belongs to, for example).
    target_bytes: UTF-8 bytes of raw text that each row's targets spell, for bits per byte.
    """

    ids: Int[Tensor, "batch seq"]
    targets: Int[Tensor, "batch seq"]
    documents: Int[Tensor, "batch seq"] | None = None
    weights: Float[Tensor, "batch seq"] | None = None
    rows: Int[Tensor, " batch"] | None = None
    groups: Int[Tensor, "batch seq"] | None = None
    target_bytes: Int[Tensor, " batch"] | None = None

    @property
    def real_targets(self) -> int:
        """The number of real targets, those that are not IGNORE."""
        return int((self.targets != IGNORE).sum())

    @cached_property
    def weight(self) -> float:
        """The divisor of a mean over this batch: the number of real targets, or the sum of their weights."""
        if self.weights is None:
            return self.real_targets
        return float((self.weights * (self.targets != IGNORE)).sum())

    @property
    def valid_fraction(self) -> float:
        """The share of positions with a real target, 0 to 1. The other positions cost compute and give no loss."""
        return self.real_targets / self.targets.numel()

    def to(self, device: Any) -> Batch:
        """The batch with every tensor on a device."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = replace(self, **{name: value.to(device) for name, value in given.items() if value is not None})
        if "weight" in self.__dict__:  # keep the count: counting on a GPU would force a synchronization
            moved.__dict__["weight"] = self.weight
        return moved


class BatchSource(Protocol):
    """The interface that training uses: a function of a seed and a number, and one sentence on how batches are made."""

    description: str

    def __call__(self, seed: int, number: int) -> Batch: ...


class _Batches:
    """What both sources share: epochs, the order of rows, and checks of sizes."""

    n_rows: int

    def __init__(self, tokens: TokenFile, batch_size: int, context_length: int, seed: int | None):
        for name, value in (("batch_size", batch_size), ("context_length", context_length)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} = {value!r} will not do; give a whole number of 1 or more.")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
            raise UsageError(f"seed = {seed!r} will not do; give a whole number of 0 or more.")
        self.tokens, self.batch_size, self.context_length, self.seed = tokens, batch_size, context_length, seed
        self._order: tuple[tuple[int, int], np.ndarray] | None = None

    def _check_rows(self, what: str) -> None:
        if self.n_rows < self.batch_size:
            raise KitError(
                f"The corpus gives {self.n_rows} {what} and a batch takes {self.batch_size}; "
                "lower batch_size, or give more text."
            )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return self.n_rows // self.batch_size

    def __call__(self, seed: int, number: int) -> Batch:
        """Batch `number` of an endless sequence, from 0, epoch after epoch. UsageError for a negative number.

        A seed that was given to the constructor takes precedence over `seed`.
        """
        if number < 0:
            raise UsageError(f"There is no batch {number}; batches count from 0.")
        epoch, place = divmod(int(number), len(self))
        key = (seed if self.seed is None else self.seed, epoch)
        if self._order is None or self._order[0] != key:
            self._order = (key, np.random.default_rng(key).permutation(self.n_rows))
        rows = self._order[1][place * self.batch_size : (place + 1) * self.batch_size]
        return replace(self._batch(rows), rows=torch.from_numpy(rows.copy()))

    def __getitem__(self, number: int) -> Batch:
        """Batch `number` with the constructor's seed, or 0."""
        return self(0, number)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the first epoch."""
        return (self[index] for index in range(len(self)))

    def _batch(self, rows: np.ndarray) -> Batch:
        raise NotImplementedError


class PackedBatches(_Batches):
    """Documents laid end to end and cut into rows of `context_length` inputs, without padding.

    Row r reads tokens r*context_length to (r+1)*context_length; the last of them is only a target. So each token of the
    file except the first is a target once an epoch. A last row that is not full is left out.

    `attend_across_documents=True`: a row is one text, and a token also attends to earlier documents. `documents` is
    None and every target counts.

    False: `documents` gives the document of each position, numbered from 0 in each row. The end token belongs to the
    document it ends. The target after an end token is the first token of an unrelated document, so it is IGNORE.
    Positions still count from the row's start.

    Raises KitError for a file that is too small for one batch, UsageError for sizes or a seed out of range.
    """

    def __init__(
        self,
        tokens: TokenFile,
        batch_size: int,
        context_length: int,
        seed: int | None = None,
        attend_across_documents: bool = True,
    ):
        super().__init__(tokens, batch_size, context_length, seed)
        self.attend_across_documents = attend_across_documents
        self.n_rows = (tokens.n_tokens - 1) // context_length
        if self.n_rows < 1:
            raise KitError(
                f"The corpus has {tokens.n_tokens} tokens, fewer than the {context_length + 1} of one row; "
                "lower context_length, or give more text."
            )
        self._check_rows(f"rows of {context_length} tokens")

    @property
    def description(self) -> str:
        """One sentence: how rows are made, and whether they attend across documents."""
        what = "rows attend" if self.attend_across_documents else "no token attends"
        return f"Packed rows of {self.context_length} tokens without padding; {what} across documents."

    def _batch(self, rows: np.ndarray) -> Batch:
        starts = rows * self.context_length
        ids = np.stack([self.tokens.ids[start : start + self.context_length + 1] for start in starts]).astype(np.int64)
        read, targets = torch.from_numpy(ids[:, :-1].copy()), torch.from_numpy(ids[:, 1:].copy())
        if self.attend_across_documents:
            return Batch(read, targets)
        places = starts[:, None] + np.arange(self.context_length + 1)
        number = torch.from_numpy(np.searchsorted(self.tokens.offsets, places, side="right"))
        number -= number[:, :1].clone()
        targets[number[:, 1:] != number[:, :-1]] = IGNORE
        return Batch(read, targets, number[:, :-1].contiguous())


class DocumentBatches(_Batches):
    """One document a row, cut after `context_length` inputs or padded to them, as the memory study made its rows.

    A row holds the document's tokens and its end token, at most context_length + 1 of them. Padding is the end token as
    input (the study's choice) and IGNORE as target. The document's real end token is a target, so the model learns to
    stop. The study masked that token together with its padding, because both have the same id.
    """

    def __init__(self, tokens: TokenFile, batch_size: int, context_length: int, seed: int | None = None):
        super().__init__(tokens, batch_size, context_length, seed)
        self.n_rows = tokens.n_documents
        self._check_rows("documents")

    @property
    def description(self) -> str:
        """One sentence: how rows are made, and whether they attend across documents."""
        return (
            f"One document a row, cut or padded to {self.context_length} tokens; padding is masked out of the loss and "
            "no token attends across documents."
        )

    def _batch(self, rows: np.ndarray) -> Batch:
        shape = (len(rows), self.context_length)
        inputs, targets = np.full(shape, self.tokens.end_of_document), np.full(shape, IGNORE)
        for row, document in enumerate(rows):
            start, end = self.tokens.offsets[document : document + 2]
            ids = self.tokens.ids[start : min(end, start + self.context_length + 1)]
            inputs[row, : len(ids) - 1], targets[row, : len(ids) - 1] = ids[:-1], ids[1:]
        return Batch(torch.from_numpy(inputs), torch.from_numpy(targets))
