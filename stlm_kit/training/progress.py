"""Progress bars: training with loss, tokens a second and time left, and evaluation. Silent in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from tqdm.auto import tqdm

SHOWN_AFTER = 2.0  # seconds: what is done by then needs no bar


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def is_watched() -> bool:
    """Whether somebody sees a bar move: in a notebook or on a terminal, and not in a log."""
    return in_notebook() or sys.stderr.isatty()


def late_bar(items: Iterable, total: int, what: str, unit: str, *, enabled: bool = True) -> tqdm:
    """The items, under a bar that comes after `SHOWN_AFTER` seconds and goes with the last one; silent in a log."""
    disable = not (enabled and is_watched())
    return tqdm(items, total=total, desc=what, unit=unit, disable=disable, delay=SHOWN_AFTER, leave=False)


class Progress:
    """A bar over steps `first` to `steps`; nothing where nobody watches (`enabled=False`, or a log)."""

    def __init__(self, first: int, steps: int, *, enabled: bool = True):
        disable = not (enabled and is_watched())
        self.bar = tqdm(total=steps, initial=first, desc="training", unit="step", disable=disable, leave=False)
        self._tokens, self._seconds, self._shown = 0, 0.0, 0.0

    def update(self, loss: float, tokens: int, seconds: float) -> None:
        """Count one step of so many tokens and seconds. Tokens a second are shown over this process's steps alone."""
        self._tokens += tokens
        self._seconds += seconds
        self.bar.update()
        if not self.bar.disable and time.perf_counter() - self._shown > 0.2:
            self.bar.set_postfix_str(f"loss {loss:.3f}, {self._tokens / self._seconds:,.0f} tokens/s", refresh=False)
            self._shown = time.perf_counter()

    def close(self) -> None:
        self.bar.close()
