"""A submission's report: every mark with a sentence for the lost ones, kept in course/reports/ASSIGNMENT/STUDENT.json.

It is written once the gradebook has the marks, so that a report that is there says: this one is done.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from stlm_kit.paths import atomic_write

UNKNOWN = "unknown-"  # begins the report's file name where nobody on the roster handed it in
UNSORTED = "unsorted"  # stands for the assignment where it cannot be told


class Mark(BaseModel):
    """What a test cell gave; the sentence is "" for a mark that was earned."""

    model_config = ConfigDict(extra="forbid")

    points: float
    earned: float
    sentence: str = ""


class Report(BaseModel):
    """What became of one submission. `problem` says why it could not be graded; then there are no marks."""

    model_config = ConfigDict(extra="forbid")

    student: str  # "" for nobody on the roster
    name: str  # what the submission was called
    assignment: str
    file: str = ""
    handed_in: datetime | None = None
    fingerprint: str = ""  # of the submission, the tests and the kit: the same again need not be graded again
    marks: dict[str, Mark] = {}
    problem: str = ""
    remarks: list[str] = []  # for the student
    flags: list[str] = []  # for the teacher alone
    locked_in: bool = False
    seconds: float = 0.0

    @property
    def earned(self) -> float:
        return sum(mark.earned for mark in self.marks.values())

    @property
    def possible(self) -> float:
        return sum(mark.points for mark in self.marks.values())


def path(course: Path, report: Report) -> Path:
    """Where a report lies."""
    own = report.student or UNKNOWN + re.sub(r"[^\w.-]", "_", report.name)
    return course / "reports" / (report.assignment or UNSORTED) / f"{own}.json"


def write(course: Path, report: Report) -> None:
    atomic_write(path(course, report), report.model_dump_json(indent=1) + "\n")


def read(course: Path, assignment: str, student: str) -> Report | None:
    """A student's report; None where there is none, or a damaged one, which is as good as none."""
    place = course / "reports" / assignment / f"{student}.json"
    try:
        return Report.model_validate_json(place.read_bytes())
    except (OSError, ValidationError):
        return None


def students(course: Path, assignment: str) -> list[str]:
    """Who has a report on an assignment, by id, in order."""
    found = (course / "reports" / assignment).glob("*.json")
    return sorted(each.stem for each in found if not each.name.startswith(UNKNOWN))
