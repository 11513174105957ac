"""A student's path through a turn of chapter 02, in JupyterLab: a wrong try first, then the folded solution."""

import nbformat
import pytest

from stlm_kit.notebook_files import find_chapters
from stlm_kit.practice.student_copy import practice_copy, read
from stlm_kit.practice.turns import turn_of

TURN = "attend"


@pytest.fixture
def chapter() -> nbformat.NotebookNode:
    [found] = find_chapters(["02"])
    return read(found.path)


def test_a_student_writes_checks_and_goes_on(chapter, tmp_path, open_notebook):
    turn_id, solution = next((cell.id, cell.source) for cell in chapter.cells if TURN in names(cell))
    copy = practice_copy(chapter, "02_building_the_decoder")
    check_id = next(cell.id for cell in copy.cells if cell.source.startswith(f"%%check {TURN}"))
    code = [cell.id for cell in copy.cells if cell.cell_type == "code"]
    opening = code[: code.index(turn_id)]
    path = tmp_path / "02.ipynb"
    nbformat.write(copy, path)
    notebook = open_notebook(path, [*opening, turn_id, check_id, "practice-standing"])

    assert "functions to write" in notebook.run("practice-begin")
    for cell_id in opening[1:]:
        notebook.run(cell_id)
    assert notebook.run(turn_id) == ""
    assert f"✗ {TURN}: still to write" in notebook.run(check_id)

    assert "future" in solution
    notebook.write(turn_id, solution.replace("triu(1)", "triu(2)"))  # sees the token that it is to predict
    assert notebook.run(turn_id) == ""
    wrong = notebook.run(check_id)
    assert f"✗ {TURN}: " in wrong and "still to write" not in wrong and "its own version" in wrong
    assert not notebook.problems(), "the sentence says it; no traceback beside it"

    folded = notebook.cell(f"{turn_id}-help").locator("details", has_text="Solution").last
    assert not folded.locator("pre").is_visible()
    folded.locator("summary").click()
    notebook.write(turn_id, folded.locator("pre").inner_text())
    assert notebook.run(turn_id) == ""
    assert f"✓ {TURN} is yours." in notebook.run(check_id)
    n_turns = sum(turn_of(cell) is not None for cell in chapter.cells)
    assert f"1 of {n_turns} are yours." in notebook.run("practice-standing")
    assert not notebook.problems()


def names(cell: nbformat.NotebookNode) -> tuple[str, ...]:
    turn = turn_of(cell)
    return turn.names if turn else ()
