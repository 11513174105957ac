"""Byte-level BPE on top of the `tokenizers` library, from the content of a tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Sequence

from stlm_kit.data.bpe_format import added_token, byte_letters, content_hash, letters_to_bytes, tokenizer_json
from stlm_kit.data.tokenizer import END, ENDS, Tokenizer, check_text
from stlm_kit.errors import KitError


class BPETokenizer(Tokenizer):
    """Byte-level BPE with the `tokenizers` library, from the content of a tokenizer.json.

    Every id of the file is kept. Special tokens, such as the end of document, are never found inside text. An added
    token that is not special is found inside text, as the library does it.

    end: the token that ends a document, where the file's own settings name one (eos_token). Otherwise the first of the
    usual names.

    Raises KitError for a file without an end of document, with two ids for a token or two tokens for an id, or with a
    special token that text can also produce.
    """

    def __init__(self, name: str, content: dict, end: str | None = None):
        from tokenizers import Tokenizer as Backend

        model = content["model"]
        vocab = model["vocab"]
        added = {entry["content"]: entry for entry in content.get("added_tokens") or []}
        merged = {"".join(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]}
        # GPT-2's own files list their end token only in the vocabulary. A token that merges produce is not special.
        for mark in {*ENDS, end} & vocab.keys() - added.keys() - merged:
            added[mark] = added_token(mark, vocab[mark])
        self.end_text = next((mark for mark in (end, *ENDS) if mark in added), None)
        if self.end_text is None:
            raise KitError(f"The tokenizer {name} has no end-of-document token such as {END!r}; add one to its file.")
        added[self.end_text] = added[self.end_text] | {"special": True}
        self._added = dict(sorted(added.items(), key=lambda item: item[1]["id"]))
        special = {text for text, entry in added.items() if entry.get("special")}
        if clash := sorted(special & (merged | set(byte_letters()))):
            raise KitError(
                f"The tokenizer {name} has the special token {clash[0]!r}, which it also makes of text; give one whose "
                "special tokens are none of its words."
            )
        found = {text: entry for text, entry in self._added.items() if text not in special}
        ids = {text: entry["id"] for text, entry in self._added.items()}
        _check_ids(name, vocab, ids)
        self.name, self.end_of_document = name, ids[self.end_text]
        # The library finds added tokens inside text. Without them, "<|endoftext|>" in a document is plain text. An
        # added token in the vocabulary keeps its id; one outside it gets the next free id.
        plain = {token: i for token, i in vocab.items() if token not in special} | {text: ids[text] for text in found}
        self.vocab_size = 1 + max(*plain.values(), *ids.values())
        # The steps before the model, as the file has them. null means that there is no such step.
        steps = {key: content[key] for key in ("normalizer", "pre_tokenizer") if key in content}
        self._content = tokenizer_json(model | {"vocab": plain}, {}) | steps | {"added_tokens": list(found.values())}
        self._backend: Backend = Backend.from_str(json.dumps(self._content))
        self._bytes = [b""] * self.vocab_size
        for token, i in plain.items():
            self._bytes[i] = letters_to_bytes(token)
        for text, i in ids.items():  # added tokens are written as text and not in byte letters
            self._bytes[i] = b"" if text == self.end_text else text.encode()
        self.content_hash = content_hash(self._content, self.end_of_document)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text. Special tokens are neither added nor found."""
        texts = [check_text(text) for text in texts]
        return [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=False)]

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for. UsageError for an id that is not in the vocabulary."""
        return self._bytes[self._check_id(token)]

    def to_json(self) -> dict:
        """The content of a tokenizer.json in which every token keeps its id.

        `tokenizers` numbers added tokens from the end of the vocabulary and ignores the ids written beside them, unless
        the vocabulary lists them as well. So the vocabulary lists all of them.
        """
        vocab = self._content["model"]["vocab"] | {text: entry["id"] for text, entry in self._added.items()}
        model = self._content["model"] | {"vocab": dict(sorted(vocab.items(), key=lambda item: item[1]))}
        return self._content | {"added_tokens": list(self._added.values()), "model": model}

    @property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """The merges in the order they were learned, as pairs of byte strings."""
        return [tuple(letters_to_bytes(part) for part in pair) for pair in self._content["model"]["merges"]]


def _check_ids(name: str, vocab: dict[str, int], added: dict[str, int]) -> None:
    """Raise KitError where the vocabulary and the added tokens give a token two ids or an id two tokens."""
    for text, i in added.items():
        if vocab.get(text, i) != i:
            raise KitError(f"The tokenizer {name} gives {text!r} the ids {vocab[text]} and {i}; save it again.")
    tokens: dict[int, str] = {}
    for text, i in (vocab | added).items():
        if tokens.setdefault(i, text) != text:
            raise KitError(f"The tokenizer {name} gives the id {i} to {tokens[i]!r} and {text!r}; save it again.")
