"""Corpora of the Hugging Face hub and of Speakleash: fetched once, kept in the cache, read from there.

The hub could not be reached while the kit was written. The tests run this code on small local folders with the same
layout and schema, and on a local server that answers as the hub does.
"""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

from stlm_kit.data.documents import Document
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
from stlm_kit.data.hub_sources import archive_of, check_reachable, place_of, rows
from stlm_kit.data.splits import hold_out_articles
from stlm_kit.errors import KitError
from stlm_kit.locks import lock
from stlm_kit.paths import cache_dir

NAMES = tuple(CORPORA)
MIB = 2**20


def describe() -> dict[str, str]:
    """{name: where it is, its licence, and that it is fetched on request} for every corpus in the tables."""
    found = {name: f"{entry.repo} on the Hugging Face hub ({entry.licence})" for name, entry in HUB.items()}
    found |= {
        name: f"Speakleash's {archive_of(entry)}, through the package speakleash" for name, entry in SPEAKLEASH.items()
    }
    return {name: f"{where}; fetched only when asked for by name" for name, where in found.items()}


def load_documents(name: str, max_documents: int | None = None) -> tuple[dict[str, list[Document]], str]:
    """(split -> documents, one phrase on their origin) for a corpus in the tables.

    The first call fetches the corpus from its server and keeps it in the cache. Later calls read the cache, so a
    compute node without network works. Raises KitError where the hub does not answer or its files cannot be read.
    """
    entry, wanted, files = _kept(name, max_documents)
    origin = f"{entry.repo} at {entry.revision} ({entry.licence})"
    origin += f", the first {wanted:,} documents" if wanted else ""
    return {split: list(islice(kept_documents(entry, path), wanted)) for split, path in files.items()}, origin


def load_records(name: str, max_documents: int | None = None, split_seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """The records behind a corpus's documents, under the splits of `load_corpus`. A record holds, for example, a prompt
    and its answer as separate fields.

    Raises KitError for a corpus whose documents are plain text.
    """
    if CORPORA[name].records is None:
        raise KitError(f"The documents of {name} are plain text without fields; load it with load_corpus({name!r}).")
    entry, wanted, files = _kept(name, max_documents)
    found = {split: list(islice(kept_records(entry, path), wanted)) for split, path in files.items()}
    if entry.records.article and "validation" not in found:
        found = hold_out_articles(found, split_seed, name)
    return {split: [record for _, record in rows] for split, rows in found.items()}


def _kept(name: str, max_documents: int | None) -> tuple[HubCorpus, int | None, dict[str, Path]]:
    """A corpus, the wanted number of documents of each split, and the cache files that hold them."""
    entry = CORPORA[name]
    wanted = max_documents or entry.first
    return entry, wanted, split_files(name, find_kept(name, wanted) or fetch(name, max_documents))


def fetch(name: str, max_documents: int | None = None, base: str | Path | None = None, verify: bool = False) -> Path:
    """Fetch the missing parts of a corpus into the cache and return its folder.

    base: a local folder with the layout of the repository, read instead of the hub. Splits that are in the cache are
    kept. verify: fetch a split again whose hash differs from its manifest. Raises KitError where the hub does not
    answer, the disk is too small, or the files do not have the pinned layout.
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
    source = str(base) if base is not None else check_reachable(CORPORA[name], name) if absent else ""
    if absent:
        need_room(name, wanted, base)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder.with_name(f"{folder.name}.lock")):
            _fetch_locked(name, wanted, base, verify, source)
    except OSError as error:
        raise KitError(
            f"Could not keep {name} in {folder} ({error.strerror or error}); free some space or set STLM_CACHE to "
            "another folder."
        ) from error
    return folder


def _fetch_locked(name: str, wanted: int | None, base: Path | None, verify: bool, source: str) -> None:
    entry, folder = CORPORA[name], kept_folder(name, wanted)
    for left_over in folder.glob("*.part-*"):  # from a process that was killed; we hold its lock
        left_over.unlink(missing_ok=True)
    for split, path in split_files(name, folder).items():
        if path.is_file() and split in _unentered(name, folder):
            try:
                enter(name, folder, split, "fetched before there was a manifest")
            except KitError:  # unreadable, so it is fetched again
                path.unlink()
    for split, path in _absent(name, folder, verify).items():
        path.unlink(missing_ok=True)
        keep(rows(entry, place_of(entry) if base is None else str(base), split, wanted), path, entry.payload)
        enter(name, folder, split, source)


def _absent(name: str, folder: Path, verify: bool) -> dict[str, Path]:
    """The files to fetch: those that are missing and those that are damaged."""
    wrong = damage(name, folder, hashes=verify)
    return {split: path for split, path in split_files(name, folder).items() if split in wrong or not path.is_file()}


def _unentered(name: str, folder: Path) -> list[str]:
    return [split for split in split_files(name, folder) if split not in manifest_of(folder).get("splits", {})]


def need_room(name: str, wanted: int | None, base: Path | None) -> None:
    """Raise KitError where a corpus is known to be larger than the free space on the cache's disk."""
    need, free = expected_bytes(name, wanted, base), free_bytes()
    if need is not None and need > free:
        raise KitError(
            f"The corpus {name} takes about {need / MIB:,.1f} MiB and {cache_dir()} has {free / MIB:,.1f} MiB free; "
            "free some space, set STLM_CACHE to another disk, or take fewer with --max-documents."
        )


def expected_bytes(name: str, wanted: int | None, base: Path | None = None) -> int | None:
    """About how many bytes a corpus takes, or None where no size is known in advance."""
    entry = CORPORA[name]
    known = entry.expected_bytes(wanted)
    if base is None:
        return known
    sizes = [path.stat().st_size for pattern in entry.files.values() for path in base.glob(pattern)]
    return sum(sizes) if known is None or wanted is None else min(sum(sizes), known)


def free_bytes() -> int:
    """Free bytes on the disk that holds the cache."""
    folder = cache_dir().absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
