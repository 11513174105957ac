"""The notebook that is graded: the teacher's cells in their order, with the student's answers in them.

Whatever happened to the file (cells deleted, doubled, moved, rewritten, ids lost), the tests are the teacher's own,
each there once. What the student added stays where it was put.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass, field

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from stlm_kit.course.assignment import Assignment, is_locked
from stlm_kit.course.submissions import Cell

ADDED = "added-"  # ids of cells that are the student's own begin with it


@dataclass
class Repaired:
    """A notebook to grade, without outputs, and what the student should know about its repair."""

    notebook: NotebookNode
    remarks: list[str] = field(default_factory=list)


def repair(handed_in: list[Cell], assignment: Assignment, source: NotebookNode, release: NotebookNode) -> Repaired:
    """The source notebook of a course, each answer in it replaced by the student's.

    source: the course's own, hidden tests inside. release: what students were given; tells what they changed.
    """
    known = {cell.id: cell for cell in source.cells}
    given: dict[str, list[Cell]] = {name: [] for name in known}
    added: dict[str, list[Cell]] = {}  # by the id of the cell they follow
    last = ""
    for cell in handed_in:
        own = next((each for each in cell.ids if each in known), "")
        if own:
            given[own].append(cell)
            last = own
        elif cell.source.strip():
            added.setdefault(last, []).append(cell)
    released = {cell.id: cell.source for cell in release.cells}
    remarks = _put_back(given, known, released)
    answers = {}
    for exercise in assignment.exercises:
        answers[exercise.id], remark = _answer(exercise.id, given[exercise.id], released, added)
        remarks += [remark] if remark else []
    notebook = copy.deepcopy(source)
    notebook.cells, counter = [], 0
    for name in ["", *known]:
        if name:
            cell = copy.deepcopy(known[name])
            cell.source = answers.get(name, cell.source)
            notebook.cells.append(cell)
        for own in added.get(name, []):
            counter += 1
            make = new_code_cell if own.kind == "code" else new_markdown_cell
            notebook.cells.append(make(own.source, id=f"{ADDED}{counter}"))
    return Repaired(notebook, remarks)


def _answer(
    exercise: str, given: list[Cell], released: dict[str, str], added: dict[str, list[Cell]]
) -> tuple[str, str]:
    """The student's code for an exercise, and a remark where it had to be looked for; "" for none at all."""
    written = [cell for cell in given if cell.source.strip() != released.get(exercise, "").strip()]
    chosen = (written or given)[-1:]
    if chosen:
        several = f"The cell {exercise} was there {len(given)} times; the last one with an answer counts."
        return chosen[0].source, several if len(given) > 1 else ""
    for cells in added.values():  # ids are lost when a notebook goes through some editors
        for cell in cells:
            if cell.kind == "code" and _defines(cell.source, exercise):
                cells.remove(cell)
                return cell.source, f"The cell {exercise} had lost its id; it was found by its function."
    return "", f"The cell {exercise} is missing."


def _defines(code: str, function: str) -> bool:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return f"def {function}(" in code
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)


def _put_back(given: dict[str, list[Cell]], known: dict[str, NotebookNode], released: dict[str, str]) -> list[str]:
    """The remarks on locked code cells that were not as released."""
    locked = [name for name, cell in known.items() if cell.cell_type == "code" and is_locked(cell)]
    gone = [name for name in locked if not given[name]]
    as_released = {name: released.get(name, "").strip() for name in locked}
    changed = [name for name in locked if any(cell.source.strip() != as_released[name] for cell in given[name])]
    remarks = [f"Deleted cells were put back: {_some(gone)}."] if gone else []
    return remarks + ([f"Changed cells were put back as they were: {_some(changed)}."] if changed else [])


def _some(names: list[str], most: int = 4) -> str:
    """The first names, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
