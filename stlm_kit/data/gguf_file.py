"""Read a GGUF file, the format of llama.cpp: metadata by name, and tensors as float32 arrays.

    header: "GGUF", version, number of tensors, number of metadata entries
    metadata entries: name, type, value
    tensor entries: name, sizes (fastest axis first), type, offset
    padding, then the tensors' data

Source: docs/gguf.md and src/ggml-quants.c of ggml. Types: F32, F16, Q8_0 and Q4_1, which the kit's teacher has.
The library `gguf` reads every string of a vocabulary as several numpy arrays, which takes seconds for each process that
only needs the tokenizer. So this reader is the kit's own.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stlm_kit.errors import KitError

VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
# The struct codes of the other types of metadata, by number: integers, float32, bool, 64-bit integers, float64.
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
BLOCK = 32  # the weights of a quantized block, which share a scale


def _float32(raw: np.ndarray) -> np.ndarray:
    return raw.view("<f4").astype(np.float32)


def _float16(raw: np.ndarray) -> np.ndarray:
    return raw.view("<f2").astype(np.float32)


def _q8_0(raw: np.ndarray) -> np.ndarray:
    """34 bytes a block: a float16 scale, 32 signed bytes. Weight = scale * byte."""
    blocks = raw.reshape(-1, 34)
    out = blocks[:, 2:].view(np.int8).astype(np.float32)
    out *= _column(blocks, 0)
    return out


def _q4_1(raw: np.ndarray) -> np.ndarray:
    """20 bytes a block: a float16 scale and minimum, 16 bytes. Weight = scale * (four bits) + minimum.

    The low halves of the bytes are weights 0 to 15, the high halves weights 16 to 31.
    """
    blocks = raw.reshape(-1, 20)
    out = np.empty((len(blocks), BLOCK), np.float32)
    out[:, :16], out[:, 16:] = blocks[:, 4:] & 15, blocks[:, 4:] >> 4
    out *= _column(blocks, 0)
    out += _column(blocks, 2)
    return out


def _column(blocks: np.ndarray, start: int) -> np.ndarray:
    """The float16 that begins at a byte of each block, as a column of float32."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view("<f2").astype(np.float32)


class Kind(NamedTuple):
    """A type of tensor: its name, weights and bytes in a block, and the function from bytes to float32."""

    name: str
    weights: int
    n_bytes: int
    read: Callable[[np.ndarray], np.ndarray]


KINDS = {
    0: Kind("F32", 1, 4, _float32),
    1: Kind("F16", 1, 2, _float16),
    3: Kind("Q4_1", BLOCK, 20, _q4_1),
    8: Kind("Q8_0", BLOCK, 34, _q8_0),
}


class Entry(NamedTuple):
    """A tensor in the file: its shape (slowest axis first), its type's number, and where its bytes begin."""

    shape: tuple[int, ...]
    kind: int
    start: int


@dataclass(frozen=True)
class GgufFile:
    """A file's metadata by name, and the entries of its tensors. Data is read when `tensor` is called."""

    path: Path
    metadata: dict[str, Any]
    entries: dict[str, Entry]

    def tensor(self, name: str) -> np.ndarray:
        """One tensor as a new float32 array. KitError where the file lacks it, ends inside it, or has another type."""
        if name not in self.entries:
            raise KitError(f"The file {self.path} holds no tensor {name!r}; give one of another model.")
        shape, kind, start = self.entries[name]
        if kind not in KINDS:
            known = ", ".join(one.name for one in KINDS.values())
            raise KitError(f"The tensor {name!r} in {self.path} has type {kind}; the kit reads {known} only.")
        _, weights, n_bytes, read = KINDS[kind]
        n = math.prod(shape) // weights * n_bytes
        if (shape[-1:] and shape[-1] % weights) or start + n > self.path.stat().st_size:
            raise _damaged(self.path, f"it ends inside {name!r}")
        return read(np.fromfile(self.path, np.uint8, n, offset=start)).reshape(shape)


def read_gguf(path: Path | str) -> GgufFile:
    """The metadata and the table of tensors of a GGUF file, without the tensors' data.

    Raises KitError where the file is missing, is of another format or version, or is cut off.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _Reader(path, memoryview(np.memmap(file, np.uint8, "r"))).file()
    except (struct.error, ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise _damaged(path, str(error) or "it is too short") from None
    except OSError as error:
        raise KitError(f"Could not read {path}: {error.strerror or error}; check the path.") from None


def _damaged(path: Path, why: str) -> KitError:
    return KitError(f"The file {path} is damaged or no GGUF file ({why}); install or copy it again.")


class _Reader:
    """The bytes of a file, and how far they were read."""

    def __init__(self, path: Path, data: memoryview) -> None:
        self.path, self.data, self.at = path, data, 0

    def file(self) -> GgufFile:
        if bytes(self.data[:4]) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        self.at = 4
        if (version := self.number("I")) not in VERSIONS:
            raise ValueError(f"its version is {version}, not 2 or 3")
        n_tensors, n_metadata = self.number("Q"), self.number("Q")
        metadata = {self.text(): self.value(self.number("I")) for _ in range(n_metadata)}
        entries = {}
        for _ in range(n_tensors):
            name, n_axes = self.text(), self.number("I")
            sizes = self.numbers("Q", n_axes)
            entries[name] = Entry(sizes[::-1], self.number("I"), self.number("Q"))
        alignment = metadata.get("general.alignment", 32)
        start = -(-self.at // alignment) * alignment  # the next multiple
        entries = {name: entry._replace(start=start + entry.start) for name, entry in entries.items()}
        return GgufFile(self.path, metadata, entries)

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            return self.number(NUMBERS[kind])
        kind, n = self.number("I"), self.number("Q")
        if kind in NUMBERS:
            return list(self.numbers(NUMBERS[kind], n))
        return [self.value(kind) for _ in range(n)]

    def text(self) -> str:
        n = self.number("Q")
        start, self.at = self.at, self.at + n
        if self.at > len(self.data):
            raise ValueError("it ends inside a text")
        return str(self.data[start : self.at], "utf-8")

    def number(self, code: str) -> Any:
        return self.numbers(code, 1)[0]

    def numbers(self, code: str, n: int) -> tuple:
        if n > len(self.data):
            raise ValueError("it states more numbers than it has bytes")
        layout = struct.Struct(f"<{n}{code}")
        values = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return values
