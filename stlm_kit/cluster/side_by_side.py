"""Several workers on one machine, one for each MIG slice. CUDA gives a process one slice, so a worker is a process.

Each worker is `stlm reproduce` with the same request. The lock of each run divides the work: a worker skips a run that
another worker holds. The process that started the workers collects their results afterwards.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO

from stlm_kit.errors import Interrupted
from stlm_kit.interrupts import handling
from stlm_kit.reproduce.kernel import end_with_parent
from stlm_kit.slices import Slice

WORKER = "STLM_WORKER_OF"  # set in a worker's environment: the id of the process that started it


def run_workers(slices: Sequence[Slice], arguments: Sequence[str]) -> list[int]:
    """Run `stlm ARGUMENTS` once for each slice, in parallel. Returns their exit statuses when all have ended.

    Each printed line starts with the number and the profile of its slice. SIGTERM, SIGUSR1 and Ctrl-C are passed on to
    every worker; each then stops as it would alone.
    """
    workers: list[subprocess.Popen] = []
    printers: list[threading.Thread] = []
    lock = threading.Lock()

    def forward(number: int, frame: object) -> None:
        for worker in workers:
            worker.send_signal(number)  # does nothing if the worker has ended

    with handling(forward):
        for number, part in enumerate(slices, start=1):
            print(f"slice {number}: {part.name} ({part.uuid})", flush=True)
            worker = _start(part, arguments)
            workers.append(worker)
            for pipe, to in ((worker.stdout, sys.stdout), (worker.stderr, sys.stderr)):
                behind = f"[{number}: {part.profile or part.uuid}] "
                printers.append(threading.Thread(target=_print_lines, args=(pipe, to, behind, lock), daemon=True))
                printers[-1].start()
        statuses = [worker.wait() for worker in workers]
        for printer in printers:
            printer.join()
    return statuses


def _start(part: Slice, arguments: Sequence[str]) -> subprocess.Popen:
    """Start a worker in its own session, so that Ctrl-C in a terminal reaches it once, through the parent process."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": part.uuid, WORKER: str(os.getpid())}
    return subprocess.Popen(
        [sys.executable, "-m", "stlm_kit", *arguments],
        env=environment | {"PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def _print_lines(pipe: IO[str], to: IO[str], behind: str, lock: threading.Lock) -> None:
    """Pass on a worker's lines. If nobody reads the pipe any more, the lines are lost and the worker continues."""
    for line in pipe:
        try:
            with lock:
                print(behind + line.rstrip("\n"), file=to, flush=True)
        except (OSError, ValueError):
            continue


def settle_as_worker() -> None:
    """Make a worker stop, with its state saved, when the process that started it ends.

    A parent that is killed by SIGKILL cannot tell its workers, so the worker asks the system for a signal. Raises
    Interrupted if the parent has ended already.
    """
    if parent := os.environ.pop(WORKER, None):  # processes that this worker starts are not workers themselves
        end_with_parent(signal.SIGTERM)
        if os.getppid() != int(parent):  # the parent ended before the request
            raise Interrupted("Whoever started this worker has ended; start the same command again.")


def status_of(statuses: Sequence[int], all_done: bool) -> int:
    """The exit status of all workers: 3 where one was interrupted, 0 where every run is done, else the largest.

    A worker on a small slice may refuse a run that another worker did on a larger slice; then every run is done and the
    status is 0. A worker that was ended by a signal (a negative status) counts as failed.
    """
    if Interrupted.exit_status in statuses:
        return Interrupted.exit_status
    return 0 if all_done else max((1 if status < 0 else status for status in statuses), default=0)
