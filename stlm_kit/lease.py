"""A lock made of files, for file systems without flock: its holder names itself and renews its claim.

PATH.lease-7 is the seventh state of a lock: who holds it, or that nobody does. The state with the highest number
counts. Whoever takes the lock, and whoever gives it back, makes the next number with O_EXCL, which one process alone
can do: two that judge the same holder dead cannot both follow it, and a holder whose claim was taken finds out.

A holder is dead when it was a process of this host that is gone, or of another host and has not renewed its claim for
`EXPIRES` seconds by the file server's clock. A process that is suspended longer than that loses its locks; when it goes
on it says so and stops, as on SIGTERM. (filelock's own soft locks take over from a dead holder by exchanging two names,
which NFS and others refuse, so that they would wait there for ever.)
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

EXPIRES = 300.0  # seconds without a renewal; a file server's clients may see a time that is a minute old
RENEWED = 45.0  # seconds between renewals


@dataclass(frozen=True)
class State:
    """One state of a lock. holder: None when it is free, {} when its file is not whole."""

    number: int
    holder: dict | None


class Lease:
    """The lock at a path, as filelock's are used: acquire, release."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self._number = 0

    def acquire(self, timeout: float = -1, poll_interval: float = 0.05) -> None:
        """Raises filelock's Timeout where another holds it for longer than `timeout` seconds (-1: waits on)."""
        end = time.monotonic() + timeout
        while not self._take():
            if timeout >= 0 and time.monotonic() >= end:
                raise Timeout(str(self.path))
            time.sleep(max(poll_interval, 0.01))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, args=(self._stop, self._number), daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give it back; nothing happens where it was taken from us."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._follow(self._number, None)

    def held(self) -> bool:
        """Whether a process that is not known to be dead holds it."""
        return self._is_held(self._latest())

    def _take(self) -> bool:
        state = self._latest()
        if self._is_held(state) or not self._follow(state.number, ourselves()):
            return False
        self._number = state.number + 1
        return True

    def _follow(self, number: int, holder: dict | None) -> bool:
        """Make the state after `number`; False where another process has made it, or a later one."""
        path = self._file(number + 1)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        try:
            os.write(handle, json.dumps(holder).encode())
            os.fsync(handle)
        except OSError:  # a full disk: the state before still counts
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
        numbers = self._numbers()
        if max(numbers, default=0) > number + 1:  # we looked long ago: our number has been, and was cleared away
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
            except FileNotFoundError:  # a later one has come
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
        except FileNotFoundError:  # a later one has come
            return True

    def _now(self) -> float:
        """The time by the clock that sets the times of these files."""
        with tempfile.TemporaryFile(dir=self.path.parent, buffering=0) as file:
            file.write(b".")
            return os.fstat(file.fileno()).st_mtime

    def _renew(self, stop: threading.Event, number: int) -> None:
        """Touch our state until we are told to stop; end this process where another one has followed it."""
        while not stop.wait(RENEWED):
            with suppress(FileNotFoundError):
                try:
                    os.utime(self._file(number))
                except FileNotFoundError:
                    raise
                except OSError:  # the server is away; we shall see
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
    """What a holder says of itself."""
    return {"host": this_host(), "pid": os.getpid(), "started": started(os.getpid())}


def this_host() -> str:
    """The machine since its start, or a container of it: where a process id names one process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def is_alive(holder: dict) -> bool:
    """Whether a process of this host still is what it was: a process id may have been given again."""
    try:
        os.kill(int(holder["pid"]), 0)
    except PermissionError:  # somebody else's, but there
        pass
    except (OSError, KeyError, TypeError, ValueError):
        return False
    return started(holder["pid"]) == holder.get("started")


def started(pid: int) -> str | None:
    """When a process was started, in the system's own count; None where it does not say, and of one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return None if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        return None
