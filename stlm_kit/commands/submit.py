"""`stlm submit`: submit a study's unfinished runs to Slurm, and a job that collects their rows at the end."""

from __future__ import annotations

import argparse
import json
import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from stlm_kit.cluster import slurm
from stlm_kit.commands.reproduce import runs_of_study
from stlm_kit.errors import KitError, UsageError
from stlm_kit.paths import runs_dir
from stlm_kit.progress import Waiting

if TYPE_CHECKING:
    from stlm_kit.reproduce.cost import Cost
    from stlm_kit.reproduce.estimate import Means
    from stlm_kit.reproduce.run import Run

HOST_GIB = 6  # Python, torch, the CUDA context and libraries; a step on a CPU is added to this
STEP_GIB = 4  # sizes are rounded up to a multiple of this, so that more runs share an array


def add_submit(parser: argparse.ArgumentParser) -> None:
    """Add the options of `stlm submit`."""
    parser.add_argument("study", metavar="STUDY", help="a study by name, or a .yaml file of one's own")
    parser.add_argument("--profile", default="mig20", help="mig20 (default), the published size, or laptop")
    parser.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help="set a parameter"
    )
    parser.add_argument("--gres", help="what a task asks for, such as gpu:2g.20gb:1 (default: gpu:1; none on a CPU)")
    parser.add_argument("--time", metavar="HH:MM:SS", help="one limit for all (default: each run's own, as planned)")
    parser.add_argument("--mem", type=int, metavar="GIB", help="one size of host memory for all (default: as planned)")
    parser.add_argument("--cpus", type=int, default=4, help="cores of a task (default: 4)")
    parser.add_argument("--at-once", type=int, metavar="N", help="at most N tasks of an array side by side")
    parser.add_argument("--partition", help="the partition to queue in")
    parser.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION", help='any option of sbatch, as "--account=mine"'
    )
    parser.add_argument(
        "--logs", type=Path, metavar="DIR", help="where the tasks' output goes (default: RUNS/STUDY/logs)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands and submit nothing")
    parser.add_argument("--json", action="store_true", help="the commands and the jobs' numbers, as an object")


def run_submit(options: argparse.Namespace) -> int:
    """`stlm submit`. Raises UsageError for options that are out of range.

    Raises KitError where a text is missing, where no run fits, and where sbatch refuses.
    """
    _check(options)
    runs = runs_of_study(options, ", which takes minutes; stlm submit takes a study.")
    name = job_name(runs[0].study, options.profile)
    queued = slurm.queue_if_any(name) if options.dry_run else slurm.queue(name)
    open_runs = {index: run for index, run in enumerate(runs, 1) if not run.finished and index not in queued}
    said = _left_out(runs, queued)
    if not open_runs:
        print("\n".join([*said, "Nothing is left to submit."]))
        return 0
    from stlm_kit.reproduce.data_needed import must_have_data

    must_have_data(list(open_runs.values()))
    asked, refused = _costs(open_runs, options)
    if refused and not asked:
        raise KitError("None of these runs can fit: " + "; ".join(refused))
    request = _request(options, runs[0].study, name)
    arrays, commands, jobs = _arrays(asked, runs, queued, request, options.dry_run)
    report = request.report(jobs)
    report_job = None if options.dry_run else slurm.submit(report)
    if options.json:
        jobs = [] if options.dry_run else jobs
        print(json.dumps({"jobs": jobs, "report": report_job, "commands": [*commands, report], "refused": refused}))
        return 1 if refused else 0
    for line in [*said, *refused]:
        print(line)
    for number, (batch, command) in enumerate(zip(arrays, commands, strict=True)):
        what = f"runs {slurm.ranges(batch.indices)}: limit {batch.time_limit}, {batch.memory_gib} GiB"
        print(f"{what}: {shlex.join(command)}" if options.dry_run else f"{what}: job {jobs[number]}")
    print(f"report: {shlex.join(report)}" if options.dry_run else f"report when they have ended: job {report_job}")
    if not options.dry_run:
        print(f"Logs: {request.logs}. Look on with `stlm status {options.study} --profile {options.profile}`.")
    return 1 if refused else 0


def _check(options: argparse.Namespace) -> None:
    for name in ("mem", "cpus", "at_once"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value} will not do; give at least 1.")
    if options.time is not None:
        parts = options.time.split(":")
        if len(parts) != 3 or not all(part.isdecimal() for part in parts):
            raise UsageError(f"--time {options.time!r} will not do; write hours, minutes and seconds, as 02:30:00.")


def job_name(study: str, profile: str) -> str:
    """The name of a study's jobs in the queue."""
    return f"stlm-{study}-{profile}"


def _left_out(runs: list[Run], queued: dict) -> list[str]:
    """Why some runs are not submitted, one line for each reason."""
    done = [run.name for run in runs if run.finished]
    waiting = [run.name for index, run in enumerate(runs, 1) if index in queued and not run.finished]
    said = [f"Finished already, and left out: {', '.join(done)}"] if done else []
    return said + ([f"In the queue already, and left out: {', '.join(waiting)}"] if waiting else [])


def _costs(open_runs: dict[int, Run], options: argparse.Namespace) -> tuple[list[tuple[int, str, int]], list[str]]:
    """((index, time limit, GiB of host memory) of each run that fits, one sentence for each run that does not)."""
    from stlm_kit.reproduce.cost import work_of
    from stlm_kit.reproduce.estimate import cost_of, means_for

    means = means_for(options.profile)
    asked, refused = [], []
    with Waiting("planning") as waiting:
        for index, run in waiting.over(open_runs.items(), "run"):
            cost = cost_of(index, work_of(run), means)
            limit = options.time or cost.time_limit
            if cost.fits == "no":
                refused.append(f"{run.name} cannot fit and is left out: it {cost.refusal}")
            elif limit is None:
                raise UsageError(f"How long {run.name} takes is not known here; give a limit, such as --time 04:00:00.")
            else:
                asked.append((index, limit, options.mem or host_gib(cost, means)))
    return asked, refused


def host_gib(cost: Cost, means: Means) -> int:
    """Host memory for a run in GiB. On a CPU this includes the step, on a GPU one more copy of the checkpoint."""
    of_the_step = cost.needed_mib if means.semantics == "cpu" else cost.disk_mib / 2
    return math.ceil((HOST_GIB + of_the_step / 1024) / STEP_GIB) * STEP_GIB


def _request(options: argparse.Namespace, study: str, name: str) -> slurm.Request:
    path = Path(options.study).expanduser()
    named = str(path.resolve()) if options.study.endswith(".yaml") else options.study
    more = [f"--partition={options.partition}"] if options.partition else []
    more += [word for option in options.sbatch for word in shlex.split(option)]
    return slurm.Request(
        name=name,
        words=(named, options.profile, *(word for text in options.parameters for word in ("-p", text))),
        gres=options.gres or ("gpu:1" if options.profile == "mig20" else "none"),
        cpus=options.cpus,
        at_once=options.at_once,
        more=tuple(more),
        logs=(options.logs or runs_dir() / study / "logs").absolute(),
    )


def _arrays(
    asked: list[tuple[int, str, int]],
    runs: list[Run],
    queued: dict[int, slurm.Queued],
    request: slurm.Request,
    dry_run: bool,
) -> tuple[list[slurm.Batch], list[list[str]], list[str]]:
    """(arrays, their commands, their jobs), submitted unless `dry_run`.

    Runs that others need have arrays of their own, and the others wait for these to end, in the queue already or new.
    """
    needed = {need.name for run in runs for need in run.needs.values()}
    waiting = (queued[index].job for index, run in enumerate(runs, 1) if index in queued and run.name in needed)
    awaited = list(dict.fromkeys(job.split("_")[0] for job in waiting))
    groups: dict[tuple[int, bool], list[tuple[int, str, int]]] = {}
    for cost in asked:
        run = runs[cost[0] - 1]
        groups.setdefault((run.depth, run.name not in needed), []).append(cost)
    arrays, commands, jobs = [], [], []
    for (depth, is_last), costs in sorted(groups.items()):
        before = list(awaited) if depth else []
        for batch in slurm.batches(costs):
            arrays.append(batch)
            commands.append(request.array(batch, before))
            jobs.append(f"JOB{len(arrays)}" if dry_run else _submitted(commands[-1], request.logs))
            if not is_last:
                awaited.append(jobs[-1])
    return arrays, commands, jobs


def _submitted(command: list[str], logs: Path) -> str:
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KitError(f"Cannot keep logs in {logs}: {error.strerror}; choose another folder with --logs.") from error
    return slurm.submit(command)
