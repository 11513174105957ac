"""Read documents from a file: text, JSON lines or Parquet, plain or compressed. A document is a (name, text) pair.

Every reader is a generator, so reading stops early where few documents are wanted. Errors name the byte, line or row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from stlm_kit.data.fields import json_documents, jsonl_documents, parquet_documents
from stlm_kit.data.open_file import COMPRESSED, opened, shown, suffixes
from stlm_kit.data.wikitext import articles_of
from stlm_kit.errors import KitError, UsageError

Document = tuple[str, str]

TEXT_SUFFIXES = (".txt", ".text", ".md", ".raw", ".tokens")
ROW_SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")
ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")
BLANK_LINES = re.compile(r"\r?\n(?:[ \t]*\r?\n)+")  # indentation of the next line belongs to that line
BLANK_START, BLANK_END = re.compile(r"\A(?:[ \t]*\r?\n)+"), re.compile(r"(?:\r?\n[ \t]*)+\Z")
# Lines that divide documents in files such as TinyStories'. The same mark inside a line is ordinary text.
END_LINES = re.compile(r"^<\|(?:endoftext|end_of_text)\|>[ \t]*\r?$", re.MULTILINE)


def read_text(path: Path) -> str:
    """The whole of a UTF-8 file without its byte-order mark. KitError names the byte where it is not UTF-8."""
    with opened(path) as file:
        raw = file.read()
    name = shown(path)
    if not raw.strip():
        raise KitError(f"The file {name} is empty; give one that holds text.")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise KitError(
            f"The file {name} is not UTF-8 text: byte 0x{raw[error.start]:02x} at offset {error.start}; "
            "convert it to UTF-8 (iconv -t utf-8) or give another file."
        ) from None
    if "\0" in text:
        raise KitError(
            f"The file {name} looks binary: byte 0x00 at offset {raw.index(0)}; give a file of plain UTF-8 text."
        )
    return text.removeprefix("\ufeff")


def end_line(text: str) -> str | None:
    """The end mark that stands alone on a line of `text`, such as "<|endoftext|>", or None."""
    found = END_LINES.search(text)
    return found[0].strip() if found else None


def text_documents(path: Path, separator: str | None = None, whole: bool = False) -> Iterator[Document]:
    """The documents of a text file; see `documents_in`."""
    return documents_in(read_text(path), shown(path.name), separator, whole)


def documents_in(
    text: str, name: str, separator: str | None = None, whole: bool = False, marked: bool = False
) -> Iterator[Document]:
    """The documents of a file's text, unchanged except that empty lines around a document are removed.

    They are divided by `separator` where one is given. Otherwise lines that hold only an end mark divide them
    ("<|endoftext|>", as in TinyStories), then WikiText's article headings, then blank lines.

    whole: the text is one document. marked: another file of the corpus has end marks, so a file without them is one
    document. Raises UsageError for an empty separator.
    """
    if separator == "":
        raise UsageError("The separator is empty; give what stands between documents, or none for blank lines.")
    if separator is not None:
        pieces = (piece.strip("\r\n") for piece in text.split(separator))
    elif marked or end_line(text):
        pieces = (piece.strip("\r\n") for piece in END_LINES.split(text))
    elif articles := articles_of(text):
        pieces = iter(articles)
    elif whole:
        yield name, text
        return
    else:
        pieces = (BLANK_END.sub("", BLANK_START.sub("", piece)).strip("\r\n") for piece in BLANK_LINES.split(text))
    for number, piece in enumerate((piece for piece in pieces if piece.strip()), start=1):
        yield f"{name}#{number}", piece


def kind_of(path: Path | str) -> str | None:
    """What a file holds by its suffix, compressed or not: "text", "jsonl", "json" or "parquet".

    None for other suffixes.
    """
    suffix, _ = suffixes(path)
    if suffix in TEXT_SUFFIXES:
        return "text"
    return {".ndjson": "jsonl"}.get(suffix, suffix[1:]) if suffix in ROW_SUFFIXES else None


def file_documents(path: Path, separator: str | None, text_field: str, whole: bool = False) -> Iterator[Document]:
    """The non-empty documents of one file, read by its suffix. whole: a text file is one document.

    Raises UsageError for an unknown suffix, or for a separator with a file of rows.
    """
    kind = kind_of(path)
    if kind == "text":
        return text_documents(path, separator, whole)
    if kind is None:
        raise UsageError(_unknown(path))
    if separator is not None:
        raise UsageError(f"A separator divides text files, and {shown(path.name)} has a document a row; leave it out.")
    rows = {"jsonl": jsonl_documents, "json": json_documents, "parquet": parquet_documents}[kind](path, text_field)
    return ((name, text) for name, text in rows if text.strip())


def _unknown(path: Path) -> str:
    suffix, compression = suffixes(path)
    if suffix in ARCHIVES:
        return f"{shown(path.name)} is an archive; unpack it and give the folder or file that it holds."
    what = f"before {compression} " if compression in COMPRESSED else ""
    return (
        f"The suffix {what}of {shown(path.name)} does not say what it holds; "
        "give a .txt, .jsonl or .parquet file, or a folder."
    )
