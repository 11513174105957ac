"""Every chapter as a student meets it: without solutions it runs to its end, and a wrong answer is named.

Each copy runs in a kernel of its own. `make fuzz` also hands in, for each turn, a function that returns nothing.
"""

import os
import re
from pathlib import Path

import nbformat
import pytest

from stlm_kit.interrupts import StopSignal
from stlm_kit.notebook_files import chapters
from stlm_kit.practice.student_copy import practice_copy, read
from stlm_kit.practice.turns import STUB, turn_of
from stlm_kit.reproduce.notebook_engine import execute

CHAPTERS = pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.name)


def executed(copy: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Run a copy to its end, as "Run all" would; its answers and caches of runs go to `folder`."""
    path, output = folder / "copy.ipynb", folder / "executed.ipynb"
    nbformat.write(copy, path)
    with StopSignal() as stop:
        outcome = execute(path, output, {}, environment={"STLM_RUNS": str(folder)}, log=folder / "log.txt", stop=stop)
    assert outcome.status == "done", outcome
    return read(output)


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.get("outputs", []))


def labels(chapter) -> list[str]:
    return [turn.label for cell in chapter.cells if (turn := turn_of(cell))]


@CHAPTERS
def test_without_solutions_each_turn_is_named_and_the_chapter_runs_to_its_end(chapter, tmp_path):
    copy = executed(practice_copy(read(chapter.path), chapter.name), tmp_path)
    said = "".join(printed(cell) for cell in copy.cells if cell.source.startswith("%%check "))
    assert re.findall(r"^✗ (.+): still to write, about \d+ lines?\.", said, re.MULTILINE) == labels(chapter)
    assert "chapter's own version too" not in said
    assert printed(copy.cells[-1]).startswith(f"0 of {len(labels(chapter))} are yours.")


@CHAPTERS
@pytest.mark.skipif("STLM_FUZZ" not in os.environ, reason="each check runs several times; see make fuzz")
def test_what_returns_nothing_fails_its_check(chapter, tmp_path):
    copy = practice_copy(read(chapter.path), chapter.name)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.source = cell.source.replace(STUB, "return None")
    said = "".join(printed(cell) for cell in executed(copy, tmp_path).cells)
    assert re.findall(r"^✗ (.+?): (?!still)\S", said, re.MULTILINE) == labels(chapter)
    assert "is yours" not in said
