"""Corpora as a `datasets.DatasetDict` of documents, from a shipped package, a hub name or a path, split by document."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stlm_kit.data import hub
from stlm_kit.data.documents import Document, read_text
from stlm_kit.data.layout import SPLITS
from stlm_kit.data.open_file import shown
from stlm_kit.data.reading import Record, read_path
from stlm_kit.data.shipped import SHIPPED, package_folder, play_text
from stlm_kit.data.splits import FEWEST_DOCUMENTS, SHARES, contiguous_blocks, draw_split, hold_out_articles
from stlm_kit.errors import KitError, UsageError, near

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

__all__ = [  # including names that other modules import from here
    "FEWEST_DOCUMENTS",
    "SHARES",
    "SHIPPED",
    "SPLITS",
    "contiguous_blocks",
    "corpus_names",
    "describe",
    "draw_split",
    "load_corpus",
    "package_folder",
    "play_text",
    "read_record",
    "read_text",
    "split_documents",
]


def corpus_names() -> list[str]:
    """The name of every corpus: first those that packages ship, then those of the hub."""
    return [*SHIPPED, *hub.NAMES]


def describe() -> dict[str, str]:
    """{name: one phrase on what it is and where it comes from} for every named corpus."""
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

    name_or_path: one of three kinds. A name wins over a file of the same name; write ./sotu for the file.
    - A shipped corpus: sotu, shakespeare or polish.
    - A hub corpus (see `corpus_names()`). It is fetched only because you ask for it.
    - A path of a file or a folder of files. A .txt is divided at `separator`; without one, at lines of <|endoftext|>,
      into WikiText's articles, or at blank lines. A .jsonl, .json or .parquet file gives the `text_field` of each row,
      with dots for nested fields. Each may be compressed (.gz, .bz2, .xz, .zst). A text file in a folder is a document.

    A folder with its own split, by the names of files, shards or folders, keeps it. Hidden files, backups and READMEs
    are not read.

    Otherwise the split is 85/10/5 by document, drawn with `split_seed`. With fewer than 20 documents the text is cut in
    order into three contiguous blocks. Each split's `.info.description` says where the corpus comes from, how it was
    split, what was read and what was not; `read_record` gives the same as data.

    max_documents keeps the first N documents, of each split where the corpus has its own.

    Raises UsageError for an unknown name or a wrong option, KitError for a file that cannot be read as documents and
    for a split that is ambiguous or lacks a part.
    """
    if max_documents is not None and max_documents < 1:
        raise UsageError(f"max_documents = {max_documents} leaves no document; give at least 1.")
    if isinstance(split_seed, bool) or not isinstance(split_seed, int) or split_seed < 0:
        raise UsageError(f"split_seed = {split_seed!r} will not do; give a whole number of 0 or more.")
    if not isinstance(text_field, str) or not text_field:
        raise UsageError(f"text_field = {text_field!r} will not do; give the name of the field that holds the text.")
    name, path = str(name_or_path), Path(name_or_path).expanduser()
    if not name.strip():
        raise UsageError(f"The name of a corpus is empty; give a path or one of {', '.join(corpus_names())}.")
    if name in SHIPPED or name in hub.NAMES:
        _check_unused(name, separator=(separator, None), text_field=(text_field, "text"))
    if name in SHIPPED:
        read, origin = SHIPPED[name]
        return split_documents(islice(read(), max_documents), split_seed, origin, name)
    if name in hub.NAMES:
        splits, origin = hub.load_documents(name, max_documents)
        if "test" not in splits:
            return split_documents(splits["train"], split_seed, origin, name)
        if "validation" in splits:
            return _given_split(splits, origin, name)
        how = (
            f"Its own test part; a tenth of the other articles, drawn with split_seed {split_seed}, is for validation."
        )
        return _given_split(hold_out_articles(splits, split_seed, name), origin, name, how=how)
    kind = _kind(path)
    if kind is None:
        if isinstance(name_or_path, Path) or path.suffix or len(path.parts) > 1:
            raise KitError(f"There is no file or folder {shown(name)}; check the path.")
        raise UsageError(
            f"There is no corpus or path {name!r}.{near(name, corpus_names())} Corpora: {', '.join(corpus_names())}."
        )
    if kind == "other":
        raise KitError(
            f"{shown(name)} is neither a file nor a folder; give a .txt, .jsonl or .parquet file, or a folder."
        )
    splits, record = read_path(path, separator, text_field, max_documents)
    if "all" in splits:
        return split_documents(splits["all"], split_seed, shown(name), shown(name), record)
    return _given_split(splits, shown(name), shown(name), record)


def read_record(corpus: Any) -> dict:
    """What `load_corpus` read: the origin and the split, each as a phrase. Empty for other objects.

    For a path also `n_files`, `file_bytes` (bytes on disk), `files`, `n_not_read`, `not_read` and `notes`.
    """
    return getattr(corpus, "read_record", {})


def _check_unused(name: str, **options: tuple[Any, Any]) -> None:
    """Raise UsageError for an option about reading files that has no effect here. options: (given, default) by name."""
    for option, (given, default) in options.items():
        if given != default:
            raise UsageError(f"The corpus {name} brings its own documents, so {option} has no use; leave it out.")


def _kind(path: Path) -> str | None:
    """ "file", "folder" or "other". None where nothing exists under that path, or the system refuses the name."""
    try:
        return "file" if path.is_file() else "folder" if path.is_dir() else "other" if path.exists() else None
    except OSError:
        return None


def split_documents(
    documents: Iterable[Document], split_seed: int, origin: str, name: str, record: Record | None = None
) -> DatasetDict:
    """Split documents 85/10/5 by document with `split_seed`. Fewer than 20 are cut into three contiguous blocks.

    Raises KitError for a corpus without documents.
    """
    rows = list(documents)
    if not rows:
        raise KitError(f"The corpus {name} holds no documents; give one with text.")
    if len(rows) < FEWEST_DOCUMENTS:
        blocks = contiguous_blocks(rows, name)
        how = (
            f"With only {len(rows)} document{'s' if len(rows) > 1 else ''} the text was cut, in order, into three "
            "contiguous blocks of 85/10/5 % of its characters, not split by document."
        )
        return _dataset_dict({split: _dataset(blocks[split]) for split in SPLITS}, origin, how, record)
    whole = _dataset(rows)
    how = f"Split 85/10/5 by document with split_seed {split_seed}."
    parts = {s: whole.select(which) for s, which in draw_split(len(rows), split_seed).items()}
    return _dataset_dict(parts, origin, how, record)


def _given_split(
    splits: dict[str, list[Document]],
    origin: str,
    name: str,
    record: Record | None = None,
    how: str = "Split as the corpus brings it.",
) -> DatasetDict:
    empty = [split for split in SPLITS if not splits[split]]
    if empty:
        raise KitError(f"The {empty[0]} part of the corpus {name} holds no documents; give one with text.")
    parts = {split: _dataset(splits[split]) for split in SPLITS}
    return _dataset_dict(parts, origin, how, record)


def _dataset(rows: list[Document]) -> Dataset:
    """Rows as an in-memory Dataset. They are stored in chunks, because one Arrow string array holds at most 2 GiB."""
    import pyarrow as pa
    from datasets import Dataset

    schema = pa.schema([("name", pa.string()), ("text", pa.string())])
    chunks = [rows[i : i + 1000] for i in range(0, len(rows), 1000)]
    batches = [pa.record_batch([[n for n, _ in chunk], [t for _, t in chunk]], schema=schema) for chunk in chunks]
    return Dataset(pa.Table.from_batches(batches, schema=schema))


def _dataset_dict(splits: dict[str, Dataset], origin: str, how: str, record: Record | None) -> DatasetDict:
    from datasets import DatasetDict

    said = " ".join(filter(None, [f"{origin}. {how}", record.sentence() if record else ""]))
    for split, dataset in splits.items():
        dataset.info.description = f"{said} This is the {split} split, {len(dataset)} documents."
    corpus = DatasetDict(splits)
    corpus.read_record = {"corpus": origin, "split": how, **(record.to_dict() if record else {}), "sentence": said}
    return corpus
