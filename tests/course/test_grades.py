"""The marks as files: what a spreadsheet, Canvas and Moodle read, with the late rule applied once."""

import csv
from datetime import UTC, datetime

import pytest

from stlm_kit.course import gradebook, grades, reports
from stlm_kit.course.gradebook import Score
from stlm_kit.course.grades import export
from stlm_kit.course.reports import Report
from stlm_kit.errors import KitError

from .conftest import made_up_cells, write

RULES = """
late: {per_day: 10}
assignments: {01_made_up: {due: 2026-10-16 12:00, canvas: "Made up (77)", moodle: Assignment 1}}
roster:
- {id: ada, name: Ada King Lovelace, email: ada@example.org, canvas: 101, sis: s1, login: al}
- {id: "grace", name: "Hopper, Grace", email: grace@example.org, canvas: 102}
- {id: alan, name: Alan Turing, email: alan@example.org, canvas: 103}
- {id: eve, email: eve@example.org}
"""
SCORES = {  # the optional exercise's marks are in the gradebook, and in no file
    "ada": {"double-value": Score(1, None, 0), "double-shape": Score(1, None, 0), "tail-last": Score(0, None, 0)},
    "grace": {"double-value": Score(0, 0.5, 0.25), "double-shape": Score(1, None, 0)},
    "eve": {"double-value": Score(1, None, 0), "double-shape": Score(1, None, 0)},
}


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course folder in which three have handed in: one a day late, one nothing that can be read."""
    monkeypatch.setenv("STLM_ASSIGNMENTS", str(tmp_path / "assignments"))
    write(tmp_path / "assignments" / "01_made_up", made_up_cells())
    course = tmp_path / "course"
    for kind in ("source", "release"):
        write(course / kind / "01_made_up", made_up_cells(), wrong={})
    (course / "course.yaml").write_text(RULES)
    for student, day, problem in [("ada", 16, ""), ("grace", 17, ""), ("eve", 16, "The file is damaged.")]:
        when = datetime(2026, 10, day, 11, tzinfo=UTC)
        reports.write(
            course, Report(student=student, name=student, assignment="01_made_up", handed_in=when, problem=problem)
        )
    reports.write(course, Report(student="", name="who?", assignment="01_made_up", problem="Nobody."))
    monkeypatch.setattr(gradebook, "scores", lambda course, assignment, student: SCORES[student])
    return course


def rows(course, how):
    path = export(course, how)
    assert path == course / f"grades-{how}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_csv_has_a_row_a_student_and_a_column_an_exercise(course):
    head, *body = rows(course, "csv")
    assert head[3:] == [f"01_made_up: {what}" for what in ("double", "earned", "days late", "total")]
    assert [row[0] for row in body] == ["ada", "grace", "alan", "eve"]
    assert [row[3:] for row in body] == [
        ["2", "2", "0", "2"],
        ["1.75", "1.75", "1", "1.58"],
        ["", "", "", ""],
        ["0", "0", "0", "0"],
    ]


def test_canvas_has_its_five_columns_and_the_points_possible(course):
    head, possible, *body = rows(course, "canvas")
    assert head == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Made up (77)"]
    assert possible == ["    Points Possible", "", "", "", "", "2"]
    assert body[0] == ["Lovelace, Ada King", "101", "s1", "al", "", "2"]
    assert [row[-1] for row in body] == ["2", "1.58", "", "0"]


def test_moodle_knows_its_users_by_email(course):
    head, *body = rows(course, "moodle")
    assert head == ["First name", "Last name", "ID number", "Email address", "Assignment 1"]
    assert body[0] == ["Ada King", "Lovelace", "s1", "ada@example.org", "2"]
    assert body[2] == ["Alan", "Turing", "", "alan@example.org", ""]


@pytest.mark.parametrize(
    ("how", "sentence"), [("canvas", "`canvas`, `sis` or `login`"), ("moodle", "`email` or `sis`")]
)
def test_an_lms_needs_to_know_who_is_who(course, how, sentence):
    (course / "course.yaml").unlink()
    with pytest.raises(KitError, match=sentence):
        export(course, how)
    assert [row[0] for row in rows(course, "csv")[1:]] == ["ada", "eve", "grace"]


def test_nothing_released_is_one_sentence(course, tmp_path):
    with pytest.raises(KitError, match="Nothing has been released"):
        grades.export(tmp_path / "other", "csv")
