"""A folder of right, wrong, broken and hostile submissions: each gets a grade or a report, and harms nobody else's."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbgrader.api import Gradebook

from stlm_kit.course import grade as grading
from stlm_kit.course import reports
from stlm_kit.course.grade import grade
from stlm_kit.errors import KitError, UsageError

from .conftest import made_up_cells, write
from .grading import CRASH, KEY, LOOP, Class, needs_bubblewrap

# Earns what it earns, and prints the source of every cell that is run after it.
SPY = "\n\nget_ipython().events.register('pre_run_cell', lambda info: print(info.raw_cell))"
LIAR = "def all(items):\n    return True\n\n\ndef double(x):\n    return x"


@pytest.fixture(scope="module")
def class_(tmp_path_factory):
    """The made-up assignment, handed in by everybody there is, and graded once."""
    needs_bubblewrap()
    tmp_path = tmp_path_factory.mktemp("class")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STLM_ASSIGNMENTS", str(tmp_path / "assignments"))
        patch.setenv("STLM_COURSE", str(tmp_path / "course"))
        write(tmp_path / "assignments" / "01_made_up", made_up_cells())
        class_ = Class(tmp_path, KEY)
        (class_.course / "course.yaml").write_text("limits: {cell_seconds: 4, total_seconds: 60}")
        _everybody_hands_in(class_)
        class_.said = []
        class_.reports = {each.name: each for each in grade(class_.folder, class_.course, say=class_.said.append)}
        yield class_


def _everybody_hands_in(class_):
    right = class_.right["double"]
    class_.hand_in("right")
    class_.hand_in("half", double=right.replace("return x + x + offset", "return (x + x + offset).flatten()"))
    class_.hand_in("published", double="def double(x):\n    offset = 1\n    return x + x + offset")
    class_.hand_in("shortcut", double="def double(x):\n    return torch.mul(x, 2) + 2")
    class_.hand_in("looping", double=LOOP)
    class_.hand_in("crashing", double=CRASH)
    bombs = class_.notebook()
    bombs.cells[2:2] = [nbformat.v4.new_code_cell("import os; os._exit(1)") for _ in range(9)]
    class_.hand_in("bombing", bombs)
    class_.hand_in("leaving", double=f"{right}\n\nexit()")
    class_.hand_in("renamed", double=right.replace("def double", "def twice"))
    class_.hand_in("spying", double=right + SPY)
    class_.hand_in("lying", double=LIAR)
    class_.hand_in("escaping", double=f"open({str(class_.course / 'key')!r}, 'w')\n{right}")
    tampered = class_.notebook(double="def double(x):\n    return 0 * x")
    tampered.cells = [cell for cell in tampered.cells if cell.id != "double-shape"]
    for cell in tampered.cells:
        if cell.id == "double-value":
            cell.source = "assert True"
            cell.metadata.nbgrader.points = 100
    class_.hand_in("tampering", tampered)
    (class_.folder / "damaged").mkdir()
    (class_.folder / "damaged" / "x.ipynb").write_text('{"cells": [')
    (class_.folder / "empty").mkdir()


def marks(class_, student):
    report = class_.reports[student]
    return [report.marks[name].earned for name in ("double-value", "double-shape")]


@pytest.mark.parametrize(
    ("student", "earned", "sentence"),
    [
        ("right", [1, 1], ""),
        ("half", [1, 0], "The shape changes."),
        ("published", [0, 1], "Some number is not doubled."),
        ("shortcut", [0, 0], "uses mul, which this exercise forbids"),
        ("looping", [0, 0], "stopped after"),
        ("crashing", [0, 0], "ended the Python process"),
        ("bombing", [0, 0], "ended Python too often"),
        ("leaving", [0, 0], "called exit"),
        ("renamed", [0, 0], "There is no function double"),
        ("spying", [1, 1], ""),
        ("lying", [0, 0], "another meaning"),
        ("escaping", [0, 0], "The cell double failed"),
        ("tampering", [0, 1], "Some number is not doubled."),
    ],
)
def test_each_gets_its_marks_and_a_sentence_for_each_lost_one(class_, student, earned, sentence):
    report = class_.reports[student]
    assert report.problem == "" and marks(class_, student) == earned
    for mark in report.marks.values():
        assert bool(mark.sentence) == (mark.earned < mark.points) or mark.points == 0
        assert "\n" not in mark.sentence
    assert sentence in " ".join(mark.sentence for mark in report.marks.values())
    assert reports.read(class_.course, class_.name, student) == report


@pytest.mark.parametrize("student", ["right", "half", "looping", "crashing", "leaving", "renamed", "escaping"])
def test_what_one_exercise_does_costs_the_other_nothing(class_, student):
    assert [class_.reports[student].marks[name].sentence for name in ("tail-last", "tail-empty")] == ["", ""]


@pytest.mark.parametrize(("student", "sentence"), [("damaged", "not JSON"), ("empty", "no notebook in the folder")])
def test_what_cannot_be_graded_is_reported(class_, student, sentence):
    assert sentence in class_.reports[student].problem and not class_.reports[student].marks
    assert any(student in line and sentence in line for line in class_.said)


def test_nbgraders_gradebook_has_the_marks(class_):
    with Gradebook(f"sqlite:///{class_.course / 'gradebook.db'}") as gradebook:
        scores = {
            each.student.id: (each.score, each.max_score) for each in gradebook.assignment_submissions(class_.name)
        }
    assert scores["right"] == (2, 2) and scores["half"] == (1, 2) and scores["tampering"] == (1, 2)
    assert len(scores) == 13


def test_the_teacher_is_told_what_to_look_at(class_):
    assert class_.reports["right"].flags == [] == class_.reports["half"].flags
    assert "The cell double-value shows hidden tests." in class_.reports["spying"].flags
    assert "Look at the cell double: it uses get_ipython." in class_.reports["spying"].flags
    assert any("another meaning" in flag for flag in class_.reports["lying"].flags)
    assert "Deleted cells were put back: double-shape." in class_.reports["tampering"].remarks


def test_again_is_nothing_again_and_a_new_file_is_graded(class_):
    said, paths = [], [reports.path(class_.course, each) for each in class_.reports.values()]
    times = {path: path.stat().st_mtime_ns for path in paths if path.stem not in ("damaged", "empty")}
    again = {each.name: each for each in grade(class_.folder, class_.course, say=said.append)}
    assert again == class_.reports and {path: path.stat().st_mtime_ns for path in times} == times
    assert "13 graded before; nothing about them has changed." in said
    (class_.folder / "late").mkdir()
    class_.hand_in("late", double="def double(x):\n    return x")
    said.clear()
    grade(class_.folder, class_.course, say=said.append)
    graded = [line for line in said if " of 2 in " in line]
    assert len(graded) == 1 and f"{class_.name} · late: 1 of 2" in graded[0]


def test_a_changed_file_of_the_teachers_is_told_aloud(class_, monkeypatch):
    class_.hand_in("guarded", double="def double(x):\n    return x")
    real = grading.execute

    def execute(*arguments):
        path = class_.course / "release" / class_.name / f"{class_.name}.ipynb"
        path.write_text(path.read_text() + "\n")
        return real(*arguments)

    monkeypatch.setattr(grading, "execute", execute)
    with pytest.raises(KitError, match=r"1 of your own files changed .*release.*trust none of these marks"):
        grade(class_.folder, class_.course, say=lambda line: None)


def test_killed_in_the_middle_it_goes_on(class_, tmp_path):
    folder = tmp_path / "many"
    for number in range(3):
        (folder / f"s{number}").mkdir(parents=True)
        nbformat.write(class_.notebook(), folder / f"s{number}" / "x.ipynb")
    command = [sys.executable, "-m", "stlm_kit", "course", "grade", str(folder)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    place = class_.course / "reports" / class_.name
    deadline = time.monotonic() + 300
    while not list(place.glob("s?.json")) and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    done = {path.name: path.stat().st_mtime_ns for path in place.glob("s?.json")}
    assert 1 <= len(done) < 3
    second = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert second.returncode == 0, second.stderr
    after = {path.name: path.stat().st_mtime_ns for path in place.glob("s?.json")}
    assert len(after) == 3 and all(after[name] == when for name, when in done.items())
    assert all(json.loads((place / name).read_text())["marks"]["double-shape"]["earned"] == 1 for name in after)
    assert f"{len(done)} graded before" in second.stdout and "2 / 2" in second.stdout


def test_wrong_use_is_one_sentence(class_, tmp_path):
    with pytest.raises(UsageError, match="There is no folder"):
        grade(tmp_path / "nowhere", class_.course)
    with pytest.raises(UsageError, match="no assignment '02'"):
        grade(tmp_path, class_.course, ["02"])
    with pytest.raises(KitError, match="Nothing has been released"):
        grade(tmp_path, tmp_path / "no-course")
