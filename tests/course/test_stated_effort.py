"""What an assignment's text says about marks, minutes and chapters is what its rules and its cells say."""

import re

import nbformat
import pytest

from stlm_kit.course.assignment import folders, points, read
from stlm_kit.notebook_files import notebooks_dir

ASSIGNMENTS = {folder.name: read(folder) for folder in folders()}
EXERCISES = [(name, exercise.id) for name, each in ASSIGNMENTS.items() for exercise in each.exercises]
PLACE = re.compile(r"chapter (\d\d), (?:introduction|stanza (\d))")


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_the_line_under_a_heading_is_the_rules(name, exercise):
    heading, blank, effort, *_ = ASSIGNMENTS[name].cells[f"{exercise}-text"].source.split("\n")
    assert heading.startswith("## ") and blank == ""
    assert effort == ASSIGNMENTS[name].exercise(exercise).effort


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_the_place_in_the_chapter_exists(name, exercise):
    chapter, stanza = PLACE.fullmatch(ASSIGNMENTS[name].exercise(exercise).chapter).groups()
    (path,) = notebooks_dir().glob(f"{chapter}_*.ipynb")
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    assert stanza is None or re.search(rf"^## {stanza}\. ", text, re.MULTILINE)


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_a_heading_counts_the_marks(name, exercise):
    heading = ASSIGNMENTS[name].cells[f"{exercise}-text"].source.split("\n")[0]
    marks = sum(map(points, ASSIGNMENTS[name].tests(exercise)))
    assert heading.endswith(f"({marks} marks)") if marks else "ptional" in heading and heading.endswith("no marks)")


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_title_counts_the_marks_and_minutes_of_the_graded_exercises(name):
    assignment = ASSIGNMENTS[name]
    graded = [exercise for exercise in assignment.exercises if exercise.graded]
    marks = sum(points(cell) for exercise in graded for cell in assignment.tests(exercise.id))
    title = assignment.cells["title"].source
    assert re.findall(r"(\d+) marks", title) == [f"{marks}"]
    assert re.findall(r"About (\d+) minutes", title) == [f"{sum(exercise.minutes for exercise in graded)}"]
