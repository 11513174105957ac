"""Open the files of a corpus, plain or compressed as their suffixes say, with any bytes in their names."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stlm_kit.errors import KitError


def _open_zstd(raw: BinaryIO) -> BinaryIO:
    import pyarrow as pa  # pyarrow has the codec; Python includes one from 3.14

    return io.BufferedReader(pa.input_stream(raw, compression="zstd"))


COMPRESSED = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zstd,
    ".zstd": _open_zstd,
}


def shown(path: Path | str) -> str:
    """A path or file name as text that can be printed and stored, whatever its bytes are.

    A byte that is not UTF-8 is written \\xe9 (Python keeps it as half of a surrogate pair). A newline in a name is
    written \\n, so that a sentence with the name stays on one line.
    """
    return "".join(character if character.isprintable() else _escape(character) for character in str(path))


def is_unicode(text: str) -> bool:
    """Whether a text can be written in UTF-8, that is, holds no half of a surrogate pair."""
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else character.encode("unicode_escape").decode()


def suffixes(path: Path | str) -> tuple[str, str]:
    """(suffix of the content, suffix of the compression), in lower case: a.jsonl.gz gives (".jsonl", ".gz")."""
    found = Path(path).suffixes
    last = found[-1].lower() if found else ""
    if last not in COMPRESSED:
        return last, ""
    return (found[-2].lower() if len(found) > 1 else ""), last


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file opened for reading bytes, decompressed where its suffix is one of COMPRESSED.

    Raises KitError where it cannot be opened, or is damaged or truncated.
    """
    _, compression = suffixes(path)
    try:
        with path.open("rb") as raw:
            if not compression:
                yield raw
                return
            with COMPRESSED[compression](raw) as file:
                yield file
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise damaged(path, error) from error
    except OSError as error:
        if error.strerror is None:  # not from the system: a decompressor or reader raised it
            if compression:
                raise damaged(path, error) from error
            raise
        raise KitError(
            f"Could not read {shown(path)}: {error.strerror}; check the path and its permissions."
        ) from error


def damaged(path: Path, error: Exception) -> KitError:
    """The KitError for a compressed file that is damaged or truncated."""
    reason = (str(error).splitlines() or ["no reason given"])[0].rstrip(".")
    return KitError(f"Could not decompress {shown(path)} ({reason}); fetch or compress it again.")
