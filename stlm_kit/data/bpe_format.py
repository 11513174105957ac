"""The tokenizer.json format for byte-level BPE: how bytes are written as letters, and which parts decide the ids."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping


@functools.cache
def byte_letters() -> list[str]:
    """The printable letter that stands for each byte in a byte-level vocabulary (GPT-2's table: a space is Ġ)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


@functools.cache
def letter_bytes() -> dict[str, int]:
    """The inverse of `byte_letters`: {letter: byte}."""
    return {letter: byte for byte, letter in enumerate(byte_letters())}


def letters_to_bytes(token: str) -> bytes:
    """The bytes of a token in a byte-level vocabulary. A token with letters outside the table is encoded as UTF-8."""
    table = letter_bytes()
    if all(letter in table for letter in token):
        return bytes(table[letter] for letter in token)
    return token.encode()


def tokenizer_json(model: dict, special: Mapping[str, int], normalizer=None, pre_tokenizer=None) -> dict:
    """The content of a tokenizer.json for byte-level BPE, with GPT-2's pre-tokenization unless another is given."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    merges = [merge.split(" ") if isinstance(merge, str) else list(merge) for merge in model["merges"]]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(special),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer or byte_level,
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": model | {"type": "BPE", "dropout": None, "unk_token": None, "merges": merges},
    }


def added_tokens(special: Mapping[str, int]) -> list[dict]:
    """The special tokens in the form of tokenizer.json, in order of their ids."""
    return [added_token(text, i) for text, i in sorted(special.items(), key=lambda item: item[1])]


def added_token(text: str, i: int) -> dict:
    """One special token in the form of tokenizer.json."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": i, "content": text} | flags


def content_hash(content: dict, end_of_document: int) -> str:
    """SHA-256 of everything that decides a tokenizer's ids: vocabulary, merges, earlier steps, and end of document.

    Special tokens are not found in text, so they do not count. Added tokens that are found in text do.
    """
    model = content["model"]
    vocab = sorted(model["vocab"].items(), key=lambda item: item[1])
    steps = [content["normalizer"], content["pre_tokenizer"], bool(model.get("ignore_merges"))]
    decisive = [vocab, model["merges"], steps, end_of_document]
    if added := [entry for entry in content["added_tokens"] if not entry.get("special")]:
        decisive.append(added)
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
