"""Where the rows of a corpus come from: the hub, Speakleash's server, or a local folder with the same layout.

Only Parquet and JSON-lines files are read, with the library's own readers. Loading scripts never run; datasets 4 and
later refuse them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

from stlm_kit.data.fields import check_unicode, jsonl_documents, jsonl_text
from stlm_kit.data.hub_corpora import HubCorpus
from stlm_kit.errors import KitError
from stlm_kit.paths import cache_dir


@dataclass(frozen=True)
class Source:
    """One kind of source.

    read: (corpus, pattern of its files, split) to the texts or records of its documents. ask: asks the server and
    returns the state of the corpus as a phrase; any exception means no answer. server: the server's name in messages.
    """

    read: Callable[[HubCorpus, str, str], Iterator[str]]
    ask: Callable[[HubCorpus], str]
    server: str = "the Hugging Face hub"


def place_of(entry: HubCorpus) -> str:
    """The address of a corpus's files on the hub, or "" for a corpus that its own package fetches."""
    return "" if entry.kind == "speakleash" else f"hf://datasets/{entry.repo}@{quote(entry.revision, safe='')}"


def rows(entry: HubCorpus, place: str, split: str, wanted: int | None) -> Iterator[tuple[str, str]]:
    """(name, text or record) of the first `wanted` documents of a split, streamed from the server or a local folder.

    Raises KitError for files that are not of the pinned layout or cannot be read.
    """
    pattern = f"{place}/{entry.files[split]}" if place else archive_of(entry)
    try:
        texts = SOURCES[entry.kind].read(entry, pattern, split)
        for number, text in enumerate(islice((text for text in texts if text.strip()), wanted), start=1):
            yield f"{split}#{number}", check_unicode(text, f"Document {number} of {pattern}")
    except KeyError as error:
        raise KitError(f"The files {pattern} have no field {error}; they are not of the pinned layout.") from error
    except KitError:
        raise
    except Exception as error:  # the libraries raise many types for a missing or damaged file
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
    """JSON lines, read as plain lines.

    The library's JSON reader needs one schema for all files, and RedPajama's files differ in their metadata.
    """
    from datasets import load_dataset

    stream = load_dataset("text", data_files={split: pattern}, split=split, streaming=True)
    return entry.group(jsonl_text(row["text"], entry.text_field, f"A line of {pattern}") for row in stream)


def _speakleash(entry: HubCorpus, pattern: str, split: str) -> Iterator[str]:
    """A Speakleash archive: from a folder, or through Speakleash's package, which downloads it next to the cache."""
    if (archive := Path(pattern)).is_absolute():
        return (text for _, text in jsonl_documents(archive, entry.text_field))
    return speakleash_texts(archive_of(entry))


def check_reachable(entry: HubCorpus, name: str) -> str:
    """Ask the server one short question before streaming, because streaming retries for minutes without a network.

    Returns the state of the revision there as a phrase, such as the commit of a branch. KitError without an answer.
    """
    source = SOURCES[entry.kind]
    try:
        return source.ask(entry)
    except KitError:
        raise
    except Exception as error:  # no network, no such repository, offline mode: the remedy is the same
        raise KitError(
            f"The corpus {name!r} lies on {source.server}, which did not answer for {entry.repo} ({_reason(error)}); "
            f"run `stlm data get {name}` where there is a network, or give a path to a copy of it."
        ) from None


def _ask_hub(entry: HubCorpus) -> str:
    from huggingface_hub import HfApi

    found = HfApi().dataset_info(entry.repo, revision=entry.revision, timeout=15)
    return f"the hub, commit {found.sha}"


def _ask_speakleash(entry: HubCorpus) -> str:
    _need_speakleash(archive_of(entry))
    from speakleash.config_loader import ConfigLoader

    urlopen(f"{ConfigLoader.load_config()['url_datasets_text_pl']}{archive_of(entry)}.manifest", timeout=15).close()
    return "Speakleash's server"


SOURCES = {
    "parquet": Source(_parquet, _ask_hub),
    "json": Source(_json, _ask_hub),
    "speakleash": Source(_speakleash, _ask_speakleash, "Speakleash's server"),
}


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def archive_of(entry: HubCorpus) -> str:
    """The name of a corpus on Speakleash's server."""
    return entry.repo.partition("/")[2]


def _need_speakleash(corpus: str) -> Any:
    """The class Speakleash. KitError where its package is not installed."""
    try:
        from speakleash import Speakleash
    except ImportError:
        raise KitError(
            f"Speakleash's corpus {corpus} comes through the package speakleash; install it (pip install speakleash)."
        ) from None
    return Speakleash


def speakleash_texts(corpus: str) -> Iterator[str]:
    """The documents of a Speakleash corpus, through Speakleash's package.

    KitError where its server does not give it.
    """
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
