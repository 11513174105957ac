"""A displayed figure is sharp, small, as large as it was, and says in words what it shows."""

import ast
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from stlm_kit import plots
from stlm_kit.plots.picture import COLOURS, DPI, IN_JUPYTER, SHOWN_DPI, bundle, png, show_in
from stlm_kit.plots.style import describe

PLOTS = Path(plots.__file__).parent


def functions() -> dict[str, ast.FunctionDef]:
    """{name: definition} of every function in the plots of the kit."""
    trees = [ast.parse(path.read_text("utf-8")) for path in sorted(PLOTS.glob("*.py"))]
    return {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def plots_of_the_kit() -> list[str]:
    """The functions that `@house_style` decorates."""
    known = functions().items()
    return [name for name, node in known if "house_style" in map(ast.unparse, node.decorator_list)]


def calls(name: str) -> set[str]:
    """What a plot calls by name, itself or through a function of the plots."""
    known, found, left = functions(), set(), [name]
    while left:
        called = {ast.unparse(node.func) for node in ast.walk(known[left.pop()]) if isinstance(node, ast.Call)}
        left += sorted((called - found) & set(known))
        found |= called
    return found


@pytest.fixture
def picture():
    drawn = plots.losses([{"step": step, "loss": 6.0 - step / 10} for step in range(1, 11)])
    return describe(drawn, 'A line that falls\n   from 5.9 to 5.0, <less> & "less".')


@pytest.fixture
def shell():
    """A shell of IPython whose matplotlib backend has registered its own way to show a Figure."""
    shell = InteractiveShell()
    shell.display_formatter.formatters["image/png"].for_type(Figure, lambda figure: b"the backend's own")
    return shell


@pytest.mark.parametrize("plot", plots_of_the_kit())
def test_every_plot_gives_its_figure_alternative_text(plot):
    assert "describe" in calls(plot), f"{plot} ends without describe(figure, words): what does its picture show?"


def test_no_plot_goes_unseen_by_the_test_above():
    assert {"published_found", "losses", "influence"} <= set(plots_of_the_kit())
    assert "describe" not in calls("running_mean")


class Images(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.found: list[dict] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found += [dict(attributes)] if tag == "img" else []


def test_a_displayed_figure_carries_its_text_for_both_front_ends(shell, picture, monkeypatch):
    monkeypatch.setenv(IN_JUPYTER, "a chapter.ipynb")
    show_in(shell)
    data, metadata = shell.display_formatter.format(picture)
    words = 'A line that falls from 5.9 to 5.0, <less> & "less".'
    assert metadata["image/png"]["alt"] == words  # for the report
    [image] = Images(data["text/html"]).found  # for JupyterLab
    assert image["alt"] == words and image["src"] == f"data:image/png;base64,{data['image/png']}"
    assert data["text/plain"] == "<Figure size 700x300 with 1 Axes>"
    monkeypatch.delenv(IN_JUPYTER)  # papermill, nbval: what is stored stays small
    stored, same = shell.display_formatter.format(picture)
    assert stored == {name: data[name] for name in ("image/png", "text/plain")} and same == metadata
    other = pyplot.figure()
    pyplot.close(other)
    assert shell.display_formatter.format(other)[0]["image/png"] == b"the backend's own"


def test_a_figure_without_words_claims_none(picture):
    picture.alternative_text = ""
    data, metadata = bundle(picture)
    assert set(data) == {"image/png"} and "alt" not in metadata["image/png"]


def test_a_picture_has_more_pixels_than_the_page_gives_it_room(picture):
    drawn = png(picture)
    size = bundle(picture)[1]["image/png"]
    wide, high = Image.open(io.BytesIO(drawn)).size
    assert (size["width"], size["height"]) == (round(wide * SHOWN_DPI / DPI), round(high * SHOWN_DPI / DPI))
    assert DPI > SHOWN_DPI and abs(size["width"] - 7 * SHOWN_DPI) < 0.05 * 7 * SHOWN_DPI  # seven inches, as drawn


def test_a_saved_figure_is_as_sharp(picture, tmp_path):
    picture.savefig(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (7 * DPI, 3 * DPI)
    picture.savefig(tmp_path / "a.png", dpi=50)
    assert Image.open(tmp_path / "a.png").size == (350, 150)


def test_a_palette_shows_the_same_colours_in_fewer_bytes(picture):
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", facecolor="white")
    packed = png(picture)
    before, after = (
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int) for data in (buffer.getvalue(), packed)
    )
    assert np.abs(before - after).max() <= 2
    assert Image.open(io.BytesIO(packed)).mode == "P" and len(np.unique(after.reshape(-1, 3), axis=0)) <= COLOURS
    assert len(packed) < 0.6 * len(buffer.getvalue())
    assert packed == png(picture)  # a chapter that is executed again leaves an unchanged file
