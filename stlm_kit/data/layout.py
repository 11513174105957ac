"""The layout of a folder: its data files, the split that it comes with, and what is not read.

The split is told by names of files (wiki.train.raw, valid.txt, train-00000-of-00002.parquet) or of folders (train/,
dev/), in the folder itself or in a folder below it (data/train-*.parquet). A folder's own split is either used or
refused with an error; its parts are never mixed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stlm_kit.data.documents import kind_of
from stlm_kit.data.leftovers import is_leftover, is_page
from stlm_kit.data.open_file import shown, suffixes
from stlm_kit.errors import KitError

SPLITS = ("train", "validation", "test")
SPLIT_WORDS = {  # the words of `datasets`, so that a folder made for it means the same here, and a few more
    "train": "train", "training": "train", "trn": "train",
    "valid": "validation", "validation": "validation", "val": "validation", "dev": "validation", "devel": "validation",
    "test": "test", "testing": "test", "tst": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_WORD = (
    f"({'|'.join(sorted(SPLIT_WORDS, key=len, reverse=True))}) ?(?:set|data|split|part|texts?|files?|docs?|shards?)?"
)
# The word of a split stands alone between dots, dashes and digits. Among several words with blanks it is the first or
# the last word, or the name is an ordinary text, such as "a train journey.txt".
NAMED = re.compile(rf"(?:.* )?{_WORD}|{_WORD} .*")
OF = re.compile(r"(\d+)-of-(\d+)")  # how shards are numbered: train-00000-of-00002


@dataclass
class Part:
    """The files of one split, or of a whole corpus. whole: each text file among them is one document."""

    files: list[Path]
    whole: bool


@dataclass
class Layout:
    """A folder as it is read.

    parts: by split where the folder has its own, else all under "all". left_out: names of files that are not read.
    """

    parts: dict[str, Part]
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def split_of(name: str) -> str | None:
    """The split that a file's or folder's name tells, or None where it tells none or several."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()  # TrainSet is train set
    pieces = (piece.strip() for piece in re.split(r"[._\-\d()\[\]+,]+", spaced))
    found = {SPLIT_WORDS[match[1] or match[2]] for piece in pieces if (match := NAMED.fullmatch(piece))}
    return found.pop() if len(found) == 1 else None


def is_data(path: Path) -> bool:
    """Whether a file holds documents, judged by its path inside the given folder.

    A plain .json beside texts is metadata, unless it or a folder around it is named after a split.
    """
    kind = kind_of(path)
    return kind is not None and (kind != "json" or suffixes(path)[1] != "" or any(map(split_of, path.parts)))


def read_layout(folder: Path) -> Layout:
    """The layout of `folder`. KitError for a folder without text, and for a split that is ambiguous or incomplete."""
    files, left_out = _walk(folder)
    pages = [path for path in files if is_page(path.name)]
    if len(pages) < len(files):  # a folder with only READMEs is a corpus of READMEs
        files = [path for path in files if not is_page(path.name)]
        left_out += [path.relative_to(folder).as_posix() for path in pages]
    if not files:
        holds = f" but {_list(left_out)}" if left_out else ""
        raise KitError(
            f"The folder {shown(folder)} holds no text (.txt, .jsonl or .parquet){holds}; give one that does."
        )
    _no_twins(folder, files)
    places = list(_places(folder, files))
    if not places:
        return _pool(folder, files, left_out)
    if len(places) > 1:
        names = _list([place.relative_to(folder).as_posix() for place in places])
        raise KitError(f"{shown(folder)} holds several corpora with a split of their own ({names}); give one of them.")
    return _split(folder, places[0], files, left_out)


def _split(folder: Path, place: Path, files: list[Path], left_out: list[str]) -> Layout:
    """The layout of a folder whose split is in `place`, the folder itself or one below it."""
    found = _named(place, files)
    layout = Layout({})
    for split, entries in found.items():
        names = sorted(entries)
        if len({_template(name) for name in names}) > 1:
            raise KitError(
                f"{shown(place)} holds two {split} parts ({shown(names[0])} and {shown(names[-1])}); keep one."
            )
        layout.notes += _incomplete(place, names)
        for name in sorted(names, key=_numbers):
            folders = (place / name).is_dir()
            part = layout.parts.setdefault(split, Part([], True))
            part.files.extend(entries[name])
            part.whole = folders and not _are_shards(part.files)
    missing = [split for split in SPLITS if split not in found]
    if missing:
        there = " and ".join(shown(min(entries)) for entries in found.values())
        unread = [name for name in left_out if missing[0] in map(split_of, Path(name).parts)]
        but = f" that can be read (not {_list(unread)})" if unread else ""
        raise KitError(
            f"{shown(place)} holds {there} but no {missing[0]} file or folder{but}; add one, or give a folder that "
            "holds nothing but the texts of one part."
        )
    used = {path for part in layout.parts.values() for path in part.files}
    others = [path.relative_to(folder).as_posix() for path in files if path not in used]
    if others and place != folder:
        raise KitError(
            f"{shown(folder)} holds a split in {shown(place.relative_to(folder))} and other texts beside it "
            f"({_list(others)}); give {shown(place)}, or move one of the two."
        )
    layout.parts = {split: layout.parts[split] for split in SPLITS}
    layout.left_out = sorted(left_out + others)
    return layout


def _pool(folder: Path, files: list[Path], left_out: list[str]) -> Layout:
    """The layout of a folder without a split of its own.

    Shards, and a single file named as a part of a split, are divided into documents as they would be beside other
    parts.
    """
    found = _named(folder, files)
    divided = _are_shards(files) or (len(files) == 1 and len(found) == 1 and files[0].parent == folder)
    notes = []
    if divided:
        files = sorted(files, key=lambda path: (path.parent, _numbers(path.name)))
        for place in sorted({path.parent for path in files}):
            notes += _incomplete(place, [path.name for path in files if path.parent == place])
    return Layout({"all": Part(files, not divided)}, sorted(left_out), notes)


def _places(folder: Path, files: list[Path]) -> Iterator[Path]:
    """The folders, from `folder` down, whose entries are named after splits. Their subfolders are not searched.

    files: the data files below `folder`. KitError where all entries are named after splits but none of them is train.
    """
    entries = _entries(folder, files)
    found = {split for name in entries if (split := split_of(name))}
    if len(found) > 1 and "train" in found:
        yield folder
        return
    if len(found) > 1 and all(map(split_of, entries)):
        raise KitError(
            f"{shown(folder)} holds {' and '.join(sorted(found))} but no train file or folder; add one, or give one "
            "of them."
        )
    for name, below in entries.items():
        if below != [folder / name]:
            yield from _places(folder / name, below)


def _entries(folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    """{entry of `folder`: the data files which that entry is or holds}."""
    found: dict[str, list[Path]] = {}
    for path in files:
        if path.is_relative_to(folder):
            found.setdefault(path.relative_to(folder).parts[0], []).append(path)
    return found


def _named(folder: Path, files: list[Path]) -> dict[str, dict[str, list[Path]]]:
    """{split: {entry of `folder` named after it: the data files which that entry is or holds}}."""
    found: dict[str, dict[str, list[Path]]] = {}
    for name, below in _entries(folder, files).items():
        if split := split_of(name):
            found.setdefault(split, {})[name] = below
    return found


def _are_shards(files: list[Path]) -> bool:
    """Whether all files are numbered as pieces of one text. A piece is not a document."""
    return all(OF.search(path.name) for path in files)


def _template(name: str) -> str:
    """A name with "#" for the numbers after its split's word, so that all shards of a split give the same."""
    word = re.search(rf"(?<![^\W\d_]){_WORD}(?![^\W\d_])", name.lower())
    end = word.end() if word else 0
    return name[:end] + re.sub(r"\d+", "#", name[end:])


def _numbers(name: str) -> list[tuple[int, str]]:
    """A key that sorts shards by number: train-2 before train-10."""
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", name)]


def _incomplete(place: Path, names: list[str]) -> list[str]:
    """Notes on shards that are missing, judged by their names. KitError where the shards belong to two sets."""
    found = [match for name in names if (match := OF.search(name))]
    totals = sorted({int(match[2]) for match in found})
    if len(totals) > 1:
        raise KitError(
            f"{shown(place)} holds shards of two sets (of {totals[0]} and of {totals[1]}, beside {shown(names[0])}); "
            "keep one."
        )
    if found and len(found) < totals[0]:
        return [f"{len(found)} of the {totals[0]:,} shards of {shown(names[0])} are there"]
    return []


def _no_twins(folder: Path, files: list[Path]) -> None:
    """Raise KitError where a folder holds both a file and its compressed copy, because the text would count twice."""
    there = set(files)
    for path in files:
        if suffixes(path)[1] and path.with_suffix("") in there:
            name = shown(path.relative_to(folder))
            raise KitError(f"{shown(folder)} holds {name} and the same file not compressed; keep one of the two.")


def _walk(folder: Path) -> tuple[list[Path], list[str]]:
    """(data files below `folder` in the order of their names, names of files that are not read).

    Links are followed, except to files that are in the folder anyway, which would be read twice.
    """
    files: list[Path] = []
    left_out: list[str] = []
    root = Path(os.path.realpath(folder))
    followed = {root}

    def wanted(entry: os.DirEntry) -> bool:
        if is_leftover(entry.name):
            return False
        if not entry.is_symlink():
            return True
        target = Path(os.path.realpath(entry.path))
        again = target.is_relative_to(root) and (target.is_dir() or is_data(target.relative_to(root)))
        if again or root.is_relative_to(target) or target in followed:
            return False
        followed.add(target)
        return True

    def visit(place: Path) -> None:
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            raise KitError(
                f"Could not look into {shown(place)}: {error.strerror}; check the path and its permissions."
            ) from error
        for entry in entries:
            path = place / entry.name
            inside = path.relative_to(folder)
            if not wanted(entry):
                left_out.append(inside.as_posix())
            elif entry.is_dir():
                visit(path)
            elif entry.is_file() and is_data(inside):
                files.append(path)
            else:
                left_out.append(inside.as_posix())

    visit(folder)
    return sorted(files), left_out


def _list(names: list[str], most: int = 3) -> str:
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + rest
