"""A student's path through the first assignment, in JupyterLab: fill in, check, see the verdict."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stlm_kit.course import self_test as trial
from stlm_kit.course.assignment import Assignment, load
from stlm_kit.course.keyed_values import keyed

from .lab import Notebook

KEY = "the key of a course that is tried in a browser"
EXERCISE = "bits_per_byte"
CHECK = f"{EXERCISE}-check"


@pytest.fixture
def assignment() -> Assignment:
    return load("01")


@pytest.fixture
def notebook(assignment, tmp_path, open_notebook) -> Notebook:
    """The first assignment, released as a teacher does and opened as a student does."""
    course = tmp_path / "course"
    command = [sys.executable, "-m", "stlm_kit", "course", "release", assignment.name, "--key", KEY]
    environment = {**os.environ, "STLM_COURSE": str(course)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    released: Path = course / "release" / assignment.name / f"{assignment.name}.ipynb"
    notebook = open_notebook(released)
    assert notebook.run("setup") == ""
    return notebook


def check(notebook: Notebook, answer: str) -> str:
    """Fill in an answer and run it; what the public check shows then."""
    notebook.write(EXERCISE, answer)
    assert notebook.run(EXERCISE) == ""
    return notebook.run(CHECK)


def sentence(assignment: Assignment, answer: str, key: str) -> str:
    """What the public check says about an answer, by the trial that needs no browser."""
    found = trial.marks_of(assignment, EXERCISE, answer, key)[CHECK].sentence
    assert found, "the public check passes this answer; take another that it catches"
    return found


def test_a_student_fills_in_checks_and_sees_the_verdict(assignment, notebook):
    handed_out = notebook.save()
    assert notebook.run(EXERCISE) == ""
    assert "Write this function" in notebook.run(CHECK)  # nothing is filled in yet

    for wrong in (trial.answer(assignment, EXERCISE, "nats_per_byte"), assignment.cells[EXERCISE].source):
        assert sentence(assignment, wrong, KEY) in check(notebook, wrong)  # the second is the published solution
    right = next(cell.source for cell in keyed(assignment, KEY).cells if cell.id == EXERCISE)
    verdict = check(notebook, right)
    assert f"of about {assignment.exercise(EXERCISE).lines} · nothing forbidden · cost: " in verdict
    assert "Error" not in verdict
    for cell in assignment.tests(EXERCISE):  # what a student sees of the marks
        assert notebook.run(cell.id) == ""

    notebook.write(CHECK, "found = 2")  # locked: the page lets nobody write there
    saved = notebook.save()
    changed = [cell.id for cell, old in zip(saved.cells, handed_out.cells, strict=True) if cell.source != old.source]
    assert changed == [EXERCISE]
    assert saved.cells[[cell.id for cell in saved.cells].index(EXERCISE)].source == right
    assert not notebook.problems()

    ready_made = "    from stlm_kit.evaluation import Perplexity\n    counts ="
    shortcut = right.replace("    counts =", ready_made, 1)  # right in every number
    forbidden = sentence(assignment, shortcut, KEY)
    assert "which this exercise forbids" in forbidden
    assert forbidden in check(notebook, shortcut)  # before it costs marks
    assert any(forbidden in problem for problem in notebook.problems())  # so an error in a chapter would be noticed
