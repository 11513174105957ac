"""The interface of every tokenizer, and the byte tokenizer, which needs no training."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Sequence
from pathlib import Path

from stlm_kit.data.bpe_format import byte_letters, content_hash, tokenizer_json
from stlm_kit.data.fields import check_unicode
from stlm_kit.errors import UsageError
from stlm_kit.paths import atomic_write

END = "<|endoftext|>"  # how the end-of-document token is written in a tokenizer.json
ENDS = (END, "<|end_of_text|>", "<|im_end|>", "</s>", "<eos>", "[EOS]")  # its name in files of other origin


class Tokenizer:
    """Text to token ids and back.

    name: for messages. vocab_size: including the end of document. end_of_document: its id. content_hash: SHA-256 of
    what decides the ids, so two equal tokenizers share caches even if their names differ.
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
        """The UTF-8 bytes of one token; they may be part of a character. Empty for the end of document.

        Raises UsageError for an id outside the vocabulary.
        """
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` (list, array, tensor). It is exact for what `encode` gave; invalid UTF-8 becomes U+FFFD."""
        ids = ids.tolist() if hasattr(ids, "tolist") else ids
        return b"".join(self.token_bytes(token) for token in ids).decode(errors="replace")

    def to_json(self) -> dict:
        """The tokenizer in the format of Hugging Face's tokenizer.json."""
        raise NotImplementedError

    def save(self, folder: str | Path) -> Path:
        """Write tokenizer.json and tokenizer_config.json, which the kit and `transformers` load. Returns the folder."""
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
    """One token for each byte of UTF-8 (ids 0 to 255). Id 256 ends a document. No training, no unknown text."""

    name = "bytes"
    vocab_size = 257
    end_of_document = 256

    @property
    def content_hash(self) -> str:
        """SHA-256 of what decides the ids."""
        return content_hash(self.to_json(), self.end_of_document)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The UTF-8 bytes of each text as ids, without the end of document. KitError for a lone surrogate."""
        return [list(check_text(text).encode()) for text in texts]

    def token_bytes(self, token: int) -> bytes:
        """The byte of an id; empty for the end of document. UsageError for an id outside the vocabulary."""
        return bytes([token]) if self._check_id(token) < 256 else b""

    def to_json(self) -> dict:
        """The content of a tokenizer.json: byte-level BPE without merges equals the byte tokenizer."""
        vocab = {letter: byte for byte, letter in enumerate(byte_letters())}
        return tokenizer_json({"vocab": vocab, "merges": []}, {END: self.end_of_document})


def check_text(text: str, where: str = "The text") -> str:
    """`text` unchanged. UsageError where it is not a str, KitError for a lone surrogate."""
    if not isinstance(text, str):
        raise UsageError(f"A tokenizer encodes text, not {type(text).__name__}; give a str.")
    return check_unicode(text, where)
