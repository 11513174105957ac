"""A figure in JupyterLab has its alternative text and its size, by itself and in a widget that redraws it."""

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect

from stlm_kit.plots.picture import DPI, SHOWN_DPI

SETUP = """\
import ipywidgets
from stlm_kit import plots, widgets
from stlm_kit.plots.style import describe

def falling(first=2.0):
    drawn = plots.losses([{"step": 1, "loss": first}, {"step": 2, "loss": 1.0}])
    return describe(drawn, f'A line that falls from {first} to 1, "steeply"')
"""
MOVED = "widgets.shell(falling, first=ipywidgets.FloatSlider(3, min=2, max=9, step=1))"
CELLS = {"setup": SETUP, "alone": "falling()", "moved": MOVED}


def test_a_figure_has_its_words_and_its_size(tmp_path, open_notebook):
    book = new_notebook(cells=[new_code_cell(source, id=name) for name, source in CELLS.items()])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, tmp_path / "pictures.ipynb")
    notebook = open_notebook(tmp_path / "pictures.ipynb")
    notebook.run_all()
    alone, moved = (notebook.cell(name).locator(".jp-OutputArea-output img") for name in ("alone", "moved"))
    expect(alone).to_have_attribute("alt", 'A line that falls from 2.0 to 1, "steeply"')
    drawn, shown = alone.evaluate("image => [image.naturalWidth, image.getBoundingClientRect().width]")
    assert abs(drawn / shown - DPI / SHOWN_DPI) < 0.01
    expect(moved).to_have_attribute("alt", 'A line that falls from 3.0 to 1, "steeply"')
    notebook.cell("moved").locator(".noUi-handle").press("ArrowRight")
    expect(moved).to_have_attribute("alt", 'A line that falls from 4.0 to 1, "steeply"')
    assert not notebook.problems()
    [output] = next(cell.outputs for cell in notebook.save().cells if cell.id == "alone")  # and the file keeps it
    assert output.metadata["image/png"]["alt"] == 'A line that falls from 2.0 to 1, "steeply"'
