"""The driver itself: it moves every kind of control, and it notices what the chapters' tests are to notice."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from .conftest import keep_evidence
from .controls import Widget, move_all
from .lab import Notebook

SETUP = """\
import itertools
import ipywidgets as w
from IPython.display import HTML
from stlm_kit import widgets

def values(**chosen):
    return HTML(f"<p>{chosen}</p>")

times = itertools.count()
"""
EVERY_KIND = """\
widgets.shell(
    values,
    whole=w.IntSlider(3, 0, 3),
    broken=w.FloatSlider(0.5),
    chosen=w.SelectionSlider(options=["a", "b"]),
    dropped=w.Dropdown(options=["a", "b"], value="b"),
    listed=w.Select(options=["a", "b"]),
    pressed=w.ToggleButtons(options=["a", "b", "c"], value="c"),
    ticked=w.Checkbox(value=True),
    typed=w.Text("some"),
)
"""
CELLS = {
    "every-kind": EVERY_KIND,
    "dead": "widgets.shell(lambda a, b: values(a=a), a=w.Checkbox(), b=w.Checkbox())",
    "forgetful": "widgets.shell(lambda a: values(a=a, n=next(times)), a=w.Checkbox())",
    "fragile": "widgets.shell(lambda a: values(a=1 / a), a=w.IntSlider(-1, -1, 1))",
}


@pytest.fixture
def notebook(tmp_path, open_notebook) -> Notebook:
    """A notebook of four widgets, of which only the first is as it should be; it ran."""
    book = new_notebook(cells=[new_code_cell(source, id=name) for name, source in {"setup": SETUP, **CELLS}.items()])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, tmp_path / "widgets.ipynb")
    notebook = open_notebook(tmp_path / "widgets.ipynb")
    notebook.run_all()
    return notebook


def test_every_kind_of_control_is_moved_and_every_fault_is_noticed(notebook, server, monkeypatch, tmp_path):
    def widget(cell_id: str) -> Widget:
        return Widget(notebook.page, notebook.cell(cell_id).locator(".widget-vbox"))

    move_all(widget("every-kind"))
    assert len(widget("every-kind").controls) == 8
    assert not notebook.problems()
    move_all(widget("dead"), still={"b"})
    with pytest.raises(AssertionError, match="Moving 'b' changed nothing"):
        move_all(widget("dead"))
    with pytest.raises(AssertionError, match="'a' was put back"):
        move_all(widget("forgetful"))
    assert not notebook.problems()
    move_all(widget("fragile"))  # it draws a sentence in place of 1 / 0, and takes it back
    widget("fragile").move(widget("fragile").controls[0])
    assert any("cannot be drawn" in problem for problem in notebook.problems())
    notebook.page.evaluate("setTimeout(() => { throw new Error('an error of the page') })")
    notebook.page.evaluate("fetch('/no-such-page')")
    found = "\n".join(notebook.problems())
    assert "an error of the page" in found and "404" in found

    monkeypatch.setenv("STLM_SCREENSHOTS", str(tmp_path / "kept"))
    folder = keep_evidence(notebook.page, server, "a test")
    assert folder == tmp_path / "kept" / "a test"
    assert (folder / "page.png").read_bytes().startswith(b"\x89PNG")
    assert "is running at" in (folder / "server.log").read_text("utf-8")
