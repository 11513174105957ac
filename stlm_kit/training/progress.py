"""A progress bar with loss, tokens a second and time left: on a terminal and in a notebook, silent in a log."""

from __future__ import annotations

import sys
import time

from tqdm.auto import tqdm


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


class Progress:
    """A bar over steps `first` to `steps`. Where nobody watches (`enabled=False`, or a log) it only keeps the clock."""

    def __init__(self, first: int, steps: int, *, enabled: bool = True):
        disable = not enabled or not (in_notebook() or sys.stderr.isatty())
        self.bar = tqdm(total=steps, initial=first, desc="training", unit="step", disable=disable, leave=False)
        self._tokens, self._started, self._shown = 0, time.perf_counter(), 0.0

    def update(self, loss: float, tokens: int) -> float:
        """Count one step; gives the tokens a second since the start of this process."""
        self._tokens += tokens
        now = time.perf_counter()
        rate = self._tokens / (now - self._started)
        self.bar.update()
        if not self.bar.disable and now - self._shown > 0.2:
            self.bar.set_postfix_str(f"loss {loss:.3f}, {rate:,.0f} tokens/s", refresh=False)
            self._shown = now
        return rate

    def close(self) -> None:
        self.bar.close()
