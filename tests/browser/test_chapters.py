"""Each chapter's widgets in JupyterLab: every control redraws its figure, and nothing complains.

Of a chapter the cells are run that its widgets need; nbval runs them all, without a browser.
"""

import ast
import symtable
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

from .controls import Widget, move_all
from .lab import START

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
# Controls that change nothing, where this is what the reader is to see.
STILL = {"02_building_the_decoder": {"n heads"}}


def shells(path: Path) -> list[str]:
    """The ids of the cells that end in a widget."""
    cells = nbformat.read(path, as_version=4).cells
    return [cell.id for cell in cells if cell.cell_type == "code" and "widgets.shell(" in cell.source]


def reads_and_binds(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell takes from other cells, and those it binds or changes a part of, for others to take."""
    tree, tables = ast.parse(source), [symtable.symtable(source, "cell", "exec")]
    own = tables[0].get_symbols()
    binds = {name.get_name() for name in own if name.is_assigned() or name.is_imported() or name.is_namespace()}
    reads = {name.get_name() for name in own if name.is_referenced()}
    while tables := [child for table in tables for child in table.get_children()]:
        inner = [name for table in tables for name in table.get_symbols()]
        reads |= {name.get_name() for name in inner if name.is_global() and name.is_referenced()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
            binds.add(node.value.id)
    loops = {
        part.id
        for node in tree.body
        if isinstance(node, ast.For)
        for part in ast.walk(node.target)
        if isinstance(part, ast.Name)
    }
    return reads - loops, binds


def needed(path: Path) -> set[str]:
    """The ids of the code cells that the widgets depend on, theirs included."""
    ids, wanted = set(shells(path)), set()
    for cell in reversed([cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]):
        reads, binds = reads_and_binds(cell.source)
        if cell.id in ids or binds & wanted:
            ids.add(cell.id)
            wanted = (wanted - binds) | reads
    return ids


CHAPTERS = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if shells(path)]


def test_there_are_chapters_with_widgets():
    assert CHAPTERS


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_control_redraws_its_figure_and_nothing_complains(chapter, open_notebook):
    notebook = open_notebook(chapter, needed(chapter))
    notebook.run_all()
    assert not notebook.problems()
    for cell_id in shells(chapter):
        box = notebook.cell(cell_id).locator(".jp-OutputArea-output .widget-vbox")
        expect(box).to_have_count(1, timeout=START)
        move_all(Widget(notebook.page, box), STILL.get(chapter.stem, set()))
    assert not notebook.problems()
