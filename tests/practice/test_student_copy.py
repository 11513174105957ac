"""A practice copy holds the whole chapter: with its solutions put back it is the committed one, cell by cell."""

import re

import nbformat
import pytest

from stlm_kit.notebook_files import chapters
from stlm_kit.practice.student_copy import ADDED, practice_copy, put_back, read
from stlm_kit.practice.turns import STUB, groups, turn_of

CHAPTERS = pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.name)


def bare(book: nbformat.NotebookNode) -> list[tuple]:
    """What makes a chapter, cell by cell: all but outputs."""
    return [(cell.id, cell.cell_type, cell.source, dict(cell.metadata)) for cell in book.cells]


@CHAPTERS
def test_with_its_solutions_put_back_it_is_the_committed_chapter(chapter):
    committed = read(chapter.path)
    copy = practice_copy(committed, chapter.name)
    nbformat.validate(copy)
    assert bare(put_back(copy)) == bare(committed)


@CHAPTERS
def test_it_shows_no_solution_but_the_folded_one_and_no_output(chapter):
    committed = read(chapter.path)
    copy = practice_copy(committed, chapter.name)
    assert not any(cell.get("outputs") for cell in copy.cells)
    for cell in committed.cells:
        if turn := turn_of(cell):
            place = next(i for i, each in enumerate(copy.cells) if each.id == cell.id)
            assert STUB in copy.cells[place].source
            assert copy.cells[place + 1].source.startswith("<details><summary>Hint</summary>")
            assert turn.solution in copy.cells[place + 1].source
            budget = sum(map(int, _budgets(copy.cells[place].source)))
            assert budget == turn.n_lines >= 1


def _budgets(source: str) -> list[str]:
    return re.findall(r"# Your turn \(about (\d+) lines?\): \S", source)


@CHAPTERS
def test_each_turn_has_a_check_behind_it(chapter):
    committed = read(chapter.path)
    copy = practice_copy(committed, chapter.name)
    named = [name for cell in copy.cells if cell.source.startswith("%%check ") for name in _first(cell).split()[1:]]
    turns = [name for turn in map(turn_of, committed.cells) if turn for name in turn.names]
    assert named == turns and len(set(turns)) == len(turns)
    assert len(groups(committed.cells)) >= 3


def _first(cell: nbformat.NotebookNode) -> str:
    return cell.source.split("\n", 1)[0]


def test_a_changed_solution_would_be_noticed(chapter):
    copy = practice_copy(chapter, "99_in_small")
    [help_cell] = [
        cell for cell in copy.cells if "sum(numbers)" in cell.source and ADDED in cell.metadata.get("tags", [])
    ]
    help_cell.source = help_cell.source.replace("sum(numbers)", "max(numbers)")
    assert bare(put_back(copy)) != bare(chapter)
