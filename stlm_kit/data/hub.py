"""Corpora of the Hugging Face hub (and Speakleash's): one pinned table, one function for hub and local folder.

Only Parquet and JSON-lines files are read, with the library's own readers; loading scripts never run (datasets 4 and
later refuse them). Hub access could not be tried where the kit was written: what is tested is this same code on small
local folders of the same layout and schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from stlm_kit.data.documents import Document
from stlm_kit.data.fields import check_unicode, jsonl_text, parquet_documents
from stlm_kit.data.wikitext import wikitext_articles
from stlm_kit.errors import KitError
from stlm_kit.locks import lock
from stlm_kit.paths import cache_dir, clear_parts, part_of

Splits = dict[str, list[Document]]


@dataclass(frozen=True)
class HubCorpus:
    """Where a hub corpus lies and how its rows become documents.

    `revision`: a commit, or the hub's branch of Parquet conversions, which has no other pin; `files`: split -> pattern
    below the repository; a corpus that brings only "train" is split here, 85/10/5; `first`: how many documents are
    streamed unless the caller says otherwise (None: all of them).
    """

    repo: str
    revision: str
    kind: Literal["parquet", "json"]
    files: dict[str, str]
    text_field: str
    licence: str
    first: int | None = None
    group: Callable[[Iterable[str]], Iterator[str]] = iter  # rows to documents


def _wikitext(config: str) -> HubCorpus:
    files = {split: f"{config}/{split}-*.parquet" for split in ("train", "validation", "test")}
    commit = "b08601e04326c79dfdd32d625aee71d232d685c3"
    return HubCorpus(
        "Salesforce/wikitext", commit, "parquet", files, "text", "CC BY-SA 3.0 and GFDL", group=wikitext_articles
    )


HUB: dict[str, HubCorpus] = {
    "wikitext-103": _wikitext("wikitext-103-raw-v1"),
    "wikitext-2": _wikitext("wikitext-2-raw-v1"),
    "penn-treebank": HubCorpus(  # one sentence a row, and a document each: the corpus marks no others
        "ptb-text-only/ptb_text_only",
        "refs/convert/parquet",
        "parquet",
        {split: f"penn_treebank/{split}/*.parquet" for split in ("train", "validation", "test")},
        "sentence",
        "Linguistic Data Consortium, for research only",
    ),
    "c4": HubCorpus(
        "allenai/c4",
        "1588ec454efa1a09f29cd18ddd04fe05fc8653a2",
        "json",
        {"train": "en/c4-train.*.json.gz"},
        "text",
        "ODC-BY and Common Crawl's terms",
        first=10_000,
    ),
    # The 1B-token sample (the full set lies outside the hub, behind a loading script), and of it the Common Crawl part,
    # RedPajama's largest: its files are one source each, so the first N of all would be arXiv papers only.
    "redpajama": HubCorpus(
        "togethercomputer/RedPajama-Data-1T-Sample",
        "98f93b765c118b999b1af570c3e399c207d08da7",
        "json",
        {"train": "cc_*_sample.jsonl"},
        "text",
        "Common Crawl's terms",
        first=10_000,
    ),
}
SPEAKLEASH = {"speakleash-forum": "forum_forum_poradnikogrodniczy_pl_corpus"}  # what the memory study trained on
NAMES = (*HUB, *SPEAKLEASH)


def describe() -> dict[str, str]:
    """{name: where it lies, its licence, and that it is fetched when asked for} of every corpus in the tables."""
    found = {name: f"{entry.repo} on the Hugging Face hub ({entry.licence})" for name, entry in HUB.items()}
    found |= {name: f"Speakleash's {corpus}, through the package speakleash" for name, corpus in SPEAKLEASH.items()}
    return {name: f"{where}; fetched only when asked for by name" for name, where in found.items()}


def load_documents(name: str, max_documents: int | None = None, base: str | Path | None = None) -> tuple[Splits, str]:
    """(split -> documents, one phrase on their origin) of a corpus in the table.

    `base`: a local folder laid out as the repository is; without it the corpus comes from the cache or, the first
    time, from the hub, and is then kept in the cache, so that a computing node without network finds it.
    Raises KitError when the hub does not answer or what it gives cannot be read.
    """
    if name in SPEAKLEASH:
        return speakleash_documents(SPEAKLEASH[name], max_documents)
    entry = HUB[name]
    wanted = max_documents or entry.first
    place = f"{base}" if base is not None else f"hf://datasets/{entry.repo}@{quote(entry.revision, safe='')}"
    origin = f"{entry.repo} at {entry.revision} ({entry.licence})"
    origin += f", the first {wanted:,} documents" if wanted else ""
    if base is not None:
        return {split: list(rows(entry, place, split, wanted)) for split in entry.files}, origin
    folder = cache_dir() / "corpora" / f"{name}-{entry.revision.replace('/', '-')}-{wanted or 'all'}"
    kept = {split: folder / f"{split}.parquet" for split in entry.files}
    if not all(path.is_file() for path in kept.values()):
        check_reachable(entry.repo, entry.revision, name)
        with lock(folder.with_name(f"{folder.name}.lock")):  # of several that ask at once, one fetches it
            for split, path in kept.items():
                if not path.is_file():
                    clear_parts(path)
                    keep(rows(entry, place, split, wanted), path)
    return {split: list(parquet_documents(path)) for split, path in kept.items()}, origin


def rows(entry: HubCorpus, place: str, split: str, wanted: int | None) -> Iterator[Document]:
    """The first `wanted` documents of one split, streamed from `place`: the hub or a local folder."""
    from datasets import load_dataset

    pattern = f"{place}/{entry.files[split]}"
    try:
        # JSON lines are read as plain lines: the library's own JSON reader wants one schema in all files, and
        # RedPajama's differ in their metadata.
        reader = "text" if entry.kind == "json" else entry.kind
        stream = load_dataset(reader, data_files={split: pattern}, split=split, streaming=True)
        if entry.kind == "json":
            fields = (jsonl_text(row["text"], entry.text_field, f"A line of {pattern}") for row in stream)
        else:
            fields = (row[entry.text_field] for row in stream)
        texts = entry.group(fields)
        for number, text in enumerate(islice((text for text in texts if text.strip()), wanted), start=1):
            yield f"{split}#{number}", check_unicode(text, f"Document {number} of {pattern}")
    except KeyError as error:
        raise KitError(f"The files {pattern} have no field {error}; they are not of the pinned layout.") from error
    except KitError:
        raise
    except Exception as error:  # the libraries below raise a dozen types for a file that is missing or damaged
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise KitError(
            f"Could not read {pattern} ({reason}); check the network, or that the files are complete."
        ) from error


def check_reachable(repo: str, revision: str, name: str) -> None:
    """One short question to the hub before streaming, whose own retries would take minutes without a network."""
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(repo, revision=revision, timeout=15)
    except Exception as error:  # no network, no such repository, offline mode: the reader's answer is the same
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise KitError(
            f"The corpus {name!r} lies on the Hugging Face hub, which did not answer for {repo} ({reason}); run "
            f"`stlm data get {name}` where there is a network, or give a path to a copy of it."
        ) from None


def keep(documents: Iterable[Document], path: Path) -> None:
    """Write documents as Parquet, beside the final name first: a killed download leaves nothing that looks whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = part_of(path)
    schema = pa.schema([("name", pa.string()), ("text", pa.string())])
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


def speakleash_documents(corpus: str, max_documents: int | None = None) -> tuple[Splits, str]:
    """A corpus of Speakleash through its own package, which downloads it into the cache the first time.

    Raises KitError when the package is missing or does not reach its server.
    """
    try:
        from speakleash import Speakleash
    except ImportError:
        raise KitError(
            f"Speakleash's corpus {corpus} comes through the package speakleash; install it (pip install speakleash)."
        ) from None
    folder = cache_dir() / "speakleash"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = Speakleash(str(folder)).get(corpus)
        texts = found.data if found is not None else None
    except Exception as error:
        raise KitError(
            f"Speakleash did not answer for {corpus} ({error}); try again where there is a network."
        ) from error
    if texts is None:
        raise KitError(f"Speakleash did not offer {corpus}; try again where there is a network.")
    kept = islice((text for text in texts if text.strip()), max_documents)
    documents = [(f"{corpus}#{number}", check_unicode(text, corpus)) for number, text in enumerate(kept, start=1)]
    return {"train": documents}, f"Speakleash {corpus} (licence in its manifest)"
