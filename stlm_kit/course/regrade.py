"""`stlm course regrade`: after a test was mended, grade again what was handed in, and say whose marks moved.

Marks that a teacher gave by hand (in nbgrader's formgrader, say) stay, and go before nbgrader's as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stlm_kit.course import feedback, gradebook, reports
from stlm_kit.course.course_file import read_course
from stlm_kit.course.grade import grade_all, released
from stlm_kit.course.release import release
from stlm_kit.course.submissions import Submission


@dataclass(frozen=True)
class Moved:
    """A test cell whose automatic mark changed. by_hand: a teacher's mark, which counts as before; None without one."""

    assignment: str
    student: str
    cell: str
    before: float
    after: float
    by_hand: float | None

    def __str__(self) -> str:
        kept = "" if self.by_hand is None else f" (by hand: {self.by_hand:g}, kept)"
        return f"{self.assignment} · {self.student}: {self.cell} {self.before:g} -> {self.after:g}{kept}"


def regrade(course: Path, names: list[str] | None = None, say: Callable[[str], None] = print) -> list[Moved]:
    """Release the named assignments anew under the course's key, grade what was received, and give what moved.

    Raises KitError where nothing was released, where the mended reference fails, or where cells were added or taken
    away, which nbgrader does not allow once there are submissions.
    """
    wanted = [each.name for each in released(course, names)]
    release(wanted, None, course)
    everything = {each.name: each for each in released(course)}
    found = [each for name in wanted for each in received(course, name)]
    before = {
        (each.assignment, each.student): gradebook.scores(course, each.assignment, each.student) for each in found
    }
    rules = read_course(course / "course.yaml")
    for report in grade_all(found, everything, rules, course, say):
        if not report.problem:  # marks given by hand come into the feedback as well
            late = rules.lateness(report.assignment, report.student, report.handed_in) if report.handed_in else ""
            feedback.write(course, report, str(late))
    return [moved for (name, student), old in before.items() for moved in _moved(course, name, student, old)]


def received(course: Path, assignment: str) -> list[Submission]:
    """What students handed in for an assignment, from course/received, with the times it was handed in."""
    found = []
    for student in reports.students(course, assignment):
        report = reports.read(course, assignment, student)
        path = course / "received" / assignment / f"{student}.ipynb"
        if report and not report.problem and path.is_file():
            found.append(Submission(report.name, student, assignment, path, report.handed_in, path.read_bytes()))
    return found


def _moved(course: Path, assignment: str, student: str, old: dict[str, gradebook.Score]) -> list[Moved]:
    new = gradebook.scores(course, assignment, student)
    return [
        Moved(assignment, student, cell, old[cell].automatic, score.automatic, score.manual)
        for cell, score in new.items()
        if cell in old and old[cell].automatic != score.automatic
    ]
