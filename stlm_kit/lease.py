"""A lock made of files, for file systems without flock. Its holder writes its name into it and renews it.

PATH.lease-7 is the seventh state of a lock: its holder, or that it is free. The state with the highest number counts.
To take or release the lock, a process creates the next number with O_EXCL, which succeeds for only one process. So two
processes that both find a holder dead cannot both take the lock, and a holder that lost its lock finds out.

A holder is dead if it was a process of this host that has ended. A holder on another host is dead if it has not renewed
the lock for `EXPIRES` seconds by the file server's clock. A process that is suspended longer than that loses its locks.
When it continues, it says so and stops, as on SIGTERM.

filelock's own soft locks take over from a dead holder by exchanging two names. NFS and other file systems refuse that,
so filelock would wait there forever.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

EXPIRES = 300.0  # seconds without a renewal; clients of a file server may see a time that is one minute old
RENEWED = 45.0  # seconds between renewals


@dataclass(frozen=True)
class State:
    """One state of a lock. holder: None when it is free, {} when its file is incomplete."""

    number: int
    holder: dict | None


class Lease:
    """The lock at a path, with filelock's methods: acquire, release."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self._number = 0

    def acquire(self, timeout: float = -1, poll_interval: float = 0.05) -> None:
        """Take the lock.

        Raises filelock's Timeout where another holds it for longer than `timeout` seconds (-1: no limit).
        """
        end = time.monotonic() + timeout
        while not self._take():
            if timeout >= 0 and time.monotonic() >= end:
                raise Timeout(str(self.path))
            time.sleep(max(poll_interval, 0.01))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, args=(self._stop, self._number), daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Release the lock. Does nothing where another process has taken it."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._follow(self._number, None)

    def held(self) -> bool:
        """Whether a process that is not known to be dead holds the lock."""
        return self._is_held(self._latest())

    def _take(self) -> bool:
        state = self._latest()
        if self._is_held(state) or not self._follow(state.number, ourselves()):
            return False
        self._number = state.number + 1
        return True

    def _follow(self, number: int, holder: dict | None) -> bool:
        """Create the state after `number`. False where another process has created it, or a later one."""
        path = self._file(number + 1)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        try:
            os.write(handle, json.dumps(holder).encode())
            os.fsync(handle)
        except OSError:  # a full disk: the earlier state still counts
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
        numbers = self._numbers()
        if max(numbers, default=0) > number + 1:  # our view was old: our number had been used and removed
            path.unlink(missing_ok=True)
            return False
        for old in numbers:
            if old <= number:
                self._file(old).unlink(missing_ok=True)
        return True

    def _latest(self) -> State:
        for number in sorted(self._numbers(), reverse=True):
            try:
                holder = json.loads(self._file(number).read_text("utf-8"))
            except FileNotFoundError:  # there is a later state
                return self._latest()
            except ValueError:  # being written, or its writer was killed
                holder = {}
            return State(number, holder if holder is None or isinstance(holder, dict) else {})
        return State(0, None)

    def _is_held(self, state: State) -> bool:
        if state.holder is None:
            return False
        if state.holder.get("host") == this_host():
            return is_alive(state.holder)
        try:
            return self._now() - self._file(state.number).stat().st_mtime < EXPIRES
        except FileNotFoundError:  # there is a later state
            return True

    def _now(self) -> float:
        """The time by the clock that sets these files' times."""
        with tempfile.TemporaryFile(dir=self.path.parent, buffering=0) as file:
            file.write(b".")
            return os.fstat(file.fileno()).st_mtime

    def _renew(self, stop: threading.Event, number: int) -> None:
        """Touch our state until told to stop. End this process where another has created the next state."""
        while not stop.wait(RENEWED):
            with suppress(FileNotFoundError):
                try:
                    os.utime(self._file(number))
                except FileNotFoundError:
                    raise
                except OSError:  # the server is away; try again later
                    continue
            if max(self._numbers(), default=0) > number and not stop.is_set():
                print(f"stlm: Lost the lock {self.path}: not renewed in time; this process stops.", file=sys.stderr)
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _file(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.lease-{number}")

    def _numbers(self) -> list[int]:
        form = re.compile(re.escape(f"{self.path.name}.lease-") + r"(\d+)")
        return [int(match[1]) for path in self.path.parent.iterdir() if (match := form.fullmatch(path.name))]


def ourselves() -> dict:
    """What a holder writes about itself: host, process id and start time."""
    return {"host": this_host(), "pid": os.getpid(), "started": started(os.getpid())}


def this_host() -> str:
    """The machine since its last boot, or a container of it: the range in which a process id is unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def is_alive(holder: dict) -> bool:
    """Whether the holder's process on this host still runs. Its start time is compared, because ids are reused."""
    try:
        os.kill(int(holder["pid"]), 0)
    except PermissionError:  # another user's process, so it exists
        pass
    except (OSError, KeyError, TypeError, ValueError):
        return False
    return started(holder["pid"]) == holder.get("started")


def started(pid: int) -> str | None:
    """When a process was started, in the system's own unit.

    None for a process that has ended, or where it is unknown.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return None if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        return None
