"""nbgrader's converters, run in this process: what they complain of is one sentence, and Ctrl-C stays Ctrl-C."""

import pytest
from nbgrader.converters import Autograde

from stlm_kit.course.gradebook import convert, scores
from stlm_kit.errors import KitError


def test_a_complaint_of_nbgraders_is_one_sentence(tmp_path):
    with pytest.raises(KitError, match=r"nbgrader could not grade it: .*No notebooks were matched") as caught:
        convert(tmp_path, "01_made_up", "nobody", Autograde)
    assert "\n" not in str(caught.value)


def test_an_interrupt_is_not_taken_for_a_complaint(tmp_path, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Autograde, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path, "01_made_up", "nobody", Autograde)


def test_without_a_gradebook_there_are_no_scores(tmp_path):
    assert scores(tmp_path, "01_made_up", "nobody") == {}
