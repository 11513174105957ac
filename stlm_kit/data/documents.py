"""Reading documents from a path: .txt, .jsonl, .parquet, or a folder. A document is a (name, text) pair.

Every reader is a generator, so reading stops early where few are wanted; a complaint names the byte, line or row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from stlm_kit.errors import KitError, UsageError

Document = tuple[str, str]

TEXT_SUFFIXES = (".txt", ".text", ".md", ".raw", ".tokens")
SUFFIXES = (*TEXT_SUFFIXES, ".jsonl", ".parquet")
BLANK_LINES = re.compile(r"(?:\r?\n[ \t]*){2,}")
SPLIT_WORDS = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


def check_unicode(text: str, where: str) -> str:
    """`text` itself, or KitError when it holds a lone surrogate: half of a UTF-16 pair, which UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise KitError(
            f"{where} holds the lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, which is not "
            "Unicode text; repair the text or drop that character."
        ) from None
    return text


def read_text(path: Path) -> str:
    """The whole of a UTF-8 file, a byte-order mark dropped. KitError names the byte where it is not UTF-8 text."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise KitError(f"Could not read {path}: {error.strerror}; check the path and its permissions.") from error
    if not raw.strip():
        raise KitError(f"The file {path} is empty; give one that holds text.")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise KitError(
            f"The file {path} is not UTF-8 text: byte 0x{raw[error.start]:02x} at offset {error.start}; "
            "convert it to UTF-8 (iconv -t utf-8) or give another file."
        ) from None
    if "\0" in text:
        raise KitError(
            f"The file {path} looks binary: byte 0x00 at offset {raw.index(0)}; give a file of plain UTF-8 text."
        )
    return text.removeprefix("\ufeff")


def text_documents(path: Path, separator: str | None = None) -> Iterator[Document]:
    """The documents of a text file: separated by blank lines, or by `separator` where one is given."""
    if separator == "":
        raise UsageError("The separator is empty; give what stands between documents, or none for blank lines.")
    text = read_text(path)
    pieces = BLANK_LINES.split(text) if separator is None else text.split(separator)
    kept = (piece.strip("\r\n") for piece in pieces if piece.strip())
    for number, piece in enumerate(kept, start=1):
        yield f"{path.name}#{number}", piece


def jsonl_documents(path: Path, text_field: str = "text") -> Iterator[Document]:
    """The documents of a JSON-lines file: `text_field` of each line; blank lines are skipped."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path.name}#{number}", jsonl_text(line, text_field, f"Line {number} of {path}")
    except OSError as error:
        raise KitError(f"Could not read {path}: {error.strerror}; check the path and its permissions.") from error


def jsonl_text(line: bytes | str, text_field: str, where: str) -> str:
    """The text of one JSON line; `where` opens the complaint."""
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        raise KitError(f"{where} is not UTF-8: byte 0x{line[error.start]:02x} at {error.start}; convert it.") from None
    except (ValueError, RecursionError) as error:
        raise KitError(f"{where} is not JSON ({error}); mend or remove it.") from None
    if not isinstance(row, dict) or text_field not in row:
        fields = f" among {', '.join(map(repr, row))}" if isinstance(row, dict) and row else ""
        raise KitError(f"{where} has no field {text_field!r}{fields}; name the field that holds the text (text_field).")
    if not isinstance(row[text_field], str):
        kind = type(row[text_field]).__name__
        raise KitError(f"{where}: the field {text_field!r} is of type {kind}, not text; mend it or name another field.")
    return check_unicode(row[text_field], where)


def parquet_documents(path: Path, text_field: str = "text") -> Iterator[Document]:
    """The documents of a Parquet file: `text_field` of each row, read group by group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            if text_field not in columns:
                raise KitError(
                    f"The file {path} has no column {text_field!r} among {', '.join(map(repr, columns))}; "
                    "name the column that holds the text (text_field)."
                )
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=[text_field]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    if not isinstance(text, str):
                        raise KitError(f"Row {number} of {path}: {text_field!r} is {text!r:.40}, not text; mend it.")
                    yield f"{path.name}#{number}", text
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise KitError(f"Could not read {path} as Parquet ({reason}); check that it is complete.") from error


def file_documents(path: Path, separator: str | None, text_field: str) -> Iterator[Document]:
    """The non-empty documents of one file, by its suffix."""
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".parquet"):
        if separator is not None:
            raise UsageError(f"A separator divides text files, and {path.name} has a document a row; leave it out.")
        rows = jsonl_documents(path, text_field) if suffix == ".jsonl" else parquet_documents(path, text_field)
        return ((name, text) for name, text in rows if text.strip())
    if suffix in TEXT_SUFFIXES:
        return text_documents(path, separator)
    raise UsageError(
        f"The suffix of {path.name} does not say what it holds; give a .txt, .jsonl or .parquet file, or a folder."
    )


def own_split(folder: Path) -> dict[str, Path] | None:
    """The train, validation and test file of a folder that holds them (wiki.train.raw, valid.txt, ...), else None.

    Raises KitError when the folder holds a train file and a second one of the three, but not all.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        words = [SPLIT_WORDS[word] for word in re.split(r"[._-]", path.name.lower()) if word in SPLIT_WORDS]
        if path.is_file() and path.suffix.lower() in SUFFIXES and len(words) == 1:
            if words[0] in found:
                raise KitError(f"{folder} holds two {words[0]} files ({found[words[0]].name}, {path.name}); keep one.")
            found[words[0]] = path
    if len(found) < 2 or "train" not in found:
        return None
    missing = [split for split in ("validation", "test") if split not in found]
    if missing:
        raise KitError(
            f"{folder} holds {found['train'].name} but no {missing[0]} file; add one, or give the train file alone."
        )
    return found


def folder_documents(folder: Path, text_field: str) -> Iterator[Document]:
    """One document for each text file below `folder`, named by its place; each row of a .jsonl or .parquet is one."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix.lower() in SUFFIXES]
    if not files:
        raise KitError(f"The folder {folder} holds no text (.txt, .jsonl or .parquet); give one that does.")
    for path in files:
        place = path.relative_to(folder).as_posix()
        if path.suffix.lower() in TEXT_SUFFIXES:
            yield place, read_text(path)
        else:
            for number, (_, text) in enumerate(file_documents(path, None, text_field), start=1):
                yield f"{place}#{number}", text
