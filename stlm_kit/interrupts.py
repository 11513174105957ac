"""Signals that ask a run to stop: noted at once, obeyed at the next step, when the state can be saved whole."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPS = ("SIGTERM", "SIGUSR1", "SIGINT")  # asked to end, a batch system's warning, Ctrl-C


@contextmanager
def handling(handler: Callable, names: tuple[str, ...] = STOPS) -> Iterator[None]:
    """Within this context `handler(number, frame)` gets these signals; the handlers before it come back.

    Outside the main thread Python allows no handlers: then nothing is caught and the defaults hold.
    """
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for name in names:
            if number := getattr(signal, name, None):  # Windows has no SIGUSR1
                previous[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def stopped_like_ctrl_c():
    """Within this context SIGTERM and SIGUSR1 raise KeyboardInterrupt, as Ctrl-C does: for a command without a loop."""
    return handling(signal.default_int_handler, ("SIGTERM", "SIGUSR1"))


class StopRequests:
    """Within this context SIGTERM, SIGUSR1 and Ctrl-C set `requested` to the signal's name.

    A second Ctrl-C stops at once, for a reader who does not want to wait.
    """

    def __init__(self) -> None:
        self.requested: str | None = None

    def _note(self, number: int, frame: object) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name

    def __enter__(self) -> StopRequests:
        self._handling = handling(self._note)
        self._handling.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._handling.__exit__(*error)


class StopSignal(StopRequests):
    """For the runner of notebooks: a stop is noted and passed on to the kernel, and obeyed once the kernel has saved.

    The kernel gets a SIGTERM: a training run inside saves at its next step and raises Interrupted, anything else ends
    at once. (SIGINT would be lost in a kernel that is between two cells.) A second Ctrl-C kills the kernel.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kernel: Callable[[], int | None] = lambda: None

    def _note(self, number: int, frame: object) -> None:
        if self.requested is None:
            self.requested = signal.Signals(number).name
            self._send(signal.SIGTERM)
        elif number == signal.SIGINT:  # in a hurry
            self._send(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _send(self, number: int) -> None:
        try:
            if pid := self._kernel():
                os.kill(pid, number)
        except ProcessLookupError:  # it has gone already
            pass

    @contextmanager
    def forwarding(self, kernel: Callable[[], int | None]) -> Iterator[None]:
        """Pass signals on to the process whose id `kernel()` gives (None: there is none yet)."""
        self._kernel = kernel
        try:
            yield
        finally:
            self._kernel = lambda: None


def ignored_from_now_on() -> None:
    """A stop that comes while the interpreter shuts down finds the work done, and does not change the exit status."""
    for name in STOPS:
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
