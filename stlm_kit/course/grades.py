"""`stlm course grades`: the marks of the course as one file, for a spreadsheet, Canvas or Moodle.

A mark that a teacher gave by hand goes before nbgrader's. The late rule is applied here, and only to totals, so that
the gradebook and the exercises' columns keep what was earned. Who handed in nothing has empty cells, which Canvas and
Moodle leave alone; what could not be graded is 0.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from stlm_kit.course import gradebook, reports
from stlm_kit.course.assignment import Assignment
from stlm_kit.course.course_file import Course, Lateness, Student, read_course
from stlm_kit.course.grade import released
from stlm_kit.errors import KitError
from stlm_kit.paths import atomic_write

CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
MOODLE = ("First name", "Last name", "ID number", "Email address")


@dataclass(frozen=True)
class Result:
    """A student's points in one assignment, by exercise, before the late rule."""

    exercises: dict[str, float]
    lateness: Lateness

    @property
    def raw(self) -> float:
        return sum(self.exercises.values())

    @property
    def total(self) -> float:
        return self.raw * self.lateness.keeps


def export(course: Path, how: str) -> Path:
    """Write course/grades-FORMAT.csv and give its path. how: "csv", "canvas" or "moodle".

    Raises KitError where nothing was released, and where an LMS could not tell who is who.
    """
    rules = read_course(course / "course.yaml")
    assignments = [each.assignment for each in released(course)]
    students = rules.roster or _whoever_handed_in(course, assignments)
    write = {"csv": _plain, "canvas": _canvas, "moodle": _moodle}[how]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(write(course, rules, assignments, students))
    return atomic_write(course / f"grades-{how}.csv", text.getvalue())


def result(course: Path, rules: Course, assignment: Assignment, student: str) -> Result | None:
    """A student's result in an assignment; None where nothing was handed in."""
    report = reports.read(course, assignment.name, student)
    if report is None:
        return None
    scores = {} if report.problem else gradebook.scores(course, assignment.name, student)
    late = rules.lateness(assignment.name, student, report.handed_in) if report.handed_in else Lateness(0, 1.0)
    points = {
        exercise.id: sum(scores[cell.id].points for cell in assignment.tests(exercise.id) if cell.id in scores)
        for exercise in assignment.exercises
        if exercise.graded
    }
    return Result(points, late)


def _plain(course: Path, rules: Course, assignments: list[Assignment], students: list[Student]) -> list[list[str]]:
    """One row for each student, one column for each exercise, then raw, days late and total of each assignment."""
    head, rows = ["student", "name", "email"], [[each.id, each.name, each.email] for each in students]
    for assignment in assignments:
        graded = [exercise.id for exercise in assignment.exercises if exercise.graded]
        head += [f"{assignment.name}: {what}" for what in (*graded, "earned", "days late", "total")]
        for row, student in zip(rows, students, strict=True):
            if found := result(course, rules, assignment, student.id):
                row += [_number(found.exercises[name]) for name in graded]
                row += [_number(found.raw), str(found.lateness.days), _number(found.total)]
            else:
                row += [""] * (len(graded) + 3)
    return [head, *rows]


def _canvas(course: Path, rules: Course, assignments: list[Assignment], students: list[Student]) -> list[list[str]]:
    """Canvas's own gradebook export, as its import reads it: five columns that say who, then one an assignment.

    A column called "Title (123)" is the assignment of that number; any other name makes a new assignment.
    """
    if not any(student.canvas or student.sis or student.login for student in students):
        raise KitError("Canvas needs to know who is who: give each student in course.yaml `canvas`, `sis` or `login`.")
    possible = ["    Points Possible", "", "", "", "", *(_number(_possible(each)) for each in assignments)]
    rows = []
    for each in students:
        own = [_last_first(each.name) or each.id, each.canvas, each.sis, each.login, each.section]
        rows.append([*own, *_totals(course, rules, assignments, each)])
    return [[*CANVAS, *(_column(rules, each, "canvas") for each in assignments)], possible, *rows]


def _moodle(course: Path, rules: Course, assignments: list[Assignment], students: list[Student]) -> list[list[str]]:
    """Moodle's "Import: CSV file": map `Email address` to useremail (or `ID number` to useridnumber), then the rest."""
    if not any(student.email or student.sis for student in students):
        raise KitError("Moodle needs to know who is who: give each student in course.yaml `email` or `sis`.")
    rows = []
    for each in students:
        own = [*_first_and_last(each.name), each.sis, each.email]
        rows.append([*own, *_totals(course, rules, assignments, each)])
    return [[*MOODLE, *(_column(rules, each, "moodle") for each in assignments)], *rows]


def _totals(course: Path, rules: Course, assignments: list[Assignment], student: Student) -> list[str]:
    found = [result(course, rules, assignment, student.id) for assignment in assignments]
    return ["" if each is None else _number(each.total) for each in found]


def _column(rules: Course, assignment: Assignment, lms: str) -> str:
    dates = rules.assignments.get(assignment.name)
    return (getattr(dates, lms) if dates else "") or assignment.title


def _possible(assignment: Assignment) -> float:
    graded = [exercise for exercise in assignment.exercises if exercise.graded]
    return sum(cell.metadata.nbgrader.points for exercise in graded for cell in assignment.tests(exercise.id))


def _whoever_handed_in(course: Path, assignments: list[Assignment]) -> list[Student]:
    """Without a roster: everybody with a report."""
    names = {name for assignment in assignments for name in reports.students(course, assignment.name)}
    return [Student.model_construct(id=name) for name in sorted(names)]


def _first_and_last(name: str) -> tuple[str, str]:
    first, _, last = name.rpartition(" ")
    return first, last


def _last_first(name: str) -> str:
    first, last = _first_and_last(name)
    return f"{last}, {first}" if first else last


def _number(value: float) -> str:
    """Two decimals at most, which is what an LMS keeps; a half is rounded up, as people do."""
    rounded = Decimal(f"{value:.6f}").quantize(Decimal("0.01"), ROUND_HALF_UP)
    return f"{rounded:f}".rstrip("0").rstrip(".")
