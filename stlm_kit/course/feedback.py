"""What a student gets back: the notebook as HTML, each mark with its sentence, and nothing of the hidden tests.

nbgrader makes the page. Before it does, every cell of the teacher's is cut back to what the release showed, and every
output is dropped, since code that has run beside the tests can print them in any disguise.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_output

from stlm_kit.course.assignment import is_test
from stlm_kit.course.gradebook import Score, convert, scores
from stlm_kit.course.repair import ADDED
from stlm_kit.course.reports import Report


def write(course: Path, report: Report, late: str = "") -> Path:
    """Write feedback/STUDENT/ASSIGNMENT/ASSIGNMENT.html of a submission that the gradebook knows; gives its path.

    late: a sentence on lateness, "" for none. Raises KitError with nbgrader's complaint.
    """
    from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
    from nbgrader.converters import GenerateFeedback
    from nbgrader.preprocessors import GetGrades

    name = report.assignment
    released = nbformat.read(course / "release" / name / f"{name}.ipynb", as_version=4)
    shown = {cell.id: cell.source for cell in released.cells}
    kept_marks = scores(course, name, report.student)

    def cut(notebook: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        kept = [cell for cell in notebook.cells if cell.cell_type == "code" or not cell.id.startswith(ADDED)]
        for cell in kept:
            _cut(cell, shown, report)
        notebook.cells = [new_markdown_cell(_overview(report, kept_marks, late), id="feedback-overview"), *kept]
        return notebook, resources

    steps = [cut, GetGrades, CSSHTMLHeaderPreprocessor]
    convert(course, name, report.student, GenerateFeedback, preprocessors=steps)
    return course / "feedback" / report.student / name / f"{name}.html"


def _cut(cell: NotebookNode, shown: dict[str, str], report: Report) -> None:
    """Bring a cell back to what a student may see; a test cell says what became of its mark."""
    nbgrader = cell.metadata.get("nbgrader", {})
    if cell.id in shown and not nbgrader.get("solution"):
        cell.source = shown[cell.id]
    elif cell.id not in shown and not cell.id.startswith(ADDED):
        cell.source = ""  # neither released nor the student's
    if cell.cell_type == "code":
        cell.execution_count = None
        cell.outputs = []
        if is_test(cell) and (mark := report.marks.get(cell.id)):
            cell.outputs = [new_output("stream", name="stdout", text=mark.sentence or "Passed.")]


def _overview(report: Report, kept_marks: dict[str, Score], late: str) -> str:
    """The table on top: a line for each mark, the teacher's own where there is one."""
    rows = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>{kept_marks[name].points:g} of {mark.points:g}</td>"
        f"<td style='text-align: left'>{_text(mark.sentence or 'Passed.')}{_by_hand(kept_marks[name])}</td></tr>"
        for name, mark in report.marks.items()
    )
    head = "<tr><th>Test</th><th style='width: 6em'>Marks</th><th style='text-align: left'>What it says</th></tr>"
    notes = "".join(f"<li>{_text(each)}</li>" for each in [*report.remarks, late] if each)
    return f"<table>{head}{rows}</table>" + (f"<ul>{notes}</ul>" if notes else "")


def _by_hand(score: Score) -> str:
    return "" if score.manual is None and not score.extra else " (Marked by hand.)"


def _text(sentence: str) -> str:
    """A sentence as HTML in Markdown: no tags, no formulas, no emphasis but what was written."""
    return "".join(char if char.isalnum() or char in " .,:;()'" else f"&#{ord(char)};" for char in sentence)
