"""The split of documents into train, validation and test, for a corpus without its own."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from stlm_kit.data.documents import Document
from stlm_kit.data.layout import SPLITS
from stlm_kit.errors import KitError

T = TypeVar("T", bound=tuple[str, Any])

SHARES = (0.85, 0.10, 0.05)  # shares of the documents, as in the memory study
FEWEST_DOCUMENTS = 20  # with fewer, 5 % is less than one document


def draw_split(n_documents: int, split_seed: int) -> dict[str, np.ndarray]:
    """The documents of each split, as indices in the corpus's order. Each document is in exactly one split."""
    order = np.random.default_rng(split_seed).permutation(n_documents)
    n_validation, n_test = (max(1, round(share * n_documents)) for share in SHARES[1:])
    parts = np.split(order, [n_documents - n_validation - n_test, n_documents - n_test])
    return {split: np.sort(part) for split, part in zip(SPLITS, parts, strict=True)}


def hold_out_articles(splits: dict[str, list[T]], split_seed: int, name: str) -> dict[str, list[T]]:
    """The splits with a validation part: a tenth of train's articles (at least one), drawn whole with `split_seed`.

    A row begins with its name, "ARTICLE#number". KitError where train has only one article.
    """
    of = [row[0].rpartition("#")[0] for row in splits["train"]]
    articles = list(dict.fromkeys(of))
    if len(articles) < 2:
        raise KitError(f"The train part of {name} is of one article, so none is left to validate on; take more of it.")
    drawn = np.random.default_rng(split_seed).permutation(len(articles))[: max(1, round(SHARES[1] * len(articles)))]
    held_out = {articles[i] for i in drawn}
    parts: dict[str, list[T]] = {"train": [], "validation": []}
    for article, row in zip(of, splits["train"], strict=True):
        parts["validation" if article in held_out else "train"].append(row)
    return splits | parts


def contiguous_blocks(rows: list[Document], name: str) -> dict[str, list[Document]]:
    """The documents in order, cut into blocks of 85/10/5 % of the characters. A cut is at the end of a line or word.

    Raises KitError for a text that is too short for three blocks.
    """
    total = sum(len(text) for _, text in rows)
    if total < 100:
        raise KitError(f"The corpus {name} has only {total} characters, too few to split in three; give at least 100.")
    blocks: dict[str, list[Document]] = {split: [] for split in SPLITS}
    edges = [round(SHARES[0] * total), round((SHARES[0] + SHARES[1]) * total), total]
    start = 0
    for document, text in rows:
        begin = 0
        for split, edge in zip(SPLITS, edges, strict=True):
            if begin < len(text) and start + begin < edge:
                end = _near_break(text, begin, edge - start) if start + len(text) > edge else len(text)
                if text[begin:end].strip():
                    blocks[split].append((document, text[begin:end]))
                begin = end
        start += len(text)
    empty = [split for split in SPLITS if not blocks[split]]
    if empty:
        raise KitError(f"The corpus {name} has too little text for its {empty[0]} part; give more text.")
    return blocks


def _near_break(text: str, begin: int, edge: int) -> int:
    """A cut at `edge` or up to 200 characters before it: after a newline, else after a space, else at `edge` itself."""
    for mark in ("\n", " "):
        found = text.rfind(mark, max(begin, edge - 200), edge)
        if found >= 0:
            return found + 1
    return edge
