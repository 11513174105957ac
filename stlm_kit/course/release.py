"""A release: the source with the course's key drawn into it, proven, and what nbgrader leaves of it for students."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from stlm_kit.course import folder
from stlm_kit.course import self_test as trial
from stlm_kit.course.assignment import Assignment, Scalar, folders, points, read, region
from stlm_kit.course.keyed_values import MARKER, convention, keyed
from stlm_kit.errors import KitError
from stlm_kit.paths import atomic_write

PART = ".releasing"  # the folder in which a release is made before it takes the old one's place
CUT = ("SOLUTION", "HIDDEN TESTS")


@dataclass(frozen=True)
class Released:
    """What was released of one assignment."""

    name: str
    path: Path
    marks: float
    conventions: dict[str, tuple[str, Scalar]]  # by exercise: the convention's name and value


def release(names: list[str], key: str | None, course: Path, force: bool = False) -> list[Released]:
    """Release the named assignments (all where none is named) into a course folder; again is the same again.

    key: of the course; None for the one it has, "" for none, which is the published conventions. With another key than
    the course had, everything released before is released anew; refused once there are marks, unless `force`.

    Every reference is tried under the key before anything is written, and each assignment replaces its older release
    only when the new one holds no solution and no hidden test. Raises KitError where either fails, UsageError for an
    unknown name.
    """
    known = folder.read_key(course)
    key = known if key is None else key.strip()
    wanted = folders(names)
    older = {path.name for path in (course / "release").glob("*")}
    if older and key != known:
        if folder.has_marks(course) and not force:
            raise KitError(
                f"{course} has marks given under another key, which would no longer fit; "
                "release with the key it has (give none), or with --force to change it all the same."
            )
        wanted = [each for each in folders() if each in wanted or each.name in older]
    assignments = [read(each) for each in wanted]
    for assignment in assignments:
        _prove(assignment, key)
    folder.make(course)
    folder.write_key(course, key)
    return [_release(assignment, key, course) for assignment in assignments]


def _prove(assignment: Assignment, key: str) -> None:
    """Raise KitError unless the reference earns every mark and passes every public check."""
    for cell, mark in trial.marks(assignment, key=key).items():
        if not mark.passed:
            raise KitError(
                f"{assignment.name}: the reference fails in {cell} ({mark.sentence.rstrip('.')}); nothing was released."
            )


def _release(assignment: Assignment, key: str, course: Path) -> Released:
    """Have nbgrader cut the release beside the old one, look it through, and put it in its place."""
    name, file = assignment.name, f"{assignment.name}.ipynb"
    part = course / PART
    shutil.rmtree(part, ignore_errors=True)
    source = keyed(assignment, key)
    atomic_write(part / "source" / name / file, nbformat.writes(source) + "\n")
    api = folder.nbgrader(course, source_directory=f"{PART}/source", release_directory=f"{PART}/release")
    done = api.generate_assignment(name)
    if not done["success"]:
        causes = re.findall(r"^ *[\w.]*(?:Error|Exception): (.+?)\.?$", done.get("log", ""), re.MULTILINE)
        raise KitError(f"nbgrader would not release {name}: {causes[0] if causes else 'it gave no reason'}.")
    cut = nbformat.read(part / "release" / name / file, as_version=4)
    if left := leftover(source, cut):
        raise KitError(f"The release of {name} would show {left!r} to students; mend its source. Nothing was released.")
    for kind in ("source", "release"):
        atomic_write(course / kind / name / file, (part / kind / name / file).read_bytes())
    shutil.rmtree(part)
    return Released(
        name,
        course / "release" / name / file,
        sum(points(cell) for exercise in assignment.exercises for cell in assignment.tests(exercise.id)),
        {each.id: (each.convention.name, convention(assignment, each, key)) for each in assignment.exercises},
    )


def leftover(source: NotebookNode, cut: NotebookNode) -> str | None:
    """The first line of a release that students are not to see: of a solution, of a hidden test, or a marker of either.

    A line counts as hidden in its own cell, as often as it stands in the hidden part.
    """
    released = {cell.id: [line.strip() for line in cell.source.split("\n")] for cell in cut.cells}
    for cell in source.cells:
        shown = released.get(cell.id, [])
        for line in shown:
            if MARKER.search(line) or any(f"{edge} {name}" in line for edge in ("BEGIN", "END") for name in CUT):
                return line
        for name in CUT:
            written, hidden = [line.strip() for line in cell.source.split("\n")], region(cell.source, name)
            for line in hidden:
                if shown.count(line) > written.count(line) - hidden.count(line):
                    return line
    return None
