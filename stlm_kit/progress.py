"""Progress bars for training, evaluation and what a command computes. A log gets at most one line."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")
UNCOUNTED = "{desc}: {elapsed}"
SHOWN_AFTER = 2.0  # seconds; shorter work needs no bar


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def is_watched() -> bool:
    """Whether somebody can see a bar move: in a notebook or on a terminal, but not in a log."""
    return in_notebook() or sys.stderr.isatty()


class Waiting:
    """A context in which a command computes.

    After `SHOWN_AFTER` seconds it shows its progress on standard error: as a bar that disappears at the end, or in a
    log as one line.
    """

    def __init__(self, what: str):
        self.what, self.unit, self.total, self.done = what, "", None, 0
        self._over, self._started = threading.Event(), time.time()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> Waiting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def over(self, items: Collection[T], unit: str) -> Iterator[T]:
        """The items, counted as they are done. `unit`: the name of one item."""
        self.unit, self.total = unit, len(items)
        for item in items:
            yield item
            self.done += 1

    def _show(self) -> None:
        if self._over.wait(SHOWN_AFTER):
            return
        if not is_watched():
            far = f", {self.done} of {self.total} {self.unit}s are done" if self.total else ""
            print(f"stlm: {self.what} takes a while{far}.", file=sys.stderr, flush=True)
            return
        with tqdm(desc=self.what, leave=False, bar_format=UNCOUNTED) as bar:
            bar.start_t = self._started
            while not self._over.wait(0.2):
                bar.n, bar.total, bar.unit = self.done, self.total, self.unit
                bar.bar_format = None if self.total else UNCOUNTED
                bar.refresh()


def late_bar(items: Iterable, total: int, what: str, unit: str, *, enabled: bool = True) -> tqdm:
    """The items, under a bar that appears after `SHOWN_AFTER` seconds and disappears with the last one.

    Silent in a log.
    """
    disable = not (enabled and is_watched())
    return tqdm(items, total=total, desc=what, unit=unit, disable=disable, delay=SHOWN_AFTER, leave=False)


class Progress:
    """A bar over steps `first` to `steps`. Nothing with `enabled=False` or in a log."""

    def __init__(self, first: int, steps: int, *, enabled: bool = True):
        disable = not (enabled and is_watched())
        self.bar = tqdm(total=steps, initial=first, desc="training", unit="step", disable=disable, leave=False)
        self._tokens, self._seconds, self._shown = 0, 0.0, 0.0

    def update(self, loss: float, tokens: int, seconds: float) -> None:
        """Count one step of `tokens` tokens and `seconds` seconds.

        The shown tokens a second are of this process only.
        """
        self._tokens += tokens
        self._seconds += seconds
        self.bar.update()
        if not self.bar.disable and time.perf_counter() - self._shown > 0.2:
            self.bar.set_postfix_str(f"loss {loss:.3f}, {self._tokens / self._seconds:,.0f} tokens/s", refresh=False)
            self._shown = time.perf_counter()

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()
