"""The cache of fetched corpora: one Parquet file for each split, and a manifest that describes them.

    STLM_CACHE/corpora/<name>-<revision>-<documents or all>/
        train.parquet, validation.parquet, test.parquet    name, and the text or the record of each document
        manifest.json    repository, revision, columns; of each split documents, bytes, SHA-256, source and time

A split is written under another name, renamed, and then entered into the manifest. So the files of a killed download
are never taken for a split, and the next download continues with the missing splits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from stlm_kit.data.documents import Document
from stlm_kit.data.fields import parquet_documents
from stlm_kit.data.hub_corpora import CORPORA, HubCorpus
from stlm_kit.errors import KitError
from stlm_kit.paths import atomic_write, cache_dir, file_sha256, part_of


def kept_folder(name: str, wanted: int | None) -> Path:
    """The folder for the first `wanted` documents of each split (None: all)."""
    return cache_dir() / "corpora" / f"{_stem(name)}{wanted or 'all'}"


def _stem(name: str) -> str:
    return f"{name}-{CORPORA[name].revision.replace('/', '-')}-"


def split_files(name: str, folder: Path) -> dict[str, Path]:
    """The file of each split in a folder."""
    return {split: folder / f"{split}.parquet" for split in CORPORA[name].files}


def find_kept(name: str, wanted: int | None) -> Path | None:
    """A folder with the first `wanted` documents: one of exactly that size, or one that holds more.

    None without one.
    """
    own = kept_folder(name, wanted)
    candidates = {own: wanted or 0}
    for folder in own.parent.glob(f"{_stem(name)}*"):
        ending = folder.name.removeprefix(_stem(name))
        if ending == "all" or (wanted and ending.isdecimal() and int(ending) >= wanted):
            candidates.setdefault(folder, int(ending) if ending.isdecimal() else 10**15)
    whole = [folder for folder in candidates if all(file.is_file() for file in split_files(name, folder).values())]
    return min(whole, key=candidates.get, default=None)


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, or {} where there is none that can be read."""
    try:
        content = json.loads((folder / "manifest.json").read_text("utf-8"))
        return content if isinstance(content["splits"], dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def damage(name: str, folder: Path, hashes: bool = True) -> dict[str, str]:
    """{split: what is wrong with its file}, by comparison with the manifest. A split that is not in it is not checked.

    hashes=False compares only the sizes, which is quick.
    """
    found = {}
    known = manifest_of(folder).get("splits", {})
    for split, path in split_files(name, folder).items():
        entry = known.get(split)
        if entry is None or not path.is_file():
            continue
        if (size := path.stat().st_size) != entry["file_bytes"]:
            found[split] = f"{path.name} has {size:,} bytes and not {entry['file_bytes']:,}"
        elif hashes and file_sha256(path) != entry["sha256"]:
            found[split] = f"{path.name} has another SHA-256 than when it was fetched"
    return found


def enter(name: str, folder: Path, split: str, source: str) -> None:
    """Enter a split's file into the manifest of its folder."""
    entry = CORPORA[name]
    path = split_files(name, folder)[split]
    documents = size = 0
    for _, text in kept_documents(entry, path):
        documents += 1
        size += len(text.encode())
    known = manifest_of(folder) or {
        "corpus": name,
        "repository": entry.repo,
        "revision": entry.revision,
        "columns": entry.columns,
        "licence": entry.licence,
        "splits": {},
    }
    known["splits"][split] = {
        "documents": documents,
        "text_bytes": size,
        "file_bytes": path.stat().st_size,
        "sha256": file_sha256(path),
        "from": source,
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    atomic_write(folder / "manifest.json", json.dumps(known, indent=1, ensure_ascii=False) + "\n")


def kept_documents(entry: HubCorpus, path: Path) -> Iterator[Document]:
    """The documents of a cached file. A document made of several fields is named by its article, if it has one."""
    if entry.records is None:
        yield from parquet_documents(path)
        return
    for name, record in kept_records(entry, path):
        yield name, entry.records.text(record)


def kept_records(entry: HubCorpus, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, record) of each document of a cached file."""
    for number, (name, text) in enumerate(parquet_documents(path, "record"), start=1):
        record = json.loads(text)
        yield (f"{record[entry.records.article]}#{number}" if entry.records.article else name), record


def keep(documents: Iterable[tuple[str, str]], path: Path, payload: str = "text") -> None:
    """Write documents as Parquet under a temporary name, then rename it, so that a killed download is not kept.

    payload: the name of the second column, "text" or "record". Raises KitError where the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = part_of(path)
    schema = pa.schema([("name", pa.string()), (payload, pa.string())])
    source = iter(documents)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(part, schema) as writer:
            while chunk := list(islice(source, 1000)):
                writer.write_batch(
                    pa.record_batch([list(column) for column in zip(*chunk, strict=True)], schema=schema)
                )
        part.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise KitError(
            f"Could not keep {path} ({reason}); free some space or set STLM_CACHE to another folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)
