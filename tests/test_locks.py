"""Locks between real processes: one holds at a time, a killed one's is free, with the system's flock and without."""

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stlm_kit import lease
from stlm_kit.errors import KitError, UsageError
from stlm_kit.lease import Lease, State
from stlm_kit.locks import Held, flock_is_one_nodes, has_flock, lock

# What a file system without flock answers, put before the C library's own.
SHIM = """
#include <errno.h>
int flock(int handle, int how) { errno = ANSWER; return -1; }
"""

# A process that takes and gives back on command.
HOLDER = """
import sys
from pathlib import Path
from stlm_kit.locks import Held, has_flock, lock
mine = lock(Path(sys.argv[1]))
print(has_flock(mine.path.parent), flush=True)
for line in sys.stdin:
    word, *wait = line.split()
    try:
        said = {"take": lambda: mine.acquire(float(wait[0])), "give": mine.release, "look": mine.held}[word]()
    except Held:
        said = "held"
    print(said, flush=True)
"""


class Holder:
    """A process with one lock; `environment` says what its file systems can do."""

    def __init__(self, path: Path, environment: dict[str, str]):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", HOLDER, str(path)]
        self.process = subprocess.Popen(command, env={**os.environ, **environment}, **pipes)
        self.has_flock = self.process.stdout.readline().strip() == "True"

    def says(self, *words: object) -> str:
        print(*words, file=self.process.stdin, flush=True)
        assert select.select([self.process.stdout], [], [], 60)[0], "no answer"
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def holders(tmp_path):
    """holders(environment) starts one; all are ended with the test."""
    started = []

    def start(environment):
        started.append(Holder(tmp_path / "a folder" / "x.lock", environment))
        return started[-1]

    (tmp_path / "a folder").mkdir()
    yield start
    for holder in started:
        holder.kill()
        holder.process.stdin.close()
        holder.process.stdout.close()


@pytest.fixture(params=["flock", "ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def system(request, tmp_path):
    """The environment of a process whose file systems have flock, or answer it so."""
    if request.param == "flock":
        return {}
    if not (gcc := shutil.which("gcc")) or not sys.platform.startswith("linux"):
        pytest.skip("no gcc on Linux to put another flock before the system's (Debian: gcc)")
    source, shim = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(SHIM.replace("ANSWER", request.param))
    subprocess.run([gcc, "-shared", "-fPIC", "-o", shim, source], check=True)
    return {"LD_PRELOAD": str(shim)}


def test_one_holds_at_a_time_and_a_killed_ones_is_free(holders, system, tmp_path):
    first, second = holders(system), holders(system)
    assert first.has_flock == second.has_flock == (not system)
    assert second.says("look") == "False"
    assert first.says("take", 0) == "None"
    assert second.says("look") == "True" and second.says("take", 0.1) == "held"
    assert first.says("give") == "None" and second.says("take", 0) == "None"
    assert first.says("take", 0) == "held"
    second.kill()
    assert first.says("look") == "False" and first.says("take", 0) == "None"
    left = [path.name for path in (tmp_path / "a folder").iterdir()]
    assert len(left) == 1 and left[0].startswith("x.lock")  # no probes, no older states


# Takes the lock again and again, and says in a journal when it goes in and out.
BUSY = """
import os, sys, time
from pathlib import Path
from stlm_kit.locks import lock
folder = Path(sys.argv[1])
journal = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while not (folder / "stop").exists():
    with lock(folder / "x.lock"):
        os.write(journal, b"in %d\\n" % os.getpid())
        time.sleep(0.01)
        os.write(journal, b"out %d\\n" % os.getpid())
"""


@pytest.mark.parametrize("kind", ["flock", "lease"])
def test_six_at_once_never_overlap_though_holders_are_killed(kind, tmp_path):
    command, environment = [sys.executable, "-c", BUSY, str(tmp_path)], {**os.environ, "STLM_LOCKS": kind}
    journal = tmp_path / "journal"
    journal.touch()
    processes = {process.pid: process for process in (subprocess.Popen(command, env=environment) for _ in range(6))}
    killed, end = set(), time.monotonic() + 60
    while len(killed) < 6:
        assert time.monotonic() < end, "nobody goes in"
        word, pid = (journal.read_text().splitlines() or ["out 0"])[-1].split()
        if word == "out" or int(pid) in killed:
            continue
        processes[int(pid)].kill()
        processes.pop(int(pid)).wait()
        killed.add(int(pid))
        another = subprocess.Popen(command, env=environment)
        processes[another.pid] = another
    (tmp_path / "stop").touch()
    assert [process.wait(60) for process in processes.values()] == [0] * 6
    inside, killed_inside = None, 0
    for line in journal.read_text().splitlines():
        word, pid = line.split()
        if word == "in":
            assert inside is None or inside in killed, "two were in at once"
            killed_inside += inside is not None
            inside = int(pid)
        else:
            assert inside == int(pid)
            inside = None
    assert killed_inside > 0


def test_a_look_hinders_no_start_and_no_other_look(tmp_path):
    one = lock(tmp_path / "x.lock")
    with one:
        pass
    with one.path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as a look does, for longer
        assert not one.held()
        threading.Timer(0.05, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        one.acquire_unless_held()
    assert lock(one.path).held()
    with pytest.raises(Held):
        lock(one.path).acquire_unless_held()
    one.release()


def test_a_lock_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError, match=r"Cannot lock .*; choose a folder"):
        lock(tmp_path / "file" / "x.lock").acquire()
    assert not lock(tmp_path / "file" / "x.lock").held() and not lock(tmp_path / "none" / "x.lock").held()


def test_the_kind_of_lock_can_be_asked_for(tmp_path, monkeypatch):
    assert has_flock(tmp_path)
    monkeypatch.setenv("STLM_LOCKS", "lease")
    assert not has_flock(tmp_path)
    monkeypatch.setenv("STLM_LOCKS", "leese")
    with pytest.raises(UsageError, match="set it to flock or lease"):
        lock(tmp_path / "x.lock").acquire()


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:2 - nfs4 server:/home rw,vers=4.2,local_lock=none
31 22 0:41 / /old rw,relatime - nfs server:/old rw,vers=3,nolock,local_lock=all
32 22 0:42 / /data rw,flock - lustre mgs@tcp:/work rw,flock
33 22 0:43 / /scratch rw - lustre mgs@tcp:/scratch rw,localflock
34 30 0:44 / /home/me/a\\040disk rw - fuse.sshfs me@host: rw
35 22 0:45 / /over rw - nfs server:/over rw,nolock
36 35 0:46 / /over rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "one_nodes"),
    [
        ("/tmp", False),
        ("/home/me", False),
        ("/older", False),
        ("/old/runs", True),
        ("/data/x", False),
        ("/scratch/x", True),
        ("/home/me/a disk/x", True),
        ("/over/x", False),
    ],
)
def test_mounts_whose_flock_counts_for_one_node(folder, one_nodes):
    assert flock_is_one_nodes(Path(folder), MOUNTS) is one_nodes


# --- leases ---


@pytest.fixture
def of_another_host(tmp_path):
    """A lease that a process of another host holds: its path and the file of its state."""
    state = tmp_path / "x.lock.lease-3"
    state.write_text('{"host": "node7 of the cluster", "pid": 1, "started": "1"}')
    return tmp_path / "x.lock", state


@pytest.mark.parametrize("holder", [None, "", '{"host"'])
def test_another_hosts_claim_holds_until_it_is_old(of_another_host, holder, monkeypatch):
    path, state = of_another_host
    if holder is not None:  # its writer was killed
        state.write_text(holder)
    monkeypatch.setenv("STLM_LOCKS", "lease")
    renewed = time.time() - lease.EXPIRES + 60
    os.utime(state, (renewed, renewed))
    assert lock(path).held()
    with pytest.raises(Held):
        lock(path, wait=0).acquire()
    os.utime(state, (renewed - 61, renewed - 61))
    assert not lock(path).held()
    with lock(path, wait=0):
        assert lock(path).held() and not state.exists()


def test_a_process_id_that_was_given_again_is_not_the_holder(tmp_path):
    mine = lease.ourselves()
    assert lease.is_alive(mine) and not lease.is_alive({**mine, "started": "1"})
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert not lease.is_alive({**mine, "pid": ended.pid})


def test_who_looked_long_ago_makes_no_second_holder(tmp_path):
    """Between its look at state 3 and its own state 4 others took and gave back the lock, and cleared these away."""
    path = tmp_path / "x.lock"
    (tmp_path / "x.lock.lease-6").write_text("null")
    late = Lease(path)
    assert not late._follow(State(3, None).number, lease.ourselves())
    assert [file.name for file in tmp_path.iterdir()] == ["x.lock.lease-6"]


LOSER = """
import sys, time
from pathlib import Path
from stlm_kit import lease
lease.RENEWED = 0.05
mine = lease.Lease(Path(sys.argv[1]))
mine.acquire()
print("holds", flush=True)
time.sleep(60)
"""


def test_a_holder_renews_its_claim_and_stops_where_it_was_taken(tmp_path):
    path = tmp_path / "x.lock"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", LOSER, str(path)], **pipes) as holder:
        assert holder.stdout.readline() == "holds\n"
        state = tmp_path / "x.lock.lease-1"
        os.utime(state, (0, 0))
        end = time.monotonic() + 30
        while state.stat().st_mtime == 0:
            assert time.monotonic() < end, "it is not renewed"
            time.sleep(0.02)
        assert Lease(path)._follow(1, lease.ourselves())  # as after a long suspension
        assert holder.wait(30) == -signal.SIGTERM
        assert "Lost the lock" in holder.stderr.read()
    assert [file.name for file in tmp_path.iterdir()] == ["x.lock.lease-2"]
