"""A picture of distilled students shows each run and the means of what it was given."""

import pytest

from stlm_kit import plots
from stlm_kit.errors import UsageError


def metrics(shift: float) -> dict:
    return {"curve_steps": 2, "curve": [2.0 + shift, 1.0 + shift], "held_out": [[2, 3.0 + shift], [4, 2.5 + shift]]}


def test_losses_and_scores_are_drawn_with_their_means():
    figure = plots.loss_and_held_out({"wide": [metrics(0), metrics(0.5)], "narrow": [metrics(1)]}, loss="KL")
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in left.lines] == [[2, 1], [2.5, 1.5], [2.25, 1.25], [3, 2]]
    assert [list(line.get_ydata()) for line in right.lines] == [[3, 2.5], [3.5, 3], [3.25, 2.75], [4, 3.5]]
    assert list(left.lines[0].get_xdata()) == [1, 3] and list(right.lines[0].get_xdata()) == [2, 4]
    assert [text.get_text() for text in right.get_legend().texts] == ["wide", "narrow"]
    assert "wide 1.25 nats and 2.750 bits; narrow 2 nats and 3.500 bits" in figure.alternative_text
    assert "KL" in left.get_title(loc="left")


@pytest.mark.parametrize(
    ("runs", "said"), [([], "'wide' has no runs"), ([{"curve": [1.0], "curve_steps": 1}], "kept no evaluations")]
)
def test_what_cannot_be_drawn_is_refused(runs, said):
    with pytest.raises(UsageError, match=said):
        plots.loss_and_held_out({"wide": runs})
