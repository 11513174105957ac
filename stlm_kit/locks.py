"""Locks between processes, on one machine and on cluster nodes that share a folder.

    with lock(folder / "rows.lock"):           # waits for its turn
    with lock(folder / "run.lock", wait=5):    # raises Held where another process keeps it longer

Where the file system has flock, the system holds the lock and frees it as soon as its holder dies, also by kill -9.
Elsewhere the lock is a lease (lease.py), a file that its holder renews. Leases are used on a file system that refuses
flock (some mounts of NFS, Lustre and FUSE) and on one whose mount options limit flock to one node. The options do not
always show that limit, so STLM_LOCKS=lease, set on every node, forces leases.
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

from stlm_kit.errors import KitError, UsageError
from stlm_kit.lease import Lease

MOMENT = 5.0  # seconds; the time for several short looks at a lock, one after the other
NO_FLOCK = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
# {type of a file system: mount options that limit flock to one node; None: always limited}
ONE_NODE = {
    "nfs": {"nolock", "local_lock=flock", "local_lock=all"},
    "nfs4": {"nolock", "local_lock=flock", "local_lock=all"},
    "lustre": {"localflock"},
    "cifs": {"nobrl"},
    "smb3": {"nobrl"},
    "beegfs": None,  # unless its configuration file changes this
    "fuse.sshfs": None,
}


class Held(KitError):
    """Another process holds the lock."""


class Lock:
    """A lock at a path, made by `lock`. It is a context for one process and thread at a time, and not reentrant."""

    def __init__(self, path: Path, wait: float | None = None):
        self.path, self.wait = Path(path), wait

    def acquire(self, wait: float | None = None) -> None:
        """Take the lock and wait for it at most `wait` seconds (default: the lock's own; None: without limit).

        Raises Held where another process keeps it longer, KitError where no lock can be made.
        """
        wait = self.wait if wait is None else wait
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._holds = FileLock(self.path) if has_flock(self.path.parent) else Lease(self.path)
            self._holds.acquire(timeout=-1 if wait is None else wait, poll_interval=0.02)
        except Timeout:
            raise Held(f"Another process holds {self.path}; wait for it to end.") from None
        except OSError as error:
            raise KitError(
                f"Cannot lock {self.path}: {error.strerror}; choose a folder that can be written."
            ) from error

    def acquire_unless_held(self) -> None:
        """Take the lock now or raise Held. A process that only checks the lock, as `held` does, is waited for."""
        end = time.monotonic() + MOMENT
        while True:
            try:
                return self.acquire(0)
            except Held:
                if time.monotonic() > end or self.held():
                    raise
            time.sleep(0.01)

    def release(self) -> None:
        """Release the lock."""
        self._holds.release()

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def held(self) -> bool:
        """Whether a process holds the lock.

        Such checks do not block each other, and `acquire_unless_held` waits for them.
        """
        if not self.path.parent.is_dir():
            return False
        try:
            if not has_flock(self.path.parent):
                return Lease(self.path).held()
        except OSError:  # this folder is read-only; testing a flock does not need to write
            pass
        try:
            import fcntl
        except ImportError:  # Windows has no shared lock
            try:
                with FileLock(self.path).acquire(timeout=0):
                    return False
            except Timeout:
                return True
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False


def lock(path: Path, wait: float | None = None) -> Lock:
    """The lock at a path, to use as a context. wait: seconds to wait for its holder; None: without limit."""
    return Lock(path, wait)


_found: dict[int, bool] = {}  # {device: whether it has flock}, kept until the process ends


def has_flock(folder: Path) -> bool:
    """Whether flock excludes all processes that see this folder. Tested once for each file system.

    STLM_LOCKS, if set, decides without a test. Raises OSError where the folder is not writable, UsageError for another
    value of STLM_LOCKS.
    """
    asked = os.environ.get("STLM_LOCKS", "")
    if asked not in ("", "flock", "lease"):
        raise UsageError(f"STLM_LOCKS={asked} will not do; set it to flock or lease, or leave it out.")
    if asked:
        return asked == "flock"
    device = folder.stat().st_dev
    if device not in _found:
        _found[device] = not flock_is_one_nodes(folder) and _takes_flock(folder)
    return _found[device]


def _takes_flock(folder: Path) -> bool:
    """Whether a new file here can be locked. Tried three times, because a server's lock service may be starting."""
    try:
        import fcntl
    except ImportError:  # Windows, whose files can be locked
        return True
    with tempfile.TemporaryFile(dir=folder) as file:  # a file without a name, so a killed process leaves none
        for attempt in range(3):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError as error:
                if error.errno not in NO_FLOCK:
                    raise
                time.sleep(0.1 * attempt)
    return False


def flock_is_one_nodes(folder: Path, mounts: str | None = None) -> bool:
    """Whether the mount that holds a folder limits flock to one node.

    mounts: the text of /proc/self/mountinfo. By default it is read from there, or "" where the system has no such file.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text("utf-8", errors="replace")
        except OSError:
            mounts = ""
    folder, best, found = folder.resolve(), -1, False
    for line in mounts.splitlines():
        here, _, there = (part.split() for part in line.partition(" - "))
        if len(here) < 6 or len(there) < 1:
            continue
        place = Path(here[4].replace("\\040", " "))
        if folder.is_relative_to(place) and len(place.parts) >= best:  # the later of two mounts at one place is visible
            options = {*here[5].split(","), *(there[2].split(",") if len(there) > 2 else ())}
            best, named = len(place.parts), ONE_NODE.get(there[0], set())
            found = named is None or bool(named & options)
    return found
