"""Signals that ask the runner to stop: noted, passed on to the kernel, obeyed once the kernel has saved."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stlm_kit.interrupts import StopRequests


class StopSignal(StopRequests):
    """Within this context SIGTERM, SIGUSR1 (a batch system's warning) and Ctrl-C set `requested` to the signal's name.

    The kernel gets a SIGTERM: a training run inside saves at its next step and raises Interrupted, anything else ends
    at once. (SIGINT would be lost in a kernel that is between two cells.) A second Ctrl-C kills the kernel. Outside the
    main thread Python allows no handlers.
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
