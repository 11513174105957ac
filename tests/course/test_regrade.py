"""A mended test is graded again: what moved is said, what a teacher gave by hand stays."""

import csv

import nbformat
import pytest
from nbgrader.api import Gradebook

from stlm_kit.course.grade import grade
from stlm_kit.course.grades import export
from stlm_kit.course.regrade import regrade
from stlm_kit.errors import KitError

from .grading import KEY, Class, needs_bubblewrap

STRICT = 'assert double(torch.zeros(1, 3)).shape == (1, 3), "The shape changes."'
MENDED = 'assert double(torch.zeros(1, 3)).numel() == 3, "The shape changes."'
NEVER = 'assert double(torch.zeros(1, 3)).numel() == 4, "Nobody gets this."'


def mend(folder, old, new):
    path = folder / "01_made_up.ipynb"
    text = nbformat.read(path, as_version=4)
    cell = next(cell for cell in text.cells if cell.id == "double-shape")
    assert old in cell.source
    cell.source = cell.source.replace(old, new)
    nbformat.write(text, path)


def by_hand(class_, student, points):
    with Gradebook(f"sqlite:///{class_.course / 'gradebook.db'}") as gradebook:
        mark = gradebook.find_grade("double-value", class_.name, class_.name, student)
        mark.manual_score = points
        gradebook.db.commit()


def totals(class_):
    with export(class_.course, "csv").open(encoding="utf-8") as file:
        return {row["student"]: row["01_made_up: total"] for row in csv.DictReader(file)}


def test_marks_move_where_the_mended_test_says_so_and_by_hand_stays(folder, tmp_path):
    needs_bubblewrap()
    class_ = Class(tmp_path, KEY)
    class_.hand_in("right")
    flat = class_.right["double"].replace("return x + x + offset", "return (x + x + offset).flatten()")
    class_.hand_in("flat", double=flat)
    grade(class_.folder, class_.course, say=lambda line: None)
    by_hand(class_, "flat", 0.5)
    assert totals(class_) == {"right": "2", "flat": "0.5"}

    mend(folder, STRICT, MENDED)
    moved = regrade(class_.course, say=lambda line: None)
    assert [str(each) for each in moved] == ["01_made_up · flat: double-shape 0 -> 1"]
    assert totals(class_) == {"right": "2", "flat": "1.5"}
    page = (class_.course / "feedback" / "flat" / class_.name / f"{class_.name}.html").read_text("utf-8")
    assert "0.5 of 1" in page and "(Marked by hand.)" in page

    said = []
    assert regrade(class_.course, say=said.append) == []  # nothing has changed since
    assert "2 graded before; nothing about them has changed." in said

    mend(folder, MENDED, NEVER)
    with pytest.raises(KitError, match="the reference fails in double-shape"):
        regrade(class_.course, say=lambda line: None)
    assert totals(class_) == {"right": "2", "flat": "1.5"}
