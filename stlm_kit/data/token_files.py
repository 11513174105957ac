"""Token files: a tokenized split on disk, memory-mapped, cached by the content of text and tokenizer.

A folder is written under another name, synced and renamed. So a killed tokenization leaves nothing that looks finished.
A lock makes a second process wait for the first instead of repeating its work.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, Integer
from tqdm.auto import tqdm

from stlm_kit.data.tokenizers import Tokenizer, smallest_dtype, texts_hash
from stlm_kit.errors import KitError
from stlm_kit.locks import lock
from stlm_kit.paths import cache_dir, clear_parts, fsync_folder, part_of

if TYPE_CHECKING:
    from datasets import DatasetDict

FORMAT = 1  # increased when the files' layout changes, so that older caches are remade
FILES = {"ids": "ids.bin", "offsets": "offsets.bin", "document_bytes": "document_bytes.bin"}
# characters of text that are encoded at once: enough to use every core, and small in memory
BATCH_CHARACTERS = 4_000_000


@dataclass(frozen=True, eq=False)
class TokenFile:
    """Documents as token ids, one after the other, each followed by the end-of-document token.

    ids: all tokens, uint16 or uint32, memory-mapped. offsets: document i is ids[offsets[i]:offsets[i + 1]], and the
    last of these is its end token. document_bytes: UTF-8 bytes of each raw text, the divisor of bits per byte.
    """

    ids: Integer[np.ndarray, " n_tokens"]
    offsets: Int64[np.ndarray, " n_documents_plus_1"]
    document_bytes: Int64[np.ndarray, " n_documents"]
    vocab_size: int
    end_of_document: int
    content_hash: str

    @property
    def n_documents(self) -> int:
        """The number of documents."""
        return len(self.offsets) - 1

    @property
    def n_tokens(self) -> int:
        """The number of tokens of all documents, including one end token for each."""
        return len(self.ids)

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes of all raw texts."""
        return int(self.document_bytes.sum())

    def document(self, index: int) -> Integer[np.ndarray, " length"]:
        """The tokens of one document, without its end token."""
        return self.ids[self.offsets[index] : self.offsets[index + 1] - 1]

    def select(self, which: Sequence[int]) -> TokenFile:
        """The documents with these numbers, at least one, in this order. In memory, unless they are the first ones."""
        first_ones = list(which) == list(range(len(which)))
        pieces = [self.ids[self.offsets[i] : self.offsets[i + 1]] for i in which]
        return TokenFile(
            self.ids[: self.offsets[len(which)]] if first_ones else np.concatenate(pieces),
            np.cumsum([0, *map(len, pieces)], dtype=np.int64),
            self.document_bytes[list(which)],
            self.vocab_size,
            self.end_of_document,
            hashlib.sha256(f"{self.content_hash}:{list(map(int, which))}".encode()).hexdigest(),
        )

    @classmethod
    def in_memory(cls, texts: Sequence[str], tokenizer: Tokenizer) -> TokenFile:
        """A TokenFile for a few texts, in memory instead of on disk."""
        return cls.from_ids(tokenizer.encode_batch(texts), tokenizer, [len(text.encode()) for text in texts])

    @classmethod
    def from_ids(
        cls, documents: Sequence[Sequence[int]], tokenizer: Tokenizer, document_bytes: Sequence[int]
    ) -> TokenFile:
        """A TokenFile from token ids without end tokens, and the UTF-8 bytes of the text that each document came from.

        Raises UsageError for an id outside the vocabulary.
        """
        end = tokenizer.end_of_document
        dtype = smallest_dtype(tokenizer.vocab_size)
        for ids in documents:
            for token in ids:
                tokenizer.token_bytes(token)  # raises for an id outside the vocabulary
        ids = np.concatenate([np.asarray([*document, end], dtype=dtype) for document in documents])
        offsets = np.cumsum([0, *(len(document) + 1 for document in documents)], dtype=np.int64)
        digest = hashlib.sha256(ids.tobytes() + offsets.tobytes()).hexdigest()
        return cls(ids, offsets, np.asarray(document_bytes, dtype=np.int64), tokenizer.vocab_size, end, digest)

    @classmethod
    def open(cls, folder: str | Path) -> TokenFile:
        """Map a finished folder. KitError when a file is missing, truncated or of another format (checked by size)."""
        folder = Path(folder)
        try:
            header = json.loads((folder / "header.json").read_text(encoding="utf-8"))
            sizes = {name: (folder / name).stat().st_size for name in FILES.values()}
            if header["format"] != FORMAT or sizes != header["sizes"]:
                raise ValueError("its size or format is not what its header says")
            ids = np.memmap(folder / FILES["ids"], dtype=header["dtype"], mode="r")
            offsets = np.fromfile(folder / FILES["offsets"], dtype="<i8")
            document_bytes = np.fromfile(folder / FILES["document_bytes"], dtype="<i8")
            if offsets[-1] != len(ids) or ids[-1] != header["end_of_document"]:
                raise ValueError("its last document is not complete")
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise KitError(
                f"The token file {folder} is damaged ({error}); delete that folder and it is made again."
            ) from None
        return cls(
            ids, offsets, document_bytes, header["vocab_size"], header["end_of_document"], header["content_hash"]
        )


def tokenize_corpus(corpus: DatasetDict, tokenizer: Tokenizer) -> dict[str, TokenFile]:
    """Each split as a TokenFile, from the cache if the same text was encoded by the same tokenizer before.

    It is safe with several processes at once and after a kill -9. A damaged cache entry is remade. Raises KitError when
    the disk is full or the cache folder cannot be written.
    """
    return {split: tokenize_texts(corpus[split]["text"], tokenizer, split) for split in corpus}


def tokenize_texts(texts: Iterable[str], tokenizer: Tokenizer, label: str = "") -> TokenFile:
    """One sequence of documents as a cached TokenFile. `label` is only the name of the progress bar.

    Raises KitError when the disk is full or the cache folder cannot be written.
    """
    key = f"{FORMAT}:{texts_hash(texts)}:{tokenizer.content_hash}"
    content_hash = hashlib.sha256(key.encode()).hexdigest()
    folder = cache_dir() / "tokens" / content_hash[:32]
    if folder.is_dir():
        try:
            return TokenFile.open(folder)
        except KitError:
            pass  # damaged; remade below, under the lock
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock(folder.with_suffix(".lock")):
            return _open_or_make(folder, texts, tokenizer, content_hash, label)
    except OSError as error:
        raise KitError(
            f"Could not write token files below {folder.parent}: {error.strerror or error}; free some space or set "
            "STLM_CACHE to another folder."
        ) from error


def _open_or_make(folder: Path, texts: Iterable[str], tokenizer: Tokenizer, content_hash: str, label: str) -> TokenFile:
    """With the lock held: the folder that another process finished meanwhile, or a new one."""
    try:
        return TokenFile.open(folder)
    except KitError:
        shutil.rmtree(folder, ignore_errors=True)
    clear_parts(folder)  # from a process that was killed; we hold its lock
    part = part_of(folder)
    try:
        part.mkdir()
        _write(part, texts, tokenizer, content_hash, label)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    fsync_folder(folder.parent)
    return TokenFile.open(folder)


def _write(part: Path, texts: Iterable[str], tokenizer: Tokenizer, content_hash: str, label: str) -> None:
    dtype = smallest_dtype(tokenizer.vocab_size)
    lengths, document_bytes = [], []
    with (part / FILES["ids"]).open("wb") as file:
        for batch in _batched(tqdm(texts, desc=f"tokens {label}", unit="doc", disable=None, leave=False)):
            for text, ids in zip(batch, tokenizer.encode_batch(batch), strict=True):
                file.write(np.asarray([*ids, tokenizer.end_of_document], dtype=dtype).tobytes())
                lengths.append(len(ids) + 1)
                document_bytes.append(len(text.encode()))
        _sync(file)
    for name, values in (("offsets", np.cumsum([0, *lengths])), ("document_bytes", document_bytes)):
        with (part / FILES[name]).open("wb") as file:
            file.write(np.asarray(values, dtype="<i8").tobytes())
            _sync(file)
    header = {
        "format": FORMAT,
        "dtype": dtype.newbyteorder("<").str,
        "vocab_size": tokenizer.vocab_size,
        "end_of_document": tokenizer.end_of_document,
        "tokenizer": tokenizer.name,
        "content_hash": content_hash,
        "sizes": {name: (part / name).stat().st_size for name in FILES.values()},
    }
    with (part / "header.json").open("w", encoding="utf-8") as file:
        json.dump(header, file, indent=1)
        _sync(file)


def _batched(texts: Iterable[str]) -> Iterator[list[str]]:
    batch, characters = [], 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())
