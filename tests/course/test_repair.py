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


# --- what editors do ---


def at(notebook, name):
    return next(number for number, cell in enumerate(notebook.cells) if cell.id == name)


def as_added(source):
    return nbformat.v4.new_code_cell(source)


@pytest.mark.parametrize("emptied", ["", "# later", "helper = 1"])
def test_a_copy_with_the_same_id_that_defines_nothing_takes_no_answer_away(desk, emptied):
    notebook = desk.notebook()
    other = copy.deepcopy(notebook.cells[at(notebook, "double")])
    other.source = emptied
    notebook.cells.insert(at(notebook, "double") + 1, other)
    done = desk.repaired(notebook)
    assert sources(done.notebook)["double"] == desk.right["double"]
    assert emptied == "" or emptied in sources(done.notebook).values()


def test_a_helper_split_off_the_answer_stays_before_it(desk):
    notebook = desk.notebook(double="def double(x):\n    return _twice(x) + 1")
    other = copy.deepcopy(notebook.cells[at(notebook, "double")])
    other.source = "def _twice(x):\n    return x + x"
    notebook.cells.insert(at(notebook, "double"), other)
    done = desk.repaired(notebook)
    order = [cell.id for cell in done.notebook.cells]
    assert order[order.index("double") - 1] == "added-1" and "_twice" in sources(done.notebook)["added-1"]


@pytest.mark.parametrize("ids", [True, False])
def test_of_a_stub_and_an_answer_in_the_next_cell_the_answer_counts(desk, ids):
    notebook = desk.notebook(**{name: sources(desk.release)[name] for name in desk.right})
    notebook.cells.insert(at(notebook, "double") + 1, as_added(desk.right["double"]))
    raw = json.loads(json.dumps(notebook))
    for cell in raw["cells"]:
        if not ids:
            del cell["metadata"], cell["id"]
    done = desk.of_text(json.dumps(raw))
    assert sources(done.notebook)["double"] == desk.right["double"]
    assert [cell.id for cell in done.notebook.cells] == [cell.id for cell in desk.source.cells]


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_line_ends_are_no_edit_and_a_stub_is_no_answer(desk, ends):
    notebook = desk.notebook(double=sources(desk.release)["double"])
    notebook.cells.insert(0, as_added(desk.right["double"]))
    for cell in notebook.cells:
        cell.source = cell.source.replace("\n", ends)
    done = desk.repaired(notebook)
    assert sources(done.notebook)["double"] == desk.right["double"]
    assert not any("put back" in remark for remark in done.remarks)


def test_the_newest_of_several_attempts_counts_and_the_older_costs_nothing(desk):
    notebook = desk.notebook(double="import math\n\ndef double(x):\n    return torch.mul(x, 2) + 1")
    notebook.cells.append(as_added(desk.right["double"]))
    notebook.cells.append(as_added(sources(desk.release)["double"]))
    done = desk.repaired(notebook)
    assert sources(done.notebook)["double"] == desk.right["double"]
    assert not any("mul" in cell.source for cell in done.notebook.cells)  # else the rules would find it
    assert "import math" in sources(done.notebook)["added-1"]


def test_a_helper_behind_the_tests_comes_before_the_answer_that_needs_it(desk):
    notebook = desk.notebook(double="def double(x):\n    return _twice(x) + one")
    notebook.cells += map(as_added, ["import math\none = int(math.e) - 1", "def _twice(x):\n    return x + x", "x = 5"])
    done = desk.repaired(notebook)
    order = [cell.source for cell in done.notebook.cells]
    answer = order.index("def double(x):\n    return _twice(x) + one")
    assert order.index("import math\none = int(math.e) - 1") == answer - 2 and order[-1] == "x = 5"
    assert any(remark.startswith("Cell 12 holds what double needs") for remark in done.remarks)


@pytest.mark.parametrize("cut", range(1, 5))
def test_an_answer_cut_in_two_is_read_as_one(desk, cut):
    notebook = desk.notebook()
    cell = notebook.cells[at(notebook, "double")]
    lines = cell.source.split("\n")
    other = copy.deepcopy(cell)
    cell.source, other.source = "\n".join(lines[:cut]), "\n".join(lines[cut:])
    notebook.cells.insert(at(notebook, "double") + 1, other)
    done = desk.repaired(notebook)
    assert "x + x + offset" in sources(done.notebook)["double"] and "def double" in sources(done.notebook)["double"]


def test_an_answer_merged_with_a_check_or_another_answer_is_taken_out(desk):
    notebook = desk.notebook()
    cell = notebook.cells[at(notebook, "double")]
    check = notebook.cells.pop(at(notebook, "double-check"))
    tail = notebook.cells.pop(at(notebook, "tail"))
    cell.source = "\n\n".join([cell.source, check.source, tail.source])
    done = desk.repaired(notebook)
    assert {name: text.strip() for name, text in sources(done.notebook).items()} == sources(desk.source)


def test_what_a_student_wrote_into_a_locked_cell_is_not_lost(desk):
    notebook = desk.notebook(double="def double(x):\n    return _twice(x) + 1")
    notebook.cells[at(notebook, "setup")].source += "\n\ndef _twice(x):\n    return x + x"
    done = desk.repaired(notebook)
    assert sources(done.notebook)["setup"] == sources(desk.source)["setup"]
    assert sources(done.notebook)["added-1"].strip() == "def _twice(x):\n    return x + x"


def test_an_answer_in_a_cell_of_text_counts_where_there_is_no_other(desk):
    notebook = desk.notebook()
    notebook.cells[at(notebook, "double")] = nbformat.v4.new_raw_cell(desk.right["double"])
    done = desk.repaired(notebook)
    assert sources(done.notebook)["double"] == desk.right["double"]
    assert any("is no cell of code" in remark for remark in done.remarks)
