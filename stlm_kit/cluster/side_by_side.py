"""Several workers on one machine, one a MIG slice: CUDA gives a process one slice, so each has a process of its own.

Each worker is `stlm reproduce` with the same request. The locks of the runs share the work out: a run that one worker
holds is left to it by the others. Reading the results together is the business of whoever starts the workers.
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

WORKER = "STLM_WORKER_OF"  # in a worker's environment: the process that started it


def run_workers(slices: Sequence[Slice], arguments: Sequence[str]) -> list[int]:
    """`stlm ARGUMENTS` once a slice, side by side; gives their exit statuses when all have ended.

    What they print comes out a line at a time behind the number and the profile of the slice. SIGTERM, SIGUSR1 and
    Ctrl-C go on to each worker, which then stops as it would alone.
    """
    workers: list[subprocess.Popen] = []
    printers: list[threading.Thread] = []
    lock = threading.Lock()

    def forward(number: int, frame: object) -> None:
        for worker in workers:
            worker.send_signal(number)  # nothing where it has ended

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
    """A worker in a session of its own: Ctrl-C in a terminal reaches it once, by way of the process that started it."""
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
    """Pass lines on; to a pipe that nobody reads any more they are lost, and the worker works on."""
    for line in pipe:
        try:
            with lock:
                print(behind + line.rstrip("\n"), file=to, flush=True)
        except (OSError, ValueError):
            continue


def settle_as_worker() -> None:
    """Let a worker stop, its state saved, when whoever started it ends: killed outright, that one cannot tell it."""
    if parent := os.environ.pop(WORKER, None):  # what a worker starts is none
        end_with_parent(signal.SIGTERM)
        if os.getppid() != int(parent):  # it had ended before we asked
            raise Interrupted("Whoever started this worker has ended; start the same command again.")


def status_of(statuses: Sequence[int], all_done: bool) -> int:
    """The exit status of them all: 3 where one was interrupted, 0 where every run is done, else the worst.

    A worker on a small slice refuses what another did on a larger one: then every run is done. A worker that a signal
    ended (a negative status) has failed.
    """
    if Interrupted.exit_status in statuses:
        return Interrupted.exit_status
    return 0 if all_done else max((1 if status < 0 else status for status in statuses), default=0)
