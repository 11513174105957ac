"""Signals that ask a run to stop: noted at once, obeyed at the next step, when the state can be saved whole."""

from __future__ import annotations

import signal
import threading


class StopRequests:
    """Within this context SIGTERM, SIGUSR1 (a batch system's warning) and Ctrl-C set `requested` to the signal's name.

    A second Ctrl-C stops at once, for a reader who does not want to wait. Outside the main thread Python allows no
    handlers: then nothing is caught and the defaults hold.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._previous: dict[int, object] = {}

    def _note(self, number: int, frame: object) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name

    def __enter__(self) -> StopRequests:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGUSR1", "SIGINT"):
                if number := getattr(signal, name, None):  # Windows has no SIGUSR1
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
