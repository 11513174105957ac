"""Whatever was done to a notebook, the graded one has the teacher's cells once and in order, and the student's code."""

import copy
import json
import random

import nbformat
import pytest

from .grading import Desk


@pytest.fixture
def desk(made_up):
    return Desk(made_up)


def sources(notebook):
    return {cell.id: cell.source for cell in notebook.cells}


def test_an_untouched_notebook_keeps_its_answers_and_gets_the_tests_back(desk):
    done = desk.repaired(desk.notebook(double="def double(x):\n    return 3"))
    assert done.remarks == [] and [cell.id for cell in done.notebook.cells] == [cell.id for cell in desk.source.cells]
    assert sources(done.notebook)["double"] == "def double(x):\n    return 3"
    assert sources(done.notebook)["double-value"] == sources(desk.source)["double-value"]  # hidden tests inside


def test_deleted_moved_and_rewritten_cells_come_back_in_order(desk):
    notebook = desk.notebook()
    notebook.cells = [cell for cell in notebook.cells if cell.id not in ("double-shape", "tail-check")]
    random.Random(0).shuffle(notebook.cells)
    next(cell for cell in notebook.cells if cell.id == "double-value").source = "assert True"
    done = desk.repaired(notebook)
    assert sources(done.notebook) == {**sources(desk.source), **desk.right}
    assert [cell.id for cell in done.notebook.cells] == [cell.id for cell in desk.source.cells]
    assert "Deleted cells were put back: double-shape, tail-check." in done.remarks
    assert "Changed cells were put back as they were: double-value." in done.remarks


@pytest.mark.parametrize("first", [True, False])
def test_of_doubled_cells_the_one_with_an_answer_counts(desk, first):
    notebook, stub = desk.notebook(), copy.deepcopy(desk.release)
    untouched = next(cell for cell in stub.cells if cell.id == "double")
    notebook.cells.insert(0 if first else len(notebook.cells), untouched)
    done = desk.repaired(notebook)
    assert sources(done.notebook)["double"] == desk.right["double"]
    assert [cell.id for cell in done.notebook.cells].count("double") == 1 and "there 2 times" in done.remarks[0]


def test_cells_that_lost_their_ids_are_found_by_their_function(desk):
    raw = json.loads(json.dumps(desk.notebook()))
    for cell in raw["cells"]:
        cell["metadata"], cell["id"] = {}, "x"
    done = desk.of_text(json.dumps(raw))
    assert sources(done.notebook)["double"] == desk.right["double"]
    assert sum("lost its id" in remark for remark in done.remarks) == 2


def test_a_missing_answer_is_empty_and_said(desk):
    notebook = desk.notebook()
    notebook.cells = [cell for cell in notebook.cells if cell.id != "double"]
    done = desk.repaired(notebook)
    assert sources(done.notebook)["double"] == "" and "The cell double is missing." in done.remarks


def test_what_a_student_added_stays_behind_the_cell_it_followed(desk):
    notebook = desk.notebook()
    place = [cell.id for cell in notebook.cells].index("double")
    notebook.cells.insert(place, nbformat.v4.new_code_cell("helper = 1"))
    notebook.cells.insert(place, nbformat.v4.new_markdown_cell("a note"))
    done = desk.repaired(notebook)
    order = [cell.id for cell in done.notebook.cells]
    assert order[:5] == ["setup", "double-text", "added-1", "added-2", "double"]
    assert sources(done.notebook)["added-2"] == "helper = 1"


def test_claiming_to_be_a_test_changes_nothing(desk):
    notebook = desk.notebook()
    forged = nbformat.v4.new_code_cell("assert True", id="mine")
    forged.metadata.nbgrader = {"grade": True, "grade_id": "double-extra", "points": 99, "locked": True}
    notebook.cells.append(forged)
    done = desk.repaired(notebook)
    assert done.notebook.cells[-1].id == "added-1" and "nbgrader" not in done.notebook.cells[-1].metadata
