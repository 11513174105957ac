"""What was handed in: whose each notebook is, of which assignment, and when; whatever the folder looks like.

Known layouts: STUDENT/anything.ipynb, STUDENT.ipynb, nbgrader's STUDENT/ASSIGNMENT/x.ipynb (with its timestamp.txt),
and what Canvas and Moodle put into their downloads (lovelaceada_123_456_x.ipynb; "Ada Lovelace_123_assignsubmission").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from stlm_kit.course.cell_text import plain, same
from stlm_kit.course.course_file import Course, Student
from stlm_kit.errors import UsageError, near

LARGEST = 20 * 2**20  # bytes of a notebook that are still read
MOST_CODE = 200_000  # characters of code that are still looked through for rules
IGNORED = {"__MACOSX", "__pycache__", "timestamp.txt"}
DEFINES = re.compile(r"^def (\w+)\(", re.MULTILINE)
SAFE = re.compile(r"^\w[\w.@-]*$")


class Unreadable(Exception):
    """A file that is no notebook, with the sentence that says why."""


@dataclass(frozen=True)
class Cell:
    """A cell as handed in: the ids it claims (nbgrader's, its own), "code" or "markdown", its text, newlines plain."""

    ids: tuple[str, ...]
    kind: str
    source: str


@dataclass
class Submission:
    """One notebook handed in, or one thing that should have been one: then `problem` says why it cannot be graded."""

    name: str  # what the folder calls it
    student: str  # "" where nobody on the roster fits
    assignment: str  # "" where it cannot be told
    path: Path | None = None
    handed_in: datetime | None = None
    content: bytes = b""
    problem: str = ""
    remarks: list[str] = field(default_factory=list)
    untouched: bool = False  # as released, no answer in it


def cells(content: bytes) -> list[Cell]:
    """The cells of a notebook file, outputs dropped. Raises Unreadable for any other file; never anything else."""
    try:
        notebook = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Unreadable("The file is damaged: it is not JSON, as notebooks are.") from error
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise Unreadable("The file is not a notebook of format 4: it has no list of cells.")
    found = [_cell(each) for each in notebook["cells"] if isinstance(each, dict)]
    if sum(len(cell.source) for cell in found if cell.kind == "code") > MOST_CODE:
        raise Unreadable(f"The notebook has more than {MOST_CODE:,} characters of code.")
    return found


def _cell(raw: dict) -> Cell:
    source = raw.get("source", "")
    if isinstance(source, list):
        source = _joined([part for part in source if isinstance(part, str)])
    metadata = raw.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    grade_id = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    ids = tuple(each for each in (grade_id, raw.get("id")) if isinstance(each, str))
    kind = "code" if raw.get("cell_type") == "code" else "markdown"
    return Cell(ids, kind, plain(source) if isinstance(source, str) else "")


def _joined(lines: list[str]) -> str:
    """The text of a list of lines; some converters leave out the newlines that belong to them."""
    bare = len(lines) > 1 and not any(line.endswith(("\n", "\r")) for line in lines[:-1])
    return ("\n" if bare else "").join(lines)


def find(
    folder: Path,
    course: Course,
    assignments: dict[str, set[str]],
    wanted: Iterable[str],
    stubs: Iterable[str] = (),
) -> list[Submission]:
    """Everything in `folder` that somebody handed in, in order; the best notebook of each student and assignment.

    assignments: the ids of the cells of every released assignment, by name; an exercise's id is its function's name.
    wanted: those to be graded now; what belongs to another is left out. stubs: the exercises' cells as released: a
    notebook with nothing else in it is no attempt where there is another. Raises UsageError where there is no such
    folder, or nothing in it.
    """
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}; give the one that holds the submissions.")
    entries = [path for path in sorted(folder.iterdir()) if not _ignored(path)]
    if not entries:
        raise UsageError(f"There is nothing in {folder}; unpack the submissions there.")
    wanted = list(wanted)
    found = [each for entry in entries for each in _of_entry(entry, course, assignments, wanted)]
    for each in found:
        each.untouched = _untouched(each, stubs)
    kept = [each for each in found if not each.assignment or each.assignment in wanted]
    return _one_each(kept)


def _ignored(path: Path) -> bool:
    return path.name.startswith(".") or path.name in IGNORED


def _of_entry(entry: Path, course: Course, assignments: dict[str, set[str]], wanted: list[str]) -> list[Submission]:
    """What one file or folder directly below the submissions holds."""
    name = entry.name if entry.is_dir() else entry.stem
    student, problem = who(name, course)
    only = wanted[0] if len(wanted) == 1 else ""

    def trouble(sentence: str) -> list[Submission]:
        return [Submission(name, student, only, handed_in=_changed(entry), problem=sentence)]

    if entry.is_symlink():
        return trouble("It is a link to another place, and links are not followed.")
    paths = sorted(entry.rglob("*.ipynb")) if entry.is_dir() else [entry] if entry.suffix == ".ipynb" else []
    paths = [path for path in paths if path.is_file() and not any(map(_ignored, _below(path, entry)))]
    links = [path for path in paths if any(each.is_symlink() for each in _below(path, entry))]
    paths = [path for path in paths if path not in links]
    if not paths:
        return trouble("There is no notebook in the folder." if entry.is_dir() else f"{entry.name} is not a notebook.")
    return [_of_file(path, name, student, problem, assignments, only) for path in paths]


def _below(path: Path, entry: Path) -> list[Path]:
    """The path and the folders between it and `entry`."""
    return [each for each in (path, *path.parents) if entry in each.parents] or [path]


def _of_file(
    path: Path, name: str, student: str, problem: str, assignments: dict[str, set[str]], only: str
) -> Submission:
    found = Submission(name, student, "", path, _changed(path), problem=problem)
    try:
        if path.stat().st_size > LARGEST:
            raise Unreadable(f"The notebook is larger than {LARGEST // 2**20} MiB; clear its outputs and save it.")
        found.content = path.read_bytes()
        parts = cells(found.content)
    except OSError as error:
        parts, found.problem = [], problem or f"The file cannot be read: {error.strerror}."
    except Unreadable as error:
        parts, found.problem = [], problem or str(error)
    claimed = {each for cell in parts for each in cell.ids}
    ids = claimed | {name for cell in parts for name in DEFINES.findall(cell.source)}  # editors drop ids
    named = next((each for each in assignments if each in (path.parent.name, path.stem)), "")
    shared = {each: len(ids & known) for each, known in assignments.items()}
    likely = max(shared, key=shared.get, default="")
    found.assignment = likely if shared.get(likely) else named or only
    if not found.assignment and not found.problem:
        found.problem = "It cannot be told which assignment this is; name the file like the assignment."
    elif not found.problem and not claimed & assignments[found.assignment]:
        found.remarks.append("The notebook has none of the assignment's cells; answers are looked for by their names.")
    if found.assignment == path.parent.name:
        found.handed_in = _stamp(path.parent / "timestamp.txt") or found.handed_in
    return found


def _one_each(found: list[Submission]) -> list[Submission]:
    """One submission for a student and assignment: a readable one, called like the assignment, the newest."""
    best: dict[tuple[str, str], Submission] = {}
    others: dict[tuple[str, str], list[Submission]] = {}
    for each in found:
        key = (each.student or f"?{each.name}", each.assignment)
        others.setdefault(key, []).append(each)
        best[key] = max(best.get(key, each), each, key=_rank)
    for key, kept in best.items():
        if names := [each.path.name for each in others[key] if each is not kept and each.path]:
            kept.remarks.append(f"Several notebooks were handed in: {kept.path.name} counts, not {', '.join(names)}.")
    return list(best.values())


def _rank(each: Submission) -> tuple:
    named = each.path is not None and each.path.stem == each.assignment
    return (not each.problem, each.path is not None, not each.untouched, named, each.handed_in)


def _untouched(each: Submission, stubs: Iterable[str]) -> bool:
    """Whether every function that a notebook defines at the beginning of a line is one of the released stubs."""
    if each.problem or not each.path:
        return False
    written = [cell.source for cell in cells(each.content) if DEFINES.search(cell.source)]
    return bool(written) and all(any(same(source, stub) for stub in stubs) for source in written)


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.lstat().st_mtime, UTC).replace(microsecond=0)


def _stamp(path: Path) -> datetime | None:
    """The time in nbgrader's timestamp.txt, "2026-10-15 21:30:00.000000 UTC" say; None where there is none to read."""
    from nbgrader.utils import parse_utc

    try:
        return parse_utc(path.read_text("utf-8").strip()).replace(tzinfo=UTC)
    except (OSError, ValueError, TypeError, AttributeError, OverflowError):
        return None


# --- whose is it? ---


def who(name: str, course: Course) -> tuple[str, str]:
    """(the student's id, "") for what a folder or file is called, or ("", why nobody fits)."""
    if not course.roster:
        return (name, "") if SAFE.match(name) else ("", f"{name!r} cannot be a student's name here; use plain letters.")
    fitting = [student for student in course.roster if _fits(name, student)]
    if fitting:
        return max(fitting, key=lambda student: len(student.id)).id, ""
    hint = near(name, [student.id for student in course.roster])
    return "", f"Nobody on the roster is called {name!r}.{hint}"


def _fits(name: str, student: Student) -> bool:
    """Whether a folder or file of this name is the student's: an id of theirs, or what an LMS makes of their name."""
    name, parts = name.casefold(), name.casefold().split("_")
    own = {each.casefold() for each in (student.id, student.email, student.login, student.name) if each}
    words = student.name.casefold().split()
    sortable = "".join(re.findall(r"\w", "".join([*words[-1:], *words[:-1]])))  # Canvas: lovelaceada
    begins = name.startswith(tuple(f"{each}{mark}" for each in own for mark in "_-"))
    return name in own or begins or bool(sortable and parts[0] == sortable) or (student.canvas in parts[1:])
