"""A cache of answers on disk, so that the same question to the same code is not traced again.

    kept(MemoryReport, predict_peak, config, recipe, 8, 512, semantics="cuda")

<cache>/traces/<hash>.json holds one answer as JSON. Its name is the hash of everything that the answer depends on: the
function and its arguments, the kit's source, the versions of libraries, this machine's processor and GPUs. If any of
them changes, the answer is computed again. A damaged file counts as missing, and so does a folder that is not writable.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter

from stlm_kit.errors import KitError
from stlm_kit.paths import atomic_write, cache_dir
from stlm_kit.provenance import hardware, limits, source_hash, versions

T = TypeVar("T")
LARGEST_MIB = 256  # of all cached answers together; the least recently used are deleted first


class NotPlain(Exception):
    """An argument that cannot be identified by its content."""


def kept(of: type[T], function: Callable[..., T], *args: Any, besides: Any = None, **options: Any) -> T:
    """`function(*args, **options)`, which returns an `of`: read from the cache, or computed and cached.

    The function must depend only on its arguments, the code and the machine. `besides` holds anything else it depends
    on, in a form for JSON (such as a hash of files). Arguments are plain values, and settings or dataclasses of the
    kit. With any other argument (such as a configuration from elsewhere) the function is called and nothing is cached.
    The first call also returns the value made from its JSON, so later calls return the same.
    """
    try:
        asked = _question(function, args, options, besides)
    except NotPlain:
        return function(*args, **options)
    text = json.dumps(asked, sort_keys=True)
    path = traces_dir() / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
    answers = TypeAdapter(of)
    found = _read(path, asked, answers)
    if found is None:
        answer = json.loads(json.dumps(answers.dump_python(function(*args, **options), mode="json")))
        _write(path, asked, answer)
        found = answers.validate_python(answer)
    return found


def traces_dir() -> Path:
    """The folder of cached answers. It may be deleted at any time."""
    return cache_dir() / "traces"


def _question(function: Callable, args: tuple, options: dict[str, Any], besides: Any) -> dict[str, Any]:
    """Everything that an answer depends on, for JSON. NotPlain for an argument without such a form."""
    return {
        "function": f"{function.__module__}.{function.__qualname__}",
        "arguments": [_plain(value) for value in args],
        "options": {name: _plain(value) for name, value in sorted(options.items())},
        "besides": besides,
        "source": source_hash(),
        "versions": versions(),
        "machine": hardware(),  # reading an answer does not import torch
        "limits": limits(),
    }


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    kind = type(value)
    if kind.__module__.partition(".")[0] == "stlm_kit":  # its code is in the source's hash
        if isinstance(value, BaseModel):
            return {"type": kind.__qualname__, **value.model_dump(mode="json")}
        if dataclasses.is_dataclass(value):
            fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
            return {"type": kind.__qualname__, **fields}
    raise NotPlain


def _read(path: Path, asked: dict[str, Any], answers: TypeAdapter) -> Any:
    """The cached answer. None where it is missing, damaged, or an answer to another question."""
    try:
        entry = json.loads(path.read_text("utf-8"))
        if entry["asked"] != json.loads(json.dumps(asked)) or entry["sha256"] != _hash(entry["answer"]):
            return None
        found = answers.validate_python(entry["answer"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # pydantic's own error is a ValueError
        return None
    with suppress(OSError):  # another user's folder: it is still read
        os.utime(path)
    return found


def _write(path: Path, asked: dict[str, Any], answer: Any) -> None:
    with suppress(KitError, OSError):  # a full disk: the answer is returned all the same
        atomic_write(path, json.dumps({"asked": asked, "sha256": _hash(answer), "answer": answer}))
        _bound(path.parent, LARGEST_MIB * 2**20)


def _hash(answer: Any) -> str:
    return hashlib.sha256(json.dumps(answer).encode()).hexdigest()


def _bound(folder: Path, most: int) -> None:
    """Delete the least recently used answers until at most `most` bytes are left."""
    files = {}
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process deleted it
            files[path] = path.stat()
    size = sum(state.st_size for state in files.values())
    for path in sorted(files, key=lambda path: files[path].st_mtime):
        if size <= most:
            break
        path.unlink(missing_ok=True)
        size -= files[path].st_size
