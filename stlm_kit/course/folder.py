"""The teacher's course folder, `course/`: nbgrader's folders and gradebook, and the key of the course.

It holds solutions, hidden tests and marks, so only its owner can look into it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stlm_kit.errors import KitError
from stlm_kit.paths import atomic_write

if TYPE_CHECKING:
    from nbgrader.apps.api import NbGraderAPI

# What a student finds where the solution stood.
UNWRITTEN = 'raise NotImplementedError("Write this function: your code takes the place of this line.")'


def make(course: Path) -> None:
    """Make the folder, closed to others. Raises KitError where that cannot be."""
    try:
        course.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KitError(f"Could not make {course}: {error.strerror}; name another folder in STLM_COURSE.") from error


def read_key(course: Path) -> str:
    """The key of the course; "" for one with the published conventions, or none released yet."""
    try:
        return (course / "key").read_text("utf-8").strip()
    except FileNotFoundError:
        return ""


def write_key(course: Path, key: str) -> None:
    """Keep the key of the course, for its owner's eyes; no key takes the file away."""
    if key:
        atomic_write(course / "key", key + "\n", mode=0o600)
    else:
        (course / "key").unlink(missing_ok=True)


def nbgrader(course: Path, **directories: str) -> NbGraderAPI:
    """nbgrader's own interface to the course folder; `directories` overrides names such as `release_directory`.

    Raises KitError where nbgrader is not installed.
    """
    try:
        from nbgrader.apps.api import NbGraderAPI
        from traitlets.config import Config
    except ImportError as error:
        raise KitError("The course needs nbgrader; install it with pip install 'stlm_kit[dev]'.") from error
    programs = str(Path(sys.executable).parent)
    if programs not in os.environ["PATH"].split(os.pathsep):  # nbgrader makes its gradebook with a program of there
        os.environ["PATH"] = programs + os.pathsep + os.environ["PATH"]
    config = Config(CourseDirectory={"root": str(course), **directories})
    config.ClearSolutions.code_stub = {"python": UNWRITTEN}
    return NbGraderAPI(config=config)


def has_marks(course: Path) -> bool:
    """Whether the gradebook knows any submission."""
    if not (course / "gradebook.db").exists():
        return False
    with nbgrader(course).gradebook as gradebook:
        return any(gradebook.assignment_submissions(assignment.name) for assignment in gradebook.assignments)
