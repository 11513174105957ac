"""Executed notebooks as pages that need no other computer."""

import re

import nbformat
import pytest

from stlm_kit import plots
from stlm_kit.plots.picture import bundle
from stlm_kit.plots.style import describe
from stlm_kit.report.pages import html_page

VIEW = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "VBox(children=())"}


@pytest.fixture
def page(course):
    path = course.chapter(
        "00_a",
        course.prose(r"The score $-\sum \ln p$ of a text, and $$\frac{a}{b}$$ but `$HOME/$USER`, and $\nonsense{$."),
        course.code("print('<script>')"),
        course.code("slider"),
    )
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[3].outputs = [nbformat.v4.new_output("stream", text="printed <script>alert(1)</script>\n")]
    notebook.cells[4].outputs = [nbformat.v4.new_output("display_data", VIEW)]
    notebook.metadata["widgets"] = {
        "application/vnd.jupyter.widget-state+json": {"state": {"a": {}}, "version_major": 2}
    }
    nbformat.write(notebook, path)
    return html_page(path)


def test_it_fetches_and_runs_nothing(page):
    text = page.read_text()
    assert "<script" not in text and "widgetRendererSrc" not in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)


def test_it_shows_what_was_printed_but_no_dead_widget(page):
    text = page.read_text()
    assert "printed &lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "VBox" not in text


def test_formulas_are_pictures_where_they_can_be(page):
    text = page.read_text()
    assert re.findall(r'<img alt="([^"]*)"', text) == [r"-\sum \ln p", r"\frac{a}{b}"]
    assert "<code>$HOME/$USER</code>" in text and r"$\nonsense{$" in text


def test_a_figure_of_the_kit_keeps_its_alternative_text(course, caplog):
    cell = course.code("plots.losses(rows)")
    drawn = describe(
        plots.losses([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]), "A line that falls from 2 to 1"
    )
    data, metadata = bundle(drawn)
    cell.outputs = [nbformat.v4.new_output("execute_result", data, metadata=metadata, execution_count=1)]
    text = html_page(course.chapter("00_a", cell)).read_text()
    assert re.findall(r'<img alt="([^"]*)"', text) == ["A line that falls from 2 to 1"]
    assert not caplog.records  # nbconvert warns of images without one


def test_it_is_made_once(page):
    before = page.stat().st_mtime_ns
    assert html_page(page.with_suffix(".ipynb")).stat().st_mtime_ns == before


def test_a_notebook_that_cannot_be_shown_is_no_page(tmp_path):
    (tmp_path / "bad.ipynb").write_text("{}")
    assert html_page(tmp_path / "bad.ipynb") is None
