"""Signals that ask a run to stop. They are noted at once and obeyed at the next step, where the state can be saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPS = ("SIGTERM", "SIGUSR1", "SIGINT")  # a request to end, a batch system's warning, Ctrl-C


@contextmanager
def handling(handler: Callable, names: tuple[str, ...] = STOPS) -> Iterator[None]:
    """Within this context `handler(number, frame)` receives these signals. Earlier handlers are then restored.

    Python allows handlers only in the main thread. In another thread nothing is caught and the defaults apply.
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
    """Within this context SIGTERM and SIGUSR1 raise KeyboardInterrupt, as Ctrl-C does. For a command without a loop."""
    return handling(signal.default_int_handler, ("SIGTERM", "SIGUSR1"))


class StopRequests:
    """Within this context SIGTERM, SIGUSR1 and Ctrl-C set `requested` to the signal's name.

    A second Ctrl-C stops at once, if you do not want to wait.
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
    """For executing notebooks: a stop is noted, passed on to the kernel, and obeyed after the kernel has saved.

    The kernel receives SIGTERM. A training run in it saves at its next step and raises Interrupted; other code ends at
    once. A kernel between two cells would ignore SIGINT. A second Ctrl-C kills the kernel.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kernel: Callable[[], int | None] = lambda: None

    def _note(self, number: int, frame: object) -> None:
        if self.requested is None:
            self.requested = signal.Signals(number).name
            self._send(signal.SIGTERM)
        elif number == signal.SIGINT:  # a second Ctrl-C
            self._send(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _send(self, number: int) -> None:
        try:
            if pid := self._kernel():
                os.kill(pid, number)
        except ProcessLookupError:  # the kernel has ended already
            pass

    @contextmanager
    def forwarding(self, kernel: Callable[[], int | None]) -> Iterator[None]:
        """Pass signals on to the process whose id `kernel()` returns (None: there is none yet)."""
        self._kernel = kernel
        try:
            yield
        finally:
            self._kernel = lambda: None


def ignored_from_now_on() -> None:
    """Ignore stop signals while the interpreter shuts down. The work is done, so the exit status must not change."""
    for name in STOPS:
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
