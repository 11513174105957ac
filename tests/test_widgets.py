"""A widget redraws its plot, closes what it drew, and turns a mistake into a sentence."""

import ipywidgets
import pytest
from IPython.display import HTML
from matplotlib import pyplot
from matplotlib.figure import Figure

from stlm_kit import widgets
from stlm_kit.errors import UsageError


@pytest.fixture
def shown(monkeypatch):
    """What the widget displays: outside a kernel an Output widget passes everything through."""
    things = []
    monkeypatch.setattr(widgets, "display", things.append)
    return things


def draw(width: int, title: str = "") -> Figure:
    if width == 3:
        raise UsageError("A width of 3 will not do; choose another.")
    if width == 4:
        raise ValueError("four")
    figure = pyplot.figure(figsize=(width, 1))
    figure.suptitle(title)
    return figure


def test_it_draws_at_once_and_again_at_each_move(shown):
    slider = ipywidgets.IntSlider(2, 1, 10)
    box = widgets.shell(draw, width=slider, title=ipywidgets.Text("a"))
    slider.value = 5
    assert [tuple(figure.get_size_inches()) for figure in shown] == [(2, 1), (5, 1)]
    assert box.children[0] is slider and isinstance(box.children[-1], ipywidgets.Output)
    assert not pyplot.get_fignums()
    assert slider.description == "width" and slider.continuous_update is False


def test_a_mistake_is_a_sentence_and_the_controls_stay_alive(shown, capsys):
    slider = ipywidgets.IntSlider(2, 1, 10)
    widgets.shell(draw, width=slider)
    slider.value = 3
    assert "A width of 3 will not do; choose another." in capsys.readouterr().out
    slider.value = 4
    assert "cannot be drawn: four (ValueError)" in capsys.readouterr().out
    slider.value = 5
    assert len(shown) == 2


def test_a_table_is_shown_as_well_as_a_figure(shown):
    slider = ipywidgets.IntSlider(2, 1, 10)
    widgets.shell(lambda rows: HTML(f"<p>{rows}</p>"), rows=slider)
    slider.value = 5
    assert [table.data for table in shown] == ["<p>2</p>", "<p>5</p>"]


def test_a_control_must_be_a_widget():
    with pytest.raises(UsageError, match="'width' is no widget"):
        widgets.shell(draw, width=(1, 10))
