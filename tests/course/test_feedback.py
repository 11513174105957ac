"""Feedback explains each lost mark and shows nothing of the hidden tests, whatever a submission tried to show."""

import html
import re

import nbformat
import pytest

from stlm_kit.course import grade as grading
from stlm_kit.course import reports
from stlm_kit.course.assignment import is_test, region
from stlm_kit.course.grade import grade

from .conftest import made_up_cells, write
from .grading import KEY, Class, needs_bubblewrap

SPY = "\n\nget_ipython().events.register('pre_run_cell', lambda info: print(info.raw_cell))"
MESSAGE = """
def double(x):
    raise ValueError("<script>alert(1)</script> $x$ **bold** " + "long " * 200)"""


@pytest.fixture(scope="module")
def class_(tmp_path_factory):
    needs_bubblewrap()
    tmp_path = tmp_path_factory.mktemp("class")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STLM_ASSIGNMENTS", str(tmp_path / "assignments"))
        patch.setenv("STLM_COURSE", str(tmp_path / "course"))
        write(tmp_path / "assignments" / "01_made_up", made_up_cells())
        class_ = Class(tmp_path, KEY)
        class_.hand_in("spying", double=class_.right["double"] + SPY)
        noisy = class_.notebook(double=MESSAGE)
        noisy.cells.append(nbformat.v4.new_markdown_cell("<script>alert(2)</script>"))
        class_.hand_in("noisy", noisy)
        grade(class_.folder, class_.course, say=lambda line: None)
        yield class_


def page(class_, student):
    path = class_.course / "feedback" / student / class_.name / f"{class_.name}.html"
    return re.sub(r"<[^>]+>", "", path.read_text("utf-8")), path.read_text("utf-8")


def hidden_lines(class_):
    tests = [cell for cell in class_.source.cells if is_test(cell)]
    return {line for cell in tests for line in region(cell.source, "HIDDEN TESTS") if "(" in line}


@pytest.mark.parametrize("student", ["spying", "noisy"])
def test_no_hidden_line_and_no_output_is_in_it(class_, student):
    text = html.unescape(page(class_, student)[0])
    lines = hidden_lines(class_)
    assert len(lines) >= 5 and not [line for line in lines if line in text]
    assert "BEGIN HIDDEN" not in text and "lines: " not in text  # what the desk printed


def test_the_teachers_copy_does_have_them(class_):
    copy = (class_.course / "autograded" / "spying" / class_.name / f"{class_.name}.ipynb").read_text("utf-8")
    assert "BEGIN HIDDEN TESTS" in copy


def test_each_mark_has_its_sentence_and_code_from_a_message_stays_text(class_):
    text, raw = page(class_, "noisy")
    assert "alert(1)</script>" not in raw and "alert(2)" not in raw and "<b>bold" not in raw
    assert text.count("ValueError: ") >= 2 and "0 of 1" in text
    sentence = reports.read(class_.course, class_.name, "noisy").marks["double-value"].sentence
    assert len(sentence) < 330 and sentence.endswith("...")
    assert "Passed." in text  # the optional exercise


def test_the_students_own_code_is_shown(class_):
    text = page(class_, "spying")[0]
    assert "pre_run_cell" in text and "Mark: every number is doubled." in text


def test_a_grader_that_fails_on_one_reports_it_and_goes_on(class_, monkeypatch):
    for student in ("first", "second"):
        class_.hand_in(student)
    real = grading.repair

    def repair(cells, *rest):
        if len(asked) == 0:
            asked.append(cells)
            raise TypeError("what is this?")
        return real(cells, *rest)

    asked = []
    monkeypatch.setattr(grading, "repair", repair)
    done = {each.name: each for each in grade(class_.folder, class_.course, say=lambda line: None)}
    problems = [name for name in ("first", "second") if "TypeError: what is this?" in done[name].problem]
    assert len(problems) == 1
    monkeypatch.undo()
    monkeypatch.setenv("STLM_ASSIGNMENTS", str(class_.folder.parent / "assignments"))
    again = {each.name: each for each in grade(class_.folder, class_.course, say=lambda line: None)}
    assert [again[name].earned for name in ("first", "second")] == [2, 2]
