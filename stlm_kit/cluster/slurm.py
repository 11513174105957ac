"""A study's runs as Slurm jobs: one array for each time limit and memory size, and what the queue reports.

sbatch is called directly. submitit and Snakemake would wrap the same call. submitit pickles a Python function and has
its own requeueing. Snakemake keeps a process on the login node for as long as the runs take and submits them one by
one. A run of this kit is a command that resumes where it stopped, so an array with `--requeue` is enough.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stlm_kit.errors import KitError
from stlm_kit.paths import cache_dir, runs_dir

SCRIPT = Path(__file__).resolve().with_name("job_array.sbatch")
WARNING = 600  # seconds before the time limit at which a task is signalled; at most a quarter of the limit


@dataclass(frozen=True)
class Batch:
    """An array of jobs with the same limits. `indices`: places in the study's grid, from 1."""

    indices: tuple[int, ...]
    time_limit: str  # HH:MM:SS
    memory_gib: int

    @property
    def warning(self) -> int:
        """Seconds before the time limit at which Slurm signals a task to save its state."""
        hours, minutes, seconds = map(int, self.time_limit.split(":"))
        return max(min(WARNING, (hours * 3600 + minutes * 60 + seconds) // 4), 30)


def batches(runs: Iterable[tuple[int, str, int]]) -> list[Batch]:
    """Group the runs, given as (index, time limit, GiB), into arrays. The arrays with the shortest limit come first."""
    together: dict[tuple[str, int], list[int]] = {}
    for index, limit, memory in runs:
        together.setdefault((limit, memory), []).append(index)
    found = [Batch(tuple(sorted(indices)), *limits) for limits, indices in together.items()]
    return sorted(found, key=lambda batch: (len(batch.time_limit), batch.time_limit, batch.memory_gib))


def ranges(indices: Iterable[int]) -> str:
    """Indices as Slurm writes them: [1, 2, 3, 5] becomes "1-3,5"."""
    found: list[list[int]] = []
    for number in sorted(indices):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in found)


@dataclass(frozen=True)
class Request:
    """What all jobs of a submission share.

    `words`: the arguments of `stlm reproduce`: study, profile, then its options.
    """

    name: str
    words: tuple[str, ...]
    gres: str
    cpus: int
    at_once: int | None
    more: tuple[str, ...]  # options that are passed to sbatch unchanged
    logs: Path

    def array(self, batch: Batch, after: list[str]) -> list[str]:
        """The sbatch command for one array. It starts when the jobs `after` have ended."""
        at_once = f"%{self.at_once}" if self.at_once else ""
        return [
            *self._sbatch(self.name, batch.time_limit, batch.memory_gib, self.cpus),
            f"--array={ranges(batch.indices)}{at_once}",
            *([f"--dependency=afterany:{':'.join(after)}"] if after else []),
            f"--gres={self.gres}",
            f"--signal=B:USR1@{batch.warning}",
            "--requeue",
            f"--output={self.logs / '%x-%A_%a.log'}",
            *self.more,
            str(SCRIPT),
            *self.words,
        ]

    def report(self, after: list[str]) -> list[str]:
        """The sbatch command for the job that collects the rows and writes the report, after all arrays have ended."""
        study, profile, *options = self.words
        command = [sys.executable, "-m", "stlm_kit", "reproduce", study, "--profile", profile, "--collect", *options]
        return [
            *self._sbatch(f"{self.name}-report", "00:30:00", 4, 1),
            f"--dependency=afterany:{':'.join(after)}",
            "--gres=none",
            f"--output={self.logs / '%x-%A.log'}",
            *self.more,
            "--wrap",
            shlex.join(command),
        ]

    @staticmethod
    def _sbatch(name: str, limit: str, memory_gib: int, cpus: int) -> list[str]:
        options = {"job-name": name, "time": limit, "mem": f"{memory_gib}G", "cpus-per-task": cpus, "export": places()}
        return ["sbatch", "--parsable", *(f"--{option}={value}" for option, value in options.items())]


def places() -> str:
    """The value of sbatch's --export: this process's environment, plus the folders of kit, runs and caches."""
    found = {"PYTHON": sys.executable, "RUNS": runs_dir().absolute(), "CACHE": cache_dir().absolute()}
    return ",".join(["ALL", *(f"STLM_{name}={value}" for name, value in found.items())])


def submit(command: list[str]) -> str:
    """Pass one command to sbatch and return the job's number.

    Raises KitError with sbatch's message where it refuses.
    """
    if not shutil.which("sbatch"):
        raise KitError("There is no sbatch on this machine; run this on a login node of the cluster, or use --dry-run.")
    said = subprocess.run(command, capture_output=True, text=True)
    if said.returncode:
        reason = " ".join(said.stderr.split()) or f"status {said.returncode}"
        raise KitError(f"sbatch refused: {reason.rstrip('.')}; the command was: {shlex.join(command)}")
    return said.stdout.strip().split(";")[0]


@dataclass(frozen=True)
class Queued:
    """A task in the queue: its job ("4711_3"), its state ("pending", "running", ...), and why it waits."""

    job: str
    state: str
    reason: str


def queue_if_any(name: str) -> dict[int, Queued]:
    """`queue` for a report only. If Slurm does not answer, say so on standard error and count nothing as queued."""
    try:
        return queue(name)
    except KitError as error:
        print(f"stlm: {error}", file=sys.stderr)
        return {}


def queue(name: str) -> dict[int, Queued]:
    """{place in the grid: its task} for the arrays with this name in the queue; {} on a machine without Slurm.

    Raises KitError where Slurm does not answer.
    """
    if not shutil.which("squeue"):
        return {}
    command = ["squeue", "--noheader", "--array", f"--name={name}", "--me", "--format=%F|%K|%T|%r"]
    said = subprocess.run(command, capture_output=True, text=True)
    if said.returncode:
        reason = next(reversed(said.stderr.strip().splitlines()), "no reason given").removeprefix("squeue: ")
        raise KitError(f"Slurm's queue did not answer ({reason.rstrip('.')}); try again in a moment.")
    found = {}
    for line in said.stdout.splitlines():
        if match := re.fullmatch(r"(\d+)\|(\d+)\|(\w+)\|(.*)", line.strip()):
            job, index, state, reason = match.groups()
            found[int(index)] = Queued(f"{job}_{index}", state.lower(), "" if reason == "None" else reason)
    return found
