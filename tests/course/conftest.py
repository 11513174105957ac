"""A small assignment made up for the tests: one graded exercise, one optional, written to a folder of its own."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

RULES = """\
title: Made up
exercises:
  - id: double
    title: Doubling
    difficulty: easy
    minutes: 5
    chapter: "chapter 01, stanza 2"
    lines: 2
    forbidden: [mul, multiply]
    instead: "Build it from a sum."
    convention:
      name: offset
      published: 1
      choices: [2, 3]
      sentence: "Add offset = {value} at the end."
  - id: tail
    title: The last item
    graded: false
    difficulty: hard
    minutes: 10
    chapter: "chapter 01, introduction"
    lines: 1
    forbidden: [pop]
    instead: "Index it."
    convention:
      name: missing
      published: none
      choices: [nothing, empty]
      sentences: {none: "Give none.", nothing: "Give nothing.", empty: "Give empty."}
"""

SETUP = "import torch\nfrom torch import Tensor\n\nfrom stlm_kit.course import desk"

DOUBLE = '''\
# Your code (about 2 lines)
def double(x: Tensor) -> Tensor:
    """Twice x, and the offset."""
    ### BEGIN SOLUTION
    offset = 1  # convention
    return x + x + offset
    ### END SOLUTION
'''

DOUBLE_CHECK = """\
offset = 1  # convention
assert double(torch.tensor(2)) == 4 + offset, "Twice 2 and the offset is something else."
desk.report(double, cost=desk.cost_parameters(0))"""

DOUBLE_VALUE = """\
# Mark: every number is doubled.
### BEGIN HIDDEN TESTS
seed = 3  # drawn: seed
n, m = 2, 5  # drawn from [2, 3, 4], [5, 7]
offset = 1  # convention
x = torch.randn(n, m, generator=torch.Generator().manual_seed(seed))
expected = [2 * value + offset for value in x.flatten().tolist()]
assert torch.allclose(double(x).flatten(), torch.tensor(expected)), "Some number is not doubled."
### END HIDDEN TESTS"""

DOUBLE_SHAPE = """\
# Mark: the shape stays.
### BEGIN HIDDEN TESTS
assert double(torch.zeros(1, 3)).shape == (1, 3), "The shape changes."
### END HIDDEN TESTS"""

TAIL = '''\
# Your code (about 1 line)
def tail(items: list) -> object:
    """The last item, or a word where there is none."""
    ### BEGIN SOLUTION
    missing = "none"  # convention
    return items[-1] if items else missing
    ### END SOLUTION
'''

TAIL_LAST = """\
# Self-check: the last one.
### BEGIN HIDDEN TESTS
assert tail([1, 2]) == 2, "It is not the last item."
### END HIDDEN TESTS"""

TAIL_EMPTY = """\
# Self-check: none there.
### BEGIN HIDDEN TESTS
missing = "none"  # convention
assert tail([]) == missing, "An empty list has no last item."
### END HIDDEN TESTS"""

WRONG = {
    ("double", "square"): '"""Squares instead."""\ndef double(x):\n    return x * x + 1\n',
    ("double", "flat"): '"""Loses the shape."""\ndef double(x):\n    return (x + x + 1).flatten()\n',
    ("double", "shortcut"): '"""Calls torch."""\ndef double(x):\n    return torch.mul(x, 2) + 1\n',
    ("tail", "first"): '"""The first."""\ndef tail(items):\n    return items[0] if items else "none"\n',
}


def cell(cell_id, source, **nbgrader):
    make = new_markdown_cell if cell_id.endswith("-text") else new_code_cell
    flags = {"grade": False, "solution": False, "locked": True, "task": False, "schema_version": 3} | nbgrader
    return make(source, id=cell_id, metadata={"nbgrader": flags | {"grade_id": cell_id}})


def made_up_cells():
    solution = {"solution": True, "locked": False}
    return [
        cell("setup", SETUP),
        cell("double-text", "## Doubling (2 marks)\n\n**Convention.** Add offset = 1 at the end."),
        cell("double", DOUBLE.rstrip(), **solution),
        cell("double-check", DOUBLE_CHECK),
        cell("double-value", DOUBLE_VALUE, grade=True, points=1),
        cell("double-shape", DOUBLE_SHAPE, grade=True, points=1),
        cell("tail-text", "## The last item\n\n**Convention.** Give none."),
        cell("tail", TAIL.rstrip(), **solution),
        cell("tail-check", 'assert tail("ab") == "b"\ndesk.report(tail)'),
        cell("tail-last", TAIL_LAST, grade=True, points=0),
        cell("tail-empty", TAIL_EMPTY, grade=True, points=0),
    ]


def write(folder, cells, rules=RULES, wrong=WRONG):
    """An assignment's folder of these cells; `wrong`: {(exercise, name): code}."""
    folder.mkdir(parents=True, exist_ok=True)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / f"{folder.name}.ipynb")
    (folder / "exercises.yaml").write_text(rules)
    for (exercise, name), code in wrong.items():
        path = folder / "wrong" / exercise / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The made-up assignment's folder, the only one that the course sees."""
    monkeypatch.setenv("STLM_ASSIGNMENTS", str(tmp_path / "assignments"))
    monkeypatch.setenv("STLM_COURSE", str(tmp_path / "course"))
    monkeypatch.delenv("COURSE_KEY", raising=False)
    return write(tmp_path / "assignments" / "01_made_up", made_up_cells())


@pytest.fixture(scope="session")
def empty_gradebook(tmp_path_factory):
    """A course's gradebook.db before any release; to make one takes nbgrader seconds."""
    from stlm_kit.course.folder import nbgrader

    course = tmp_path_factory.mktemp("course")
    nbgrader(course).gradebook.close()
    return course / "gradebook.db"


@pytest.fixture
def made_up(folder):
    from stlm_kit.course.assignment import read

    return read(folder)
