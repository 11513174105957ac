"""Read a user's tokenizer.json. It is accepted only if it reproduces text exactly."""

from __future__ import annotations

import json
from pathlib import Path

from stlm_kit.data.bpe import BPETokenizer
from stlm_kit.data.lossless import check_lossless, step_types
from stlm_kit.data.open_file import shown
from stlm_kit.data.tokenizer import ByteTokenizer, Tokenizer
from stlm_kit.errors import KitError


def tokenizer_from_file(path: Path, name: str | None = None) -> Tokenizer:
    """The byte-level BPE of a tokenizer.json. The eos_token of a tokenizer_config.json beside it ends a document.

    name: for messages; None takes that of tokenizer_config.json, or of the folder.

    A normalizer that is Unicode's NFC alone, as Qwen's, is left out, because it changes text that is not in that form.
    Text in NFC is encoded as with it. Any other text comes back exactly, in other tokens than the file would give.

    Raises KitError for any other kind of tokenizer, and for one that does not reproduce text exactly. The sentence
    names the part that changes the text.
    """
    where = shown(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        model = content["model"]
        kind, _, _ = model["type"], model["vocab"].keys(), (content.get("added_tokens") or [])[:0]
        content = _without_nfc(content)
        steps = [*map(step_types, (content.get("normalizer"), content.get("pre_tokenizer"), content.get("decoder")))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise KitError(
            f"The file {where} is not a tokenizer.json ({reason}); give one saved by `tokenizers`."
        ) from None
    if kind != "BPE" or not any("ByteLevel" in types for types in steps):
        raise KitError(
            f"The tokenizer in {where} is not a byte-level BPE, so text may not come back exactly; give one that is."
        )
    config = _config(path)
    name = name or (config["name"] if isinstance(config.get("name"), str) else shown(path.absolute().parent.name))
    try:
        check_lossless(f"The tokenizer in {where}", content)
        tokenizer = BPETokenizer(name, content, _end(config))
        check_lossless(f"The tokenizer in {where}", content, tokenizer)
    except KitError:
        raise
    except Exception as error:  # the library raises Exception for wrong merges
        reason = (str(error).splitlines() or ["no reason given"])[0].rstrip(".")
        raise KitError(f"The tokenizer in {where} does not load ({reason}); save it again.") from None
    plain = ByteTokenizer()
    same = tokenizer.content_hash == plain.content_hash and tokenizer.vocab_size == plain.vocab_size
    return plain if same else tokenizer


def _without_nfc(content: dict) -> dict:
    """The content without its normalizer, if that is NFC alone."""
    only_nfc = set(step_types(content.get("normalizer"))) == {"NFC"}
    return content | {"normalizer": None} if only_nfc else content


def _config(path: Path) -> dict:
    """The content of a tokenizer_config.json beside a tokenizer.json, or {}."""
    try:
        config = json.loads(path.with_name("tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _end(config: dict) -> str | None:
    """The eos_token of a tokenizer_config.json: a text, or an object that holds one. None where there is none."""
    end = config.get("eos_token")
    end = end.get("content") if isinstance(end, dict) else end
    return end if isinstance(end, str) else None
