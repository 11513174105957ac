"""course.yaml: who takes part, until when, and what lateness costs. Times are the course's own; marks are points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from stlm_kit.errors import KitError, first_sentence, near

Frozen = ConfigDict(extra="forbid", frozen=True)
DAY = 24 * 3600


def _text(value: object) -> object:
    """YAML reads 12345 as a number, and an id is a text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_text)]
Percent = Annotated[float, Field(ge=0, le=100)]


class Limits(BaseModel):
    """What one submission may use, so that a loop or a bomb costs its author alone."""

    model_config = Frozen

    cell_seconds: int = Field(20, ge=1, description="a cell is stopped after this long")
    total_seconds: int = Field(180, ge=1, description="a submission is stopped after this long; the rest earns nothing")
    memory_mib: int = Field(4096, ge=1024, description="address space of the kernel")
    file_mib: int = Field(64, ge=1, description="the longest file it may write")
    processes: int = Field(256, ge=32, description="processes and threads (no limit for root)")
    output_kib: int = Field(256, ge=1, description="what a cell may print before the rest is cut off")


class Late(BaseModel):
    """The late rule: `per_day` percent of the marks for each day begun, never below `floor` percent of them."""

    model_config = Frozen

    per_day: Percent = 0.0
    floor: Percent = 0.0
    refuse_after_days: float | None = Field(None, ge=0, description="later than this earns nothing; 0: no late work")


class Dates(BaseModel):
    """An assignment's due date; none is never late. A time without a zone is in the course's."""

    model_config = Frozen

    due: datetime | None = None
    canvas: str = Field(
        "", description='the column\'s name in Canvas, "Data and tokenizers (4711)"; default: the title'
    )
    moodle: str = Field("", description="the column's name in Moodle; default: the title")


class Extension(BaseModel):
    """More time for one student, for one assignment or (none named) for all."""

    model_config = Frozen

    student: Text
    assignment: str | None = None
    days: float = Field(gt=0)


class Student(BaseModel):
    """One line of the roster. `id` is the name of the student's folder or file; the rest is for an LMS's sake."""

    model_config = Frozen

    id: Text = Field(pattern=r"^\w[\w.@-]*$")
    name: str = ""
    email: str = ""
    canvas: Text = Field("", description="Canvas's own number: the column ID of its gradebook export")
    sis: Text = Field("", description="SIS User ID in Canvas, ID number in Moodle")
    login: Text = Field("", description="SIS Login ID in Canvas, username in Moodle")
    section: str = ""


class Course(BaseModel):
    """The content of course.yaml."""

    model_config = Frozen

    course: str = "The course"
    timezone: str = "UTC"
    grace_minutes: float = Field(0, ge=0, description="late by less than this is not late")
    late: Late = Late()
    limits: Limits = Limits()
    assignments: dict[str, Dates] = {}
    extensions: list[Extension] = []
    roster: list[Student] = Field([], description="empty: whoever hands in takes part")

    @model_validator(mode="after")
    def _fits_together(self) -> Course:
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"There is no timezone {self.timezone!r}; write one such as Europe/Berlin.") from error
        ids = [student.id for student in self.roster]
        if doubled := next((each for each in ids if ids.count(each) > 1), None):
            raise ValueError(f"The roster has {doubled!r} twice; give each student an id of their own.")
        for extension in self.extensions:
            if ids and extension.student not in ids:
                hint = near(extension.student, ids)
                raise ValueError(f"The extension for {extension.student!r} is for nobody on the roster.{hint}")
            if extension.assignment and extension.assignment not in self.assignments:
                hint = near(extension.assignment, self.assignments)
                raise ValueError(
                    f"An extension names the assignment {extension.assignment!r}, which has no due date.{hint}"
                )
        return self

    def student(self, student_id: str) -> Student:
        """The student of this id; one who is not on the roster has nothing but the id."""
        found = (student for student in self.roster if student.id == student_id)
        return next(found, None) or Student.model_construct(id=student_id)

    def due(self, assignment: str, student: str) -> datetime | None:
        """When this student has to hand in, extensions included, with a timezone; None without a due date."""
        due = self.assignments[assignment].due if assignment in self.assignments else None
        if due is None:
            return None
        own = (each for each in self.extensions if each.student == student and each.assignment in (None, assignment))
        due = due if due.tzinfo else due.replace(tzinfo=ZoneInfo(self.timezone))
        return due + timedelta(days=max((each.days for each in own), default=0.0))

    def lateness(self, assignment: str, student: str, handed_in: datetime) -> Lateness:
        """What a submission handed in at this time (with a timezone) keeps of its marks."""
        due = self.due(assignment, student)
        seconds = (handed_in - due).total_seconds() if due else 0.0
        if seconds <= 60 * self.grace_minutes:
            return Lateness(0, 1.0)
        days = math.ceil(seconds / DAY)
        if self.late.refuse_after_days is not None and seconds > DAY * self.late.refuse_after_days:
            return Lateness(days, 0.0)
        return Lateness(days, max(100 - days * self.late.per_day, self.late.floor) / 100)


@dataclass(frozen=True)
class Lateness:
    """How many days late (each day begun counts), and the share of the marks that is kept, 0 to 1."""

    days: int
    keeps: float

    def __str__(self) -> str:
        if not self.days:
            return ""
        return f"{self.days} day{'s' * (self.days > 1)} late, keeps {100 * self.keeps:g} %"


def read_course(path: Path) -> Course:
    """course.yaml, checked; a course with no roster and no dates where there is no such file.

    Raises KitError with one sentence for whatever is wrong in it.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        return Course.model_validate(content if content is not None else {})
    except FileNotFoundError:
        return Course()
    except ValidationError as error:
        raise KitError(f"{path}: {first_sentence(error)}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise KitError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error
