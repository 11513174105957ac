"""Corpora of the Hugging Face hub (and Speakleash's): fetched once, kept in the cache, read from there.

Only Parquet and JSON-lines files are read, with the library's own readers; loading scripts never run (datasets 4 and
later refuse them). Hub access could not be tried where the kit was written: what is tested is this same code on small
local folders of the same layout and schema.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stlm_kit.data.documents import Document
from stlm_kit.data.fields import check_unicode, jsonl_documents, jsonl_text
from stlm_kit.data.hub_cache import (
    damage,
    enter,
    find_kept,
    keep,
    kept_documents,
    kept_folder,
    kept_records,
    manifest_of,
    split_files,
)
from stlm_kit.data.hub_corpora import CORPORA, HUB, SPEAKLEASH, HubCorpus
from stlm_kit.data.splits import hold_out_articles
from stlm_kit.errors import KitError
from stlm_kit.locks import lock
from stlm_kit.paths import cache_dir

NAMES = tuple(CORPORA)
MIB = 2**20


def describe() -> dict[str, str]:
    """{name: where it lies, its licence, and that it is fetched when asked for} of every corpus in the tables."""
    found = {name: f"{entry.repo} on the Hugging Face hub ({entry.licence})" for name, entry in HUB.items()}
    found |= {
        name: f"Speakleash's {_archive(entry)}, through the package speakleash" for name, entry in SPEAKLEASH.items()
    }
    return {name: f"{where}; fetched only when asked for by name" for name, where in found.items()}


def load_documents(name: str, max_documents: int | None = None) -> tuple[dict[str, list[Document]], str]:
    """(split -> documents, one phrase on their origin) of a corpus in the table.

    It comes from the cache, or, the first time, from its server, and is then kept in the cache, so that a computing
    node without network finds it. Raises KitError when the hub does not answer or what it gives cannot be read.
    """
    entry = CORPORA[name]
    wanted = max_documents or entry.first
    folder = find_kept(name, wanted) or fetch(name, max_documents)
    origin = f"{entry.repo} at {entry.revision} ({entry.licence})"
    origin += f", the first {wanted:,} documents" if wanted else ""
    files = split_files(name, folder)
    return {split: list(islice(kept_documents(entry, path), wanted)) for split, path in files.items()}, origin


def load_records(name: str, max_documents: int | None = None, split_seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """The records that a corpus's documents are made of, under the splits of `load_corpus`: a prompt and its answer,
    say, each by its own field. Raises KitError for a corpus whose documents are plain text.
    """
    entry = CORPORA[name]
    if entry.records is None:
        raise KitError(f"The documents of {name} are plain text without fields; load it with load_corpus({name!r}).")
    wanted = max_documents or entry.first
    files = split_files(name, find_kept(name, wanted) or fetch(name, max_documents))
    found = {split: list(islice(kept_records(entry, path), wanted)) for split, path in files.items()}
    if entry.records.article and "validation" not in found:
        found = hold_out_articles(found, split_seed, name)
    return {split: [record for _, record in rows] for split, rows in found.items()}


def fetch(name: str, max_documents: int | None = None, base: str | Path | None = None, verify: bool = False) -> Path:
    """Fetch a corpus into the cache, as far as it is not there, and give its folder.

    `base`: a local folder laid out as the repository is, read in place of the hub. Splits that are kept already stay;
    with `verify` one whose hash is not that of its manifest is fetched again. Raises KitError where the hub does not
    answer, the disk is short, or what is read is not of the pinned layout.
    """
    wanted = max_documents or CORPORA[name].first
    folder = kept_folder(name, wanted)
    if base is not None:
        base = Path(base).expanduser().absolute()
        if not base.is_dir():
            raise KitError(f"There is no folder {base}; give one that is laid out as the repository of {name} is.")
    absent = _absent(name, folder, verify)
    if not absent and not _unentered(name, folder):
        return folder
    if absent and base is None:
        check_reachable(CORPORA[name], name)
    if absent:
        need_room(name, wanted, base)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder.with_name(f"{folder.name}.lock")):
            _fetch_locked(name, wanted, base, verify)
    except OSError as error:
        raise KitError(
            f"Could not keep {name} in {folder} ({error.strerror or error}); free some space or set STLM_CACHE to "
            "another folder."
        ) from error
    return folder


def _fetch_locked(name: str, wanted: int | None, base: Path | None, verify: bool) -> None:
    entry, folder = CORPORA[name], kept_folder(name, wanted)
    for left_over in folder.glob("*.part-*"):  # of a process that was killed: we hold its lock
        left_over.unlink(missing_ok=True)
    for split, path in split_files(name, folder).items():
        if path.is_file() and split in _unentered(name, folder):
            try:
                enter(name, folder, split, "fetched before there was a manifest")
            except KitError:  # not to be read: it is fetched again
                path.unlink()
    for split, path in _absent(name, folder, verify).items():
        path.unlink(missing_ok=True)
        keep(rows(entry, _place(entry, base), split, wanted), path, entry.payload)
        enter(name, folder, split, "its server" if base is None else str(base))


def _absent(name: str, folder: Path, verify: bool) -> dict[str, Path]:
    """The files to fetch: those that are not there, and those that are damaged."""
    wrong = damage(name, folder, hashes=verify)
    return {split: path for split, path in split_files(name, folder).items() if split in wrong or not path.is_file()}


def _unentered(name: str, folder: Path) -> list[str]:
    return [split for split in split_files(name, folder) if split not in manifest_of(folder).get("splits", {})]


def need_room(name: str, wanted: int | None, base: Path | None) -> None:
    """KitError where a corpus is known to be larger than what the cache's disk has free."""
    need, free = expected_bytes(name, wanted, base), free_bytes()
    if need is not None and need > free:
        raise KitError(
            f"The corpus {name} takes about {need / MIB:,.0f} MiB and {cache_dir()} has {free / MIB:,.0f} MiB free; "
            "free some space, set STLM_CACHE to another disk, or take fewer with --max-documents."
        )


def expected_bytes(name: str, wanted: int | None, base: Path | None = None) -> int | None:
    """About how many bytes a corpus takes, at most; None where nobody knows beforehand."""
    entry = CORPORA[name]
    known = entry.expected_bytes(wanted)
    if base is None:
        return known
    sizes = [path.stat().st_size for pattern in entry.files.values() for path in base.glob(pattern)]
    return sum(sizes) if known is None or wanted is None else min(sum(sizes), known)


def free_bytes() -> int:
    """Bytes free on the disk that holds the cache."""
    folder = cache_dir().absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _place(entry: HubCorpus, base: Path | None) -> str:
    if base is not None:
        return str(base)
    return "" if entry.kind == "speakleash" else f"hf://datasets/{entry.repo}@{quote(entry.revision, safe='')}"


def rows(entry: HubCorpus, place: str, split: str, wanted: int | None) -> Iterator[tuple[str, str]]:
    """(name, text or record) of the first `wanted` documents of a split, streamed from its server or a local folder."""
    pattern = f"{place}/{entry.files[split]}" if place else _archive(entry)
    try:
        texts = READERS[entry.kind](entry, pattern, split)
        for number, text in enumerate(islice((text for text in texts if text.strip()), wanted), start=1):
            yield f"{split}#{number}", check_unicode(text, f"Document {number} of {pattern}")
    except KeyError as error:
        raise KitError(f"The files {pattern} have no field {error}; they are not of the pinned layout.") from error
    except KitError:
        raise
    except Exception as error:  # the libraries below raise a dozen types for a file that is missing or damaged
        raise KitError(
            f"Could not read {pattern} ({_reason(error)}); check the network, or that the files are complete."
        ) from error


def _parquet(entry: HubCorpus, pattern: str, split: str) -> Iterator[str]:
    from datasets import load_dataset

    stream = load_dataset("parquet", data_files={split: pattern}, split=split, streaming=True)
    if entry.records is None:
        return entry.group(row[entry.text_field] for row in stream)
    read = ({column: row[column] for column in entry.columns} for row in stream)
    records = (record for record in entry.records.of(read) if entry.records.text(record).strip())
    return (json.dumps(record, ensure_ascii=False) for record in records)


def _json(entry: HubCorpus, pattern: str, split: str) -> Iterator[str]:
    """JSON lines, read as plain lines: the library's own JSON reader wants one schema in all files, and RedPajama's
    differ in their metadata."""
    from datasets import load_dataset

    stream = load_dataset("text", data_files={split: pattern}, split=split, streaming=True)
    return entry.group(jsonl_text(row["text"], entry.text_field, f"A line of {pattern}") for row in stream)


def _speakleash(entry: HubCorpus, pattern: str, split: str) -> Iterator[str]:
    """An archive of Speakleash: from a folder, or through its own package, which downloads it beside the cache."""
    if (archive := Path(pattern)).is_absolute():
        return (text for _, text in jsonl_documents(archive, entry.text_field))
    return speakleash_texts(_archive(entry))


READERS: dict[str, Callable[[HubCorpus, str, str], Iterator[str]]] = {
    "parquet": _parquet,
    "json": _json,
    "speakleash": _speakleash,
}


def check_reachable(entry: HubCorpus, name: str) -> None:
    """One short question to the hub before streaming, whose own retries would take minutes without a network."""
    if entry.kind == "speakleash":
        return _need_speakleash(_archive(entry))
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(entry.repo, revision=entry.revision, timeout=15)
    except Exception as error:  # no network, no such repository, offline mode: the reader's answer is the same
        raise KitError(
            f"The corpus {name!r} lies on the Hugging Face hub, which did not answer for {entry.repo} "
            f"({_reason(error)}); run `stlm data get {name}` where there is a network, or give a path to a copy of it."
        ) from None


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _archive(entry: HubCorpus) -> str:
    """The name of a corpus on Speakleash's server."""
    return entry.repo.partition("/")[2]


def _need_speakleash(corpus: str) -> Any:
    """Speakleash's class. KitError where its package is not installed."""
    try:
        from speakleash import Speakleash
    except ImportError:
        raise KitError(
            f"Speakleash's corpus {corpus} comes through the package speakleash; install it (pip install speakleash)."
        ) from None
    return Speakleash


def speakleash_texts(corpus: str) -> Iterator[str]:
    """The documents of a corpus of Speakleash through its own package. KitError where its server does not give it."""
    server = _need_speakleash(corpus)
    folder = cache_dir() / "speakleash"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = server(str(folder)).get(corpus)
        texts = found.data if found is not None else None
    except Exception as error:
        raise KitError(
            f"Speakleash did not answer for {corpus} ({error}); try again where there is a network."
        ) from error
    if texts is None:
        raise KitError(f"Speakleash did not offer {corpus}; try again where there is a network.")
    return texts
