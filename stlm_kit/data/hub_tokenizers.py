"""Tokenizers of the Hugging Face hub by name: one tokenizer.json each, kept in the cache, fetched only when asked for.

    STLM_CACHE/tokenizers/<name>-<revision>/tokenizer.json

The SHA-256 of each file is stated here, so that a name always means the same tokens. Like the corpora, nothing here has
been tried against the hub itself.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from stlm_kit.errors import KitError
from stlm_kit.paths import atomic_write, cache_dir, file_sha256

FILE = "tokenizer.json"


@dataclass(frozen=True)
class HubTokenizer:
    """Where a tokenizer.json is.

    repo, revision: a model on the hub, and a commit of it. sha256, file_bytes: of the file. licence: of the model.
    """

    repo: str
    revision: str
    sha256: str
    file_bytes: int
    licence: str


TOKENIZERS: dict[str, HubTokenizer] = {
    # Revision, SHA-256 and size as several public projects record them.
    "qwen3": HubTokenizer(
        "Qwen/Qwen3-8B",
        "b968826d9c46dd6066d109eabc6255188de91218",
        "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
        11_422_654,
        "Apache-2.0",
    ),
}


def describe() -> dict[str, str]:
    """{name: one phrase on where it is} for every tokenizer in the table."""
    return {
        name: f"a tokenizer, {FILE} of {entry.repo} on the Hugging Face hub ({entry.licence}); fetched only when asked "
        "for by name"
        for name, entry in TOKENIZERS.items()
    }


def kept_tokenizer(name: str) -> Path:
    """The place in the cache of the tokenizer called `name`, whether or not it is there."""
    return cache_dir() / "tokenizers" / f"{name}-{TOKENIZERS[name].revision}" / FILE


def check_kept(name: str) -> Path:
    """The file in the cache of the tokenizer called `name`. KitError where it is missing or damaged."""
    path, get = kept_tokenizer(name), f"`stlm data get {name}`"
    if not path.is_file():
        raise KitError(
            f"The tokenizer {name} is not in {cache_dir()}; fetch it with {get} where there is a network, or give the "
            f"path of {TOKENIZERS[name].repo}'s {FILE} instead."
        )
    if _sha256(path, path.stat().st_mtime_ns, path.stat().st_size) != TOKENIZERS[name].sha256:
        raise KitError(f"The tokenizer {name} in {path} is damaged, by its SHA-256; mend it with {get}.")
    return path


@lru_cache(maxsize=8)
def _sha256(path: Path, modified: int, size: int) -> str:
    """The SHA-256 of a file, computed once until the file changes."""
    return file_sha256(path)


def fetch_tokenizer(name: str, base: Path | None = None) -> Path:
    """Fetch a tokenizer into the cache, unless it is there, and return its file.

    base: a local folder with the layout of the repository, read instead of the hub. Raises KitError where the hub does
    not answer, where the folder lacks the file, and for a file with another SHA-256.
    """
    try:
        return check_kept(name)
    except KitError:
        content = _from_hub(name) if base is None else _from_folder(name, base)
    if hashlib.sha256(content).hexdigest() != TOKENIZERS[name].sha256:
        raise KitError(
            f"The {FILE} that came for {name} has another SHA-256 than the pinned one, so it may cut text into other "
            "tokens; give its path as the tokenizer if you want it nevertheless."
        )
    return atomic_write(kept_tokenizer(name), content)


def _from_folder(name: str, base: Path) -> bytes:
    path = base.expanduser() / FILE
    try:
        return path.read_bytes()
    except OSError as error:
        raise KitError(
            f"Could not read {path} ({error.strerror}); give a folder that is laid out as the repository of {name} is."
        ) from None


def _from_hub(name: str) -> bytes:
    from huggingface_hub import HfApi, hf_hub_download

    entry = TOKENIZERS[name]
    try:
        HfApi().model_info(entry.repo, revision=entry.revision, timeout=15)  # a download would retry for half a minute
        with tempfile.TemporaryDirectory() as folder:
            file = hf_hub_download(entry.repo, FILE, revision=entry.revision, local_dir=folder, etag_timeout=15)
            return Path(file).read_bytes()
    except Exception as error:  # no network, no such repository, offline mode: the remedy is the same
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise KitError(
            f"The tokenizer {name!r} lies on the Hugging Face hub, which did not answer for {entry.repo} ({reason}); "
            f"run `stlm data get {name}` where there is a network, or give the path of its {FILE}."
        ) from None
