"""Runs of a study over one shared folder, several workers at once, and a killer: each computed once, none lost.

Twelve runs, four at once; with STLM_FUZZ set (`make fuzz`) a hundred, eight at once.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import signal
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from workers import Workers

from stlm_kit.reproduce.request import Request, plan
from stlm_kit.reproduce.results import ResultRow, read_rows
from stlm_kit.reproduce.rows import collect

FUZZ = "STLM_FUZZ" in os.environ
N_RUNS, AT_ONCE, N_KILLS = (100, 8, 40) if FUZZ else (12, 4, 5)

STUDY = """
source: many
title: Many
citation: nobody
claims: []
runs:
- name: "s{seed}"
  grid: {seed: [SEEDS]}
  profiles: {laptop: {}}
"""

# A chain of hashes takes its time and has one answer; the last thing that a run does is to say that it has it.
COMPUTE = """
import hashlib, json, os, pathlib, time

folder, seed = pathlib.Path(os.environ["STLM_RUN_DIR"]), settings["seed"]
journal = os.open(folder.parent.parent / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def say(word):
    os.write(journal, f"{word} {seed} {os.getppid()} {time.time()}\\n".encode())

say("begin")
time.sleep(1)  # longer than a start, so that most kills meet it here
digest = str(seed)
for link in range(LINKS):
    digest = hashlib.sha256(digest.encode()).hexdigest()
part = folder / "row.json.part-of-the-notebook"
part.write_text(json.dumps({"digest": digest}))
part.replace(folder / "row.json")
print(digest)
say("end")
"""
LINKS = 200_000


@functools.cache
def chain(seed: int) -> str:
    digest = str(seed)
    for _ in range(LINKS):
        digest = hashlib.sha256(digest.encode()).hexdigest()
    return digest


@dataclass(frozen=True)
class Entry:
    """A line of the journal: under this worker a run began or ended computing at this time, in seconds."""

    word: str
    seed: int
    worker: int
    time: float


def read_journal(path: Path) -> dict[int, list[Entry]]:
    """{seed: its entries in order}."""
    found = defaultdict(list)
    for word, seed, worker, moment in map(str.split, path.read_text().splitlines()):
        found[int(seed)].append(Entry(word, int(seed), int(worker), float(moment)))
    return found


def computed(entries: list[Entry], killed: dict[int, float]) -> int:
    """How often one run was computed to its end; asserts that it was begun again only where its worker was killed.

    A worker that is killed after the computation and before the notebook is whole loses it, so a second one is right
    there, and nowhere else: two entries of one run by different workers have the death of the first between them.
    """
    for before, after in pairwise(entries):
        if after.word == "end":
            assert (before.word, before.worker) == ("begin", after.worker), "two computed one run at once"
        else:
            assert before.worker in killed, "computed again, though nobody had killed it"
            assert before.time <= killed[before.worker] + 0.1 and killed[before.worker] <= after.time
    assert entries[0].word == "begin" and entries[-1].word == "end"
    return sum(entry.word == "end" for entry in entries)


@pytest.fixture
def study(course, tmp_path):
    """The study's file, and the notebook that its runs execute."""
    course.chapter("run", COMPUTE.replace("LINKS", str(LINKS)))
    path = tmp_path / "many.yaml"
    path.write_text(STUDY.replace("SEEDS", ", ".join(map(str, range(N_RUNS)))))
    return path


@pytest.fixture
def workers(study, course, tmp_path):
    made = Workers(study, course.folder, tmp_path / "said")
    yield made
    made.close()


@pytest.mark.timeout(900)
def test_each_is_computed_once_though_workers_are_killed(study, course, runs, tmp_path, workers):
    asked = plan(Request([str(study)], notebooks=course.folder))
    open_runs, luck, killed, started = list(asked), random.Random(0), {}, 0
    began = next_kill = time.monotonic()
    while workers.running or open_runs:
        wrong = {pid: status for pid, status in workers.ended().items() if status != 0 and pid not in killed}
        assert not wrong, (wrong, (tmp_path / "said").read_text()[-3000:])
        open_runs = [run for run in open_runs if not run.finished]
        while open_runs and len(workers.running) < AT_ONCE:
            workers.start()
            started += 1
        victims = sorted(workers.running - killed.keys())
        due = (N_RUNS - len(open_runs)) * N_KILLS // N_RUNS  # as far as the runs are done, so far the kills are
        if len(killed) < due and time.monotonic() > next_kill and victims:
            victim = luck.choice(victims)
            killed[victim] = time.time()
            os.kill(victim, signal.SIGKILL)
            next_kill = time.monotonic() + luck.uniform(0.1, 1.0)
        time.sleep(0.05)
    seconds = time.monotonic() - began

    journal = read_journal(runs / "journal")
    times = {seed: computed(entries, killed) for seed, entries in journal.items()}
    assert times.keys() == set(range(N_RUNS))
    rows = read_rows(runs / "many" / "rows.jsonl")
    assert sorted(row["seed"] for row in rows) == list(range(N_RUNS))
    for row in rows:
        ResultRow.model_validate(row)
        assert row["metrics"] == {"digest": chain(row["seed"])} and row["status"] == "done"
    assert collect("many") == rows
    assert {run.state() for run in asked} == {"done"}
    for run in asked:
        executed = nbformat.read(run.executed, as_version=4)
        nbformat.validate(executed)
        assert chain(run.parameters["settings"]["seed"]) in executed.cells[-1].outputs[0].text
    assert not list(runs.rglob("*.part*"))
    assert len(list((runs / "many").glob("s*"))) == N_RUNS

    begun = sum(entry.word == "begin" for entries in journal.values() for entry in entries)
    said = (tmp_path / "said").read_text()
    print(
        f"\n{N_RUNS} runs, {AT_ONCE} at once: {seconds:.0f} s; {started} workers, {len(killed)} killed; "
        f"{said.count(', resumed')} runs resumed, {begun} computations begun, {sum(times.values())} ended, "
        f"{said.count('another job is at it')} times left to another worker"
    )
