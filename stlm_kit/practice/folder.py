"""The student's folder: a practice copy of every chapter, and the assignments as they are released without a key."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import nbformat

from stlm_kit.errors import KitError
from stlm_kit.notebook_files import Chapter, find_chapters, notebooks_dir
from stlm_kit.paths import atomic_write, project_dir
from stlm_kit.practice.student_copy import digest, of_chapter, practice_copy, read

NEW, KEPT, OLDER = "new", "kept", "made from an older chapter"


@dataclass(frozen=True)
class Made:
    """What became of one notebook. moved_to: where the student's older file lies, where it was made anew."""

    path: Path
    state: str
    moved_to: Path | None = None


def practice_dir() -> Path:
    """Where the student's course goes: notebooks/practice of a checkout, practice/ of the working folder elsewhere."""
    home = project_dir() / "notebooks"
    return home / "practice" if home.is_dir() and home == notebooks_dir() else Path.cwd() / "practice"


def make_practice(folder: Path, names: list[str] | None = None, again: bool = False) -> list[Made]:
    """Write what is missing of the student's course; a notebook that is there is the student's and stays.

    names: chapters, by number or name; none means all, and the assignments. again: those named are made anew, and the
    student's older file is moved beside it. Raises KitError where the folder cannot be written, UsageError for a
    chapter that does not exist.
    """
    made = [_chapter(folder, chapter, again) for chapter in find_chapters(names or [])]
    return made if names else made + _assignments(folder / "assignments")


def _chapter(folder: Path, chapter: Chapter, again: bool) -> Made:
    path, committed = folder / chapter.path.name, read(chapter.path)
    moved_to = None
    if path.exists():
        if not again:
            return Made(path, KEPT if _made_from(path) == digest(committed) else OLDER)
        moved_to = _set_aside(path)
    atomic_write(path, nbformat.writes(practice_copy(committed, chapter.name)) + "\n")
    return Made(path, NEW, moved_to)


def _made_from(path: Path) -> str | None:
    """The digest of the chapter that a copy was made from; None where the file tells none."""
    try:
        return of_chapter(read(path)).get("sources")
    except Exception:  # whatever nbformat thinks of a damaged file: it is the student's
        return None


def _set_aside(path: Path) -> Path:
    """Rename a student's file to NAME.mine-1.ipynb, or the next number that is free."""
    number = 1
    while (aside := path.with_name(f"{path.stem}.mine-{number}.ipynb")).exists():
        number += 1
    try:
        return path.rename(aside)
    except OSError as error:
        raise KitError(f"Could not move {path}: {error.strerror}; nothing was made anew.") from error


def _assignments(folder: Path) -> list[Made]:
    """The assignments without solutions and hidden tests; nbgrader has to be there to cut them."""
    from stlm_kit.course.assignment import folders
    from stlm_kit.course.release import release

    wanted = {each.name: folder / f"{each.name}.ipynb" for each in folders()}
    missing = [name for name, path in wanted.items() if not path.exists()]
    if missing:
        with tempfile.TemporaryDirectory(prefix="stlm-practice-") as course:
            for released in release(missing, "", Path(course)):
                atomic_write(wanted[released.name], released.path.read_bytes())
    return [Made(path, NEW if name in missing else KEPT) for name, path in wanted.items()]
