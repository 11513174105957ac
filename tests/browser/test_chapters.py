"""Each chapter with a widget, in JupyterLab: it runs, every control redraws the figure, and nothing complains."""

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


CHAPTERS = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if shells(path)]


def test_there_are_chapters_with_widgets():
    assert CHAPTERS


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_control_redraws_its_figure_and_nothing_complains(chapter, open_notebook):
    notebook = open_notebook(chapter)
    notebook.run_all()
    assert not notebook.problems()
    for cell_id in shells(chapter):
        box = notebook.cell(cell_id).locator(".jp-OutputArea-output .widget-vbox")
        expect(box).to_have_count(1, timeout=START)
        move_all(Widget(notebook.page, box), STILL.get(chapter.stem, set()))
    assert not notebook.problems()
