"""Whether a tokenizer.json reproduces text exactly, and if not, which of its parts changes the text.

The types of the parts are checked first: a lowercasing normalizer changes some text even if no example shows it. Then
texts are encoded and decoded and must come back equal. They hold every byte that occurs in UTF-8, and cases that other
tokenizers have failed on.
"""

from __future__ import annotations

import json
from typing import Any

from stlm_kit.data.bpe_format import byte_letters
from stlm_kit.data.tokenizer import Tokenizer
from stlm_kit.errors import KitError

# Pre-tokenizers that drop or replace the characters they split at. Other pre-tokenizers only split.
DROPPING = ("Whitespace", "WhitespaceSplit", "BertPreTokenizer", "CharDelimiterSplit", "Metaspace")
NEVER_IN_UTF8 = {0xC0, 0xC1, *range(0xF5, 0x100)}
# Characters with every byte of UTF-8: all characters of one and two bytes, and one for each first byte of longer ones.
ALL_BYTES = "".join(
    map(
        chr,
        [*range(0x800), *range(0x800, 0xD800, 0x800), *range(0xE000, 0x10000, 0x800), *range(0x10000, 0x110000, 2**16)],
    )
)
TEXTS = (
    ALL_BYTES,
    "The  Fox é",
    " lead", "trail ", "\n\n a\tb\r\n\r ", "", "   ", "\t",
    "e\u0301 \u00e9 \ufb01 \u00bd \u212b \u0130 \u00df \u017f \uff21 \u3000",
    "don't  I'LL we\u2019re \u201cquoted\u201d -- \u2014 \u2026",
    "\u2581a ##b </w> <unk> [UNK] <s> \u0120 \u010a <0x0A>",
    "\ufeffa\u200b\u200d\u00ad\u2028\u2029\u0085\u00a0b\x00\x1b\x7f",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1f5\U0001f1f1 \U0010ffff \ue000 \uffff",
    "\u0661\u0662\u0663 1234567 3.14 1,000", "a" * 300, "x=[1,2]; // \\n \\u00e9 %20 &amp;",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\u65e5\u672c\u8a9e \u0e44\u0e17\u0e22 \u0928\u092e\u0938\u094d\u0924\u0947",
)  # fmt: skip


def steps_of(part: Any) -> list[dict]:
    """The steps of a normalizer, pre-tokenizer or decoder in order, with a Sequence unpacked; [] for null."""
    if not isinstance(part, dict):
        return []
    inside = next((part[key] for key in ("normalizers", "pretokenizers", "decoders") if key in part), None)
    return [part] if inside is None else [step for one in inside for step in steps_of(one)]


def step_types(part: Any) -> list[str]:
    """The types of the steps that `steps_of` gives."""
    return [str(step.get("type")) for step in steps_of(part)]


def check_lossless(who: str, content: dict, tokenizer: Tokenizer | None = None) -> None:
    """Raise KitError where a tokenizer.json's content changes text. The sentence starts with `who` and names the part.

    Without `tokenizer` only the parts are checked. With it (made from `content`), texts are encoded and decoded as
    well.
    """
    if tokenizer is None:
        if part := _lossy_part(content):
            raise KitError(f"{who} does not give text back exactly: {part}; give one that keeps every character.")
        return
    added = [entry["content"] for entry in content.get("added_tokens") or []]
    texts = [*TEXTS, *(around.replace("X", text) for text in added for around in ("X", "aXb", "a  X  b", "X X"))]
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        if (back := tokenizer.decode(ids)) != text:
            part = next((f"its added token {token!r}" for token in added if token in text), None)
            part = part or "its pre-tokenizer, vocabulary or merges, that is,"
            raise KitError(
                f"{who} does not give text back exactly: {part} turns {_around(text, back)!r} into "
                f"{_around(back, text)!r}; give one that keeps every character."
            )
    _check_decoder(who, content, tokenizer, texts)


def _lossy_part(content: dict) -> str | None:
    """The part that changes some text with any vocabulary, or None where no part is known to."""
    normalizers = [kind for kind in step_types(content.get("normalizer")) if kind != "ByteLevel"]
    if normalizers:
        return f"its normalizer ({', '.join(normalizers)}) changes it"
    before = steps_of(content.get("pre_tokenizer"))
    for step in before:
        kind = step.get("type")
        if kind in DROPPING or step.get("behavior") == "Removed":
            removing = "" if kind in DROPPING else " that removes what it finds"
            return f"its pre-tokenizer ({kind}{removing}) drops what it divides at"
        if kind == "ByteLevel" and step.get("add_prefix_space"):
            return "its pre-tokenizer (ByteLevel with add_prefix_space) puts a prefix, a blank, before it"
    if "ByteLevel" not in [*step_types(content.get("normalizer")), *(step.get("type") for step in before)]:
        return "it has no ByteLevel pre-tokenizer, so blanks and most letters are dropped"
    model = content["model"]
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            return f"its model's {key} {model[key]!r} becomes part of it"
    missing = [byte for byte, letter in enumerate(byte_letters()) if letter not in model["vocab"]]
    missing = [byte for byte in missing if byte not in NEVER_IN_UTF8]
    if missing:
        shown = ", ".join(f"0x{byte:02x}" for byte in missing[:3]) + (", ..." if len(missing) > 3 else "")
        return f"its alphabet lacks {len(missing)} of the bytes of UTF-8 ({shown}), which are dropped"
    return None


def _check_decoder(who: str, content: dict, tokenizer: Tokenizer, texts: list[str]) -> None:
    """Raise KitError where the file's decoder gives another text than its tokens spell.

    A missing decoder is supplied.
    """
    kinds = step_types(content.get("decoder"))
    if kinds in ([], ["ByteLevel"]):
        return
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_str(json.dumps(tokenizer.to_json() | {"decoder": content["decoder"]}))
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        if (back := backend.decode(ids, skip_special_tokens=False)) != text:
            raise KitError(
                f"{who} does not give text back exactly: its decoder ({', '.join(kinds)}) turns "
                f"{_around(text, back)!r} into {_around(back, text)!r}; give one with the ByteLevel decoder alone."
            )


def _around(text: str, other: str) -> str:
    """The characters of `text` around the place where it and `other` begin to differ."""
    start = next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))
    return text[max(0, start - 8) : start + 8]
