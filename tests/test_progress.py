"""What is shown while a command computes: nothing for a quick one, a line in a log, a bar on a terminal."""

import io
import sys
import time

import pytest

from stlm_kit import progress
from stlm_kit.progress import Waiting


class Terminal(io.StringIO):
    """Standard error that somebody watches."""

    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_quick_one_shows_nothing(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr(progress, "SHOWN_AFTER", 3600.0)
    with Waiting("planning") as waiting:
        assert list(waiting.over([1, 2], "run")) == [1, 2]
    assert sys.stderr.getvalue() == ""


def shown(words):
    """Wait until standard error holds some words."""
    for _ in range(1000):
        if words in sys.stderr.getvalue():
            return True
        time.sleep(0.01)
    return False


def test_in_a_log_one_line_is_written(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(progress, "SHOWN_AFTER", 0.05)
    with Waiting("planning") as waiting:
        runs = waiting.over(["a", "b"], "run")
        next(runs)
        assert shown("takes a while")
        assert list(runs) == ["b"]
    assert sys.stderr.getvalue() == "stlm: planning takes a while, 0 of 2 runs are done.\n"


def test_on_a_terminal_a_bar_moves_and_goes(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "SHOWN_AFTER", 0.0)
    with Waiting("planning") as waiting:
        for run in waiting.over(["a", "b"], "run"):
            assert run == "a" or shown("1/2")
    assert sys.stderr.getvalue().endswith("\r") and "planning" in sys.stderr.getvalue()


def test_an_error_ends_the_waiting(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    waiting = Waiting("planning")
    with pytest.raises(ZeroDivisionError), waiting:
        raise ZeroDivisionError
    assert not waiting._thread.is_alive()
