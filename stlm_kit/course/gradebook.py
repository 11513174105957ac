"""nbgrader as the grader: it takes a submission whose cells were run in the sandbox, and keeps the marks.

nbgrader's own autograde does what it always does (locked cells put back from its gradebook, a mark for each test cell
that did not fail), except that the outputs come from the sandbox instead of a kernel of its own.
"""

from __future__ import annotations

import re
import shutil
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from stlm_kit.course import folder
from stlm_kit.errors import KitError
from stlm_kit.paths import atomic_write


@dataclass(frozen=True)
class Score:
    """What the gradebook holds of one test cell, in points: nbgrader's mark, and a teacher's that goes before it."""

    automatic: float
    manual: float | None
    extra: float

    @property
    def points(self) -> float:
        return (self.automatic if self.manual is None else self.manual) + self.extra


def quiet() -> None:
    """Leave out SQLAlchemy's doubts about nbgrader's models. For the process: to be called before threads start."""
    from sqlalchemy.exc import SAWarning

    warnings.filterwarnings("ignore", category=SAWarning)


def record(course: Path, assignment: str, student: str, executed: NotebookNode, handed_in: datetime | None) -> None:
    """Have nbgrader grade an executed notebook and write the marks into the gradebook.

    The notebook goes to submitted/ without its outputs and comes to lie in autograded/ with them. Raises KitError with
    nbgrader's own complaint.
    """
    from nbgrader.converters import Autograde
    from nbgrader.preprocessors import CheckCellMetadata, SaveAutoGrades

    submitted = course / "submitted" / student / assignment
    shutil.rmtree(submitted, ignore_errors=True)
    bare = nbformat.from_dict(executed)
    outputs = {cell.id: cell.outputs for cell in executed.cells if cell.cell_type == "code"}
    atomic_write(submitted / f"{assignment}.ipynb", nbformat.writes(bare))
    if handed_in is not None:
        atomic_write(submitted / "timestamp.txt", f"{handed_in.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC\n")

    def fill_in(notebook: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = outputs.get(cell.id, [])
        return notebook, resources

    convert(
        course, assignment, student, Autograde, autograde_preprocessors=[fill_in, SaveAutoGrades, CheckCellMetadata]
    )


def convert(course: Path, assignment: str, student: str, converter: type, **settings: Any) -> None:
    """Run one of nbgrader's converters on one submission. Raises KitError with the last line of its complaint."""
    from nbgrader.utils import capture_log

    api = folder.nbgrader(course)
    api.coursedir.assignment_id, api.coursedir.student_id = assignment, student
    tool = converter(coursedir=api.coursedir, parent=api)
    tool.force = True
    for name, value in settings.items():
        setattr(tool, name, value)
    done = capture_log(tool)
    if done.get("error", "").rstrip().endswith("KeyboardInterrupt"):  # capture_log catches even that
        raise KeyboardInterrupt
    if not done["success"]:
        told = re.findall(
            r"^\S*(?:Error|Exception): (?!Please see)(.+?)\.?$", done.get("log", "") + done["error"], re.M
        )
        raise KitError(f"nbgrader could not grade it: {(told or ['no reason given'])[-1].strip()}.")


def scores(course: Path, assignment: str, student: str) -> dict[str, Score]:
    """Every test cell's score of a submission, by id; {} where the gradebook has no such submission."""
    from nbgrader.api import MissingEntry

    if not (course / "gradebook.db").exists():
        return {}
    with folder.nbgrader(course).gradebook as gradebook:
        try:
            notebook = gradebook.find_submission_notebook(assignment, assignment, student)
        except MissingEntry:
            return {}
        return {
            grade.name: Score(grade.auto_score or 0.0, grade.manual_score, grade.extra_credit or 0.0)
            for grade in notebook.grades
        }
