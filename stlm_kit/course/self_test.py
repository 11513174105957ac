"""The trial: an assignment's own test cells held against any answers, in one process and without a kernel.

It proves that the tests pass what is right and catch what is wrong. Only for code you trust: nothing is limited.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass

from stlm_kit.course.assignment import SETUP, Assignment, is_test, points
from stlm_kit.course.keyed_values import keyed
from stlm_kit.course.plain_values import guarded
from stlm_kit.course.rules import violations
from stlm_kit.course.stated_type import stated_type
from stlm_kit.errors import UsageError
from stlm_kit.notebook_files import suggest


@dataclass(frozen=True)
class Mark:
    """What one cell gave: a test cell its points, a public check none."""

    points: float
    passed: bool
    sentence: str = ""

    @property
    def earned(self) -> float:
        return self.points if self.passed else 0.0


def marks(assignment: Assignment, answers: Mapping[str, str] | None = None, key: str = "") -> dict[str, Mark]:
    """The mark of every test cell and public check, by cell id, in the notebook's order.

    answers: {exercise: its code}; the reference, as this key has it, stands in for the others. Each exercise runs in a
    namespace of its own. Raises UsageError for an exercise that is not there.
    """
    given = {assignment.exercise(name).id: code for name, code in (answers or {}).items()}
    found = {}
    for exercise in assignment.exercises:
        found |= marks_of(assignment, exercise.id, given.get(exercise.id), key)
    return found


def marks_of(assignment: Assignment, exercise_id: str, code: str | None = None, key: str = "") -> dict[str, Mark]:
    """`marks` of one exercise alone; code: None for the reference.

    A rule that is broken takes every mark of its exercise, as it does when nbgrader grades.
    """
    exercise = assignment.exercise(exercise_id)
    cells = {cell.id: cell for cell in keyed(assignment, key).cells if cell.cell_type == "code"}
    start = [cells[SETUP].source, cells[exercise.id].source if code is None else code]
    broken = violations(start, exercise.id, exercise)
    namespace = {"__name__": "__main__", "In": []}
    for source in start:
        _run(source, namespace)
    found, written, stated = {}, namespace.get(exercise.id), stated_type(assignment, exercise.id)
    for cell in (each for each in cells.values() if exercise.owns(each.id) and each.id != exercise.id):
        if callable(written):  # a test sees plain values, as it does when it is graded; a public check is the student's
            namespace[exercise.id] = guarded(written, exercise.id, stated) if is_test(cell) else written
        sentence = _run(cell.source, namespace)
        if broken and is_test(cell):
            sentence = broken[0]
        found[cell.id] = Mark(points(cell) if is_test(cell) else 0, not sentence, sentence)
    return found


def lost(assignment: Assignment, found: Mapping[str, Mark]) -> list[str]:
    """The test cells that did not pass, by id."""
    return [name for name, mark in found.items() if is_test(assignment.cells[name]) and not mark.passed]


def answer(assignment: Assignment, exercise_id: str, name: str) -> str:
    """The wrong solution of this name, as a student would hand it in. Raises UsageError with the near ones."""
    known = wrong(assignment, exercise_id)
    if name not in known:
        raise UsageError(f"{exercise_id} has no wrong solution {name!r}.{suggest(name, known)}")
    return (assignment.folder / "wrong" / exercise_id / f"{name}.py").read_text("utf-8")


def wrong(assignment: Assignment, exercise_id: str) -> list[str]:
    """The names of an exercise's wrong solutions."""
    folder = assignment.folder / "wrong" / assignment.exercise(exercise_id).id
    return sorted(path.stem for path in folder.glob("*.py"))


def _run(source: str, namespace: dict) -> str:
    """Execute a cell as a notebook would, its output dropped; "" or what it failed with, as one sentence."""
    namespace["In"].append(source)  # where IPython keeps what was run, and the desk reads it
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, "<cell>", "exec"), namespace)
    except (Exception, SystemExit) as error:
        first = next(iter(str(error).strip().splitlines()), "")
        return first if first and isinstance(error, AssertionError) else f"{type(error).__name__}: {first}"
    return ""
