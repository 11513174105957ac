"""The student's copy of a chapter, made from the committed one, and the way back."""

from __future__ import annotations

import copy
import hashlib

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from stlm_kit.practice.turns import Turn, groups, turn_of

ADDED = "practice"  # the tag of the cells that only the copy has
OPENING = """**Your copy of this chapter.** Where a cell says *Your turn*, write the missing lines and run the cell.
Then run the check behind it: it names what is wrong. Until your version is right, the chapter goes on with its own, so
you can read on at any time. A hint and the solution are folded below each such cell."""
SOLUTION = "<details><summary>Solution</summary>\n\n```python\n"
END = "\n```\n\n</details>"


def practice_copy(chapter: NotebookNode, name: str) -> NotebookNode:
    """A chapter without outputs, with stubs, folded hints and solutions, and `%%check` in front of its checks.

    name: of the chapter's file, without its ending. Raises KitError for marks that cannot be used.
    """
    book = copy.deepcopy(chapter)
    checked = groups(chapter.cells)
    cells = []
    for index, cell in enumerate(book.cells):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cells.append(cell)
        if index == 0:
            cells += _opening(name)
        if turn := turn_of(cell):
            cell.source = turn.stub
            cells.append(_added(new_markdown_cell(_folded(turn)), f"{cell.id}-help"))
        if index in checked:
            names = " ".join(name for turn in checked[index] for name in turn.names)
            cell.source = f"%%check {names}\n{cell.source}"
    if checked:
        cells.append(_added(new_code_cell("practice.standing()"), "practice-standing"))
    book.cells = cells
    book.metadata["practice_of"] = {"chapter": name, "sources": digest(chapter)}
    return book


def put_back(book: NotebookNode) -> NotebookNode:
    """A practice copy with its folded solutions in their cells, and without what only a copy has."""
    book, cells = copy.deepcopy(book), []
    for cell in book.cells:
        if ADDED in cell.metadata.get("tags", []):
            if SOLUTION in cell.source:
                cells[-1].source = cell.source.split(SOLUTION)[1].split(END)[0]
            continue
        if cell.source.startswith("%%check "):
            cell.source = cell.source.split("\n", 1)[1]
        cells.append(cell)
    book.cells = cells
    book.metadata.pop("practice_of", None)
    return book


def digest(book: NotebookNode) -> str:
    """A hash of a notebook's sources and hints: tells a copy of an older chapter from one of today's."""
    parts = [f"{cell.cell_type}\n{cell.source}\n{cell.metadata.get('hint', '')}" for cell in book.cells]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def of_chapter(book: NotebookNode) -> dict:
    """{"chapter": name, "sources": digest} of a practice copy; {} for any other notebook."""
    return book.metadata.get("practice_of", {})


def _opening(name: str) -> list[NotebookNode]:
    begin = f'from stlm_kit import practice\n\npractice.begin("{name}")'
    return [
        _added(new_markdown_cell(OPENING.replace("\n", " ")), "practice-opening"),
        _added(new_code_cell(begin), "practice-begin"),
    ]


def _folded(turn: Turn) -> str:
    hint = f"<details><summary>Hint</summary>\n\n{turn.hint}\n\n</details>\n\n" if turn.hint else ""
    return f"{hint}{SOLUTION}{turn.solution}{END}"


def _added(cell: NotebookNode, cell_id: str) -> NotebookNode:
    cell.id = cell_id[:64]
    cell.metadata["tags"] = [ADDED]
    return cell


def read(path) -> NotebookNode:
    """A notebook's file, as nbformat reads it."""
    return nbformat.read(path, as_version=4)
