"""The progress of a study's runs: steps done, time left, and the reason for each failure."""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stlm_kit.cluster.slurm import Queued
from stlm_kit.errors import KitError
from stlm_kit.progress import Waiting
from stlm_kit.provenance import duration
from stlm_kit.reproduce.run import FINISHED, Run, read_record

LAST = 50  # the remaining time is estimated from this many last steps


@dataclass(frozen=True)
class Standing:
    """The progress of one run.

    state: as `Run.state`, or "queued" where only Slurm knows of the run. hours_left: None where it is not known.
    """

    index: int
    name: str
    state: str
    job: str
    step: int
    steps: int | None
    hours_left: float | None
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict, for JSON."""
        return asdict(self)


def standings(runs: list[Run], queued: dict[int, Queued], planned: dict[int, float | None]) -> list[Standing]:
    """The progress of each run.

    queued: Slurm's tasks, by the place of their run, from 1. planned: {place: hours} of the runs that have not begun.
    """
    return [_standing(index, run, queued.get(index), planned.get(index)) for index, run in enumerate(runs, 1)]


def _standing(index: int, run: Run, task: Queued | None, planned: float | None) -> Standing:
    state, folder = run.state(), run.kept
    steps = run.parameters.get("settings", {}).get("steps")
    sentence = read_record(folder).get("sentence", "") if state in ("failed", "out_of_memory") else ""
    if state in FINISHED:
        return Standing(index, run.name, state, task.job if task else "", steps or 0, steps, 0.0, sentence)
    step, pace = progress(run.folder)
    left = planned
    if steps and pace is not None:
        left = (steps - step) * pace / 3600
    if task and state != "running":
        state = "queued" if task.state in ("pending", "configuring") else task.state
        sentence = task.reason or sentence
    return Standing(index, run.name, state, task.job if task else "", step, steps, left, sentence)


def progress(folder: Path) -> tuple[int, float | None]:
    """(the last step recorded, seconds a step over the last steps); the seconds are None before the first step.

    The time of evaluations is included in the seconds a step.
    """
    rows: deque[dict] = deque(maxlen=LAST)
    try:
        with (folder / "metrics.jsonl").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    rows.append(json.loads(line))
                except ValueError:  # the last line may be incomplete
                    break
    except OSError:
        return 0, None
    times = [row.get("training_seconds", 0.0) + row.get("evaluation_seconds", 0.0) for row in rows]
    return (rows[-1]["step"], sum(times) / len(times)) if rows else (0, None)


def planned_hours(runs: list[Run], profile: str) -> dict[int, float | None]:
    """{place: hours} for runs that have not begun, as `stlm plan` estimates them; None without an estimate."""
    from stlm_kit.reproduce.cost import work_of
    from stlm_kit.reproduce.estimate import cost_of, means_for

    found = {}
    begun = [run.finished or progress(run.folder)[1] is not None for run in runs]
    if all(begun):
        return found
    means = means_for(profile)
    with Waiting("planning") as waiting:
        for index, run in waiting.over([(i, run) for i, run in enumerate(runs, 1) if not begun[i - 1]], "run"):
            try:
                found[index] = cost_of(index, work_of(run), means).hours
            except KitError:
                found[index] = None
    return found


def in_words(found: list[Standing]) -> str:
    """One sentence: how many runs are in each state, and how long the rest will take."""
    counts: dict[str, int] = {}
    for one in found:
        counts[one.state] = counts.get(one.state, 0) + 1
    states = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.items())
    left = [one.hours_left for one in found if one.hours_left != 0.0]
    if not left:
        return f"{len(found)} runs: {states}; nothing is left to compute."
    known = [hours for hours in left if hours is not None]
    unknown = f" and {len(left) - len(known)} of unknown length" if len(known) < len(left) else ""
    running = sum(one.state == "running" for one in found)
    beside = f", {duration(3600 * sum(known) / running)} with {running} side by side" if running > 1 else ""
    total = duration(3600 * math.fsum(known)) if known else "0 s"
    return f"{len(found)} runs: {states}; about {total} of computing left{unknown}{beside}."
