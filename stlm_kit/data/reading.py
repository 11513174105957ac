"""Read a path's documents, and record which files were read, which were not, and anything notable about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from stlm_kit.data.documents import Document, documents_in, end_line, file_documents, kind_of, read_text
from stlm_kit.data.layout import Layout, Part, read_layout
from stlm_kit.data.open_file import shown
from stlm_kit.data.shipped import as_shipped
from stlm_kit.errors import KitError, UsageError

MOST_NAMES = 100  # how many file names a record keeps; its sentence names three
INLINE_ENDS = ("<|endoftext|>", "<|end_of_text|>")


@dataclass
class Record:
    """What was read.

    files: (name, size in bytes) of each. left_out: names of files that were not read. notes: one phrase each.
    """

    files: list[tuple[str, int]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """One line: "Read 2 files, 10 bytes (a.txt, b.txt); not read: c.png." Empty where no file was named."""
        if not self.files:
            return ""
        size = sum(size for _, size in self.files)
        files = f"{len(self.files):,} file{'s' if len(self.files) > 1 else ''}"
        parts = [f"Read {files}, {size:,} bytes ({_some([name for name, _ in self.files])})"]
        parts += [f"not read: {_some(self.left_out)}"] if self.left_out else []
        return "; ".join([*parts, *self.notes]) + "."

    def to_dict(self) -> dict:
        """The record for config.json. Long lists are cut to the first MOST_NAMES names; their full lengths are kept."""
        return {
            "n_files": len(self.files),
            "file_bytes": sum(size for _, size in self.files),
            "files": [name for name, _ in self.files[:MOST_NAMES]],
            "n_not_read": len(self.left_out),
            "not_read": [shown(name) for name in self.left_out[:MOST_NAMES]],
            "notes": list(self.notes),
        }


def _some(names: list[str], most: int = 3) -> str:
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + rest


class Reader:
    """Reads a path's documents with one set of options and keeps the record of it."""

    def __init__(self, root: Path, separator: str | None, text_field: str, max_documents: int | None):
        self.root, self.separator, self.text_field, self.max_documents = root, separator, text_field, max_documents
        self.record = Record()
        self._marked = False  # whether an earlier file is divided by end marks
        self._divided = False

    def read(self) -> dict[str, list[Document]]:
        """{split: documents} where the path has its own split, else all under "all"."""
        one_file = self.root.is_file()
        layout = Layout({"all": Part([self.root], False)}) if one_file else read_layout(self.root)
        self.record.left_out, self.record.notes = layout.left_out, list(layout.notes)
        kinds = {kind_of(path) for part in layout.parts.values() for path in part.files}
        if self.separator is not None and kinds and not kinds & {"text", None}:
            raise UsageError(
                f"A separator divides text files, and {shown(self.root)} has a document a row; leave it out."
            )
        found = {split: list(islice(self._part(part), self.max_documents)) for split, part in layout.parts.items()}
        texts = [text for documents in found.values() for _, text in documents]
        if copies := len(texts) - len(set(texts)):
            self._note(f"{copies:,} of {len(texts):,} documents are copies of others, perhaps in two splits")
        if self.separator is not None and not self._divided:
            raise UsageError(
                f"The separator {self.separator!r} stands nowhere in {shown(self.root)}; give what stands between "
                "documents there, or none for blank lines."
            )
        return found

    def _part(self, part: Part) -> Iterator[Document]:
        for path in part.files:
            name = shown(path.name if self.root == path else path.relative_to(self.root).as_posix())
            self.record.files.append((name, path.stat().st_size))
            for document, text in self._file(path, part.whole):
                yield name + document.removeprefix(shown(path.name)), text

    def _file(self, path: Path, whole: bool) -> Iterable[Document]:
        if kind_of(path) != "text":
            return file_documents(path, None, self.text_field)
        text, name = read_text(path), shown(path.name)
        if self.separator is not None:
            self._divided |= self.separator in text
            return documents_in(text, name, self.separator)
        if whole and (shipped := as_shipped(path, text)) is not None:
            return [(name, shipped)]
        if mark := end_line(text):
            if not self._marked:
                self._note(f"documents are divided by lines of {mark}")
            self._marked = True
        elif not self._marked:
            for mark in INLINE_ENDS:
                if count := text.count(mark):
                    self._note(
                        f"{mark} stands {count:,} times inside lines of {name} and is text there, unless "
                        f"separator={mark!r} says that it divides documents"
                    )
        return documents_in(text, name, None, whole, self._marked)

    def _note(self, note: str) -> None:
        if len(self.record.notes) < MOST_NAMES:
            self.record.notes.append(note)


def read_path(
    path: Path, separator: str | None, text_field: str, max_documents: int | None
) -> tuple[dict[str, list[Document]], Record]:
    """(split -> documents, the record) of a file or folder. Without a split of its own, all are under "all".

    Raises KitError for content that cannot be read as documents, UsageError for an option that does not fit the files.
    """
    reader = Reader(path, separator, text_field, max_documents)
    try:
        return reader.read(), reader.record
    except OSError as error:  # such as a file that was deleted meanwhile
        raise KitError(
            f"Could not read {shown(path)}: {error.strerror}; check the path and its permissions."
        ) from error
