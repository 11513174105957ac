"""A real Slurm cluster of one node, started and ended by the tests: munged, slurmctld and slurmd in a folder of theirs.

It needs Debian's slurm-wlm and munge and runs as root, without systemd. Its two GPUs are files: Slurm counts them out
and tells each job which it got, and no GPU is needed for that. Nothing outside the folder is read or written.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
GPUS, CORES = 2, 4

CONFIGURATION = """\
ClusterName=proof
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
MinJobAge=3600
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=64000 Gres=gpu:2g.20gb:{gpus} State=UNKNOWN
PartitionName=slices Nodes=ALL Default=YES PriorityTier=1 State=UP
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""  # cred_expire also says how long a requeued job waits before it starts again: two minutes unless told otherwise


class Cluster:
    """Start it, use `run`, end it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="stlm-slurm-"))  # short: a socket's path has 107 characters
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        folder, host = self.folder, socket.gethostname().split(".")[0]
        for name in ("state", "spool"):
            (folder / name).mkdir()
        folder.chmod(0o711)
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        for number in range(GPUS):
            (folder / f"gpu{number}").symlink_to("/dev/null")  # Slurm wants a device, and its number in the name
        (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu Type=2g.20gb File={folder}/gpu[0-{GPUS - 1}]\n")
        values = {"host": host, "folder": folder, "ports": _free_ports(2), "cores": CORES, "gpus": GPUS}
        (folder / "slurm.conf").write_text(CONFIGURATION.format(**values))
        files = {name: folder / f"munge.{name}" for name in ("key", "socket", "pid", "log", "seed")}
        options = [f"--{name}-file={files[name]}" for name in ("key", "pid", "log", "seed")]
        self.run("munged", "--force", f"--socket={files['socket']}", *options)
        self.run("slurmctld")
        self.run("slurmd")
        self.wait(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T"), 60)

    def run(self, *command: str, check: bool = True, **options) -> str:
        """What a program prints, with this cluster as its own; AssertionError with its complaint where it fails."""
        said = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=300, **options)
        assert not check or said.returncode == 0, f"{command}: {said.stdout}{said.stderr}{self._logs()}"
        return said.stdout

    def wait(self, ready, seconds: float) -> None:
        """Look until `ready()`; AssertionError with the logs when it takes too long."""
        end = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < end, self._logs()
            time.sleep(0.2)

    def _logs(self) -> str:
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    def end(self) -> None:
        """Cancel every job, end the daemons, remove the folder."""
        subprocess.run(["scancel", "--user=root"], env=self.environment, capture_output=True, timeout=60)
        for _ in range(50):
            left = subprocess.run(["squeue", "--noheader"], env=self.environment, capture_output=True, text=True)
            if left.returncode or not left.stdout.strip():
                break
            time.sleep(0.2)
        for name in ("slurmd.pid", "slurmctld.pid", "munge.pid"):
            try:
                os.kill(int((self.folder / name).read_text()), 15)
            except (OSError, ValueError):
                continue
        time.sleep(1)
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def missing() -> str:
    """Why no cluster can be started here; "" where one can."""
    if lacking := [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]:
        return f"a Slurm cluster needs Debian's slurm-wlm and munge, and {', '.join(lacking)} is not here"
    return "" if os.geteuid() == 0 else "a Slurm cluster of one node is started as root"
