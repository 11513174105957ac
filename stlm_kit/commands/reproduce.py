"""`stlm reproduce`: execute chapters and studies, print how their runs compare, and write the report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from stlm_kit.cluster.side_by_side import run_workers, settle_as_worker, status_of
from stlm_kit.commands.console import plain_table, print_table
from stlm_kit.errors import Interrupted, KitError, UsageError
from stlm_kit.provenance import duration
from stlm_kit.reproduce.recheck import Checked, recheck_runs
from stlm_kit.reproduce.recheck_rows import recheck_rows
from stlm_kit.reproduce.request import Request, parse_shard, plan
from stlm_kit.reproduce.rows import collect
from stlm_kit.reproduce.run import CHAPTERS, Run, read_record
from stlm_kit.reproduce.runner import Ended, execute_runs, studies_of
from stlm_kit.reproduce.study_file import FULL_SIZE, load_study, study_names
from stlm_kit.slices import chosen_slices, unused_slices
from stlm_kit.tracking import ready_for_kernels

MARKS = {"done": "green", "failed": "red", "to be checked": "yellow", "stale": "yellow", "interrupted": "yellow"}
MARKS |= {"running": "cyan"}


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    """Add the options of `stlm reproduce`."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="CHAPTER|STUDY",
        help="chapters by number or name, studies by name or .yaml file; default: every chapter",
    )
    parser.add_argument(
        "--profile", default="laptop", help="how much work: laptop (default), or mig20, the published size"
    )
    parser.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help="set a parameter"
    )
    parser.add_argument("--list", action="store_true", help="list the runs with their states; run nothing")
    parser.add_argument(
        "--only",
        "--run",
        metavar="NAME|INDEX",
        help="of the runs asked for, only this one; an index counts a study's runs from 1",
    )
    parser.add_argument(
        "--shard", metavar="I/N", help="every N-th run beginning with the I-th, for N jobs side by side"
    )
    parser.add_argument(
        "--collect", action="store_true", help="run nothing; collect the rows of what is done and write the report"
    )
    parser.add_argument("--no-report", action="store_true", help="leave the report to another job")
    parser.add_argument(
        "--slices",
        metavar="auto|UUID,UUID",
        help="share the runs among workers on this machine, one on each MIG slice: on all of them, or on these",
    )
    parser.add_argument("--force", action="store_true", help="run again what is done, from the beginning")
    parser.add_argument(
        "--unchecked",
        action="store_true",
        help="at mig20, also start runs that are predicted not to fit, or whose data is not there",
    )
    parser.add_argument(
        "--recheck",
        action="store_true",
        help="run nothing whole; see whether today's code computes what older code did",
    )
    parser.add_argument("--rows", action="store_true", help="with --recheck: the rows in data/results instead of runs")
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="with --rows: a copy of the kit that made them, to compare with"
    )
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="DIR",
        help="where report and figures go (default: figures/; of a study of your own, NAME-report/ here)",
    )
    parser.add_argument("--notebooks", type=Path, metavar="DIR", help="a folder of chapters of your own")


def run_reproduce(options: argparse.Namespace) -> int:
    """`stlm reproduce`; returns its exit status. Raises what `reproduce` raises."""
    settle_as_worker()
    if options.rows and not options.recheck:
        raise UsageError("--rows says what to check; give --recheck as well.")
    if options.against and not options.rows:
        raise UsageError("--against is for recorded rows; give --recheck --rows as well.")
    if options.rows:
        from stlm_kit.studies.memory.predictions import recheck

        return show_checks(recheck_rows(options.names, options.against, recheck))
    request = Request(
        names=options.names,
        profile=options.profile,
        parameters=given_parameters(options.parameters),
        only=options.only,
        shard=None if options.shard is None else parse_shard(options.shard),
        notebooks=options.notebooks,
    )
    if options.slices is not None:
        return reproduce_on_slices(request, options)
    if options.list:
        list_runs(plan(request))
        return 0
    if options.recheck:
        with_runs = [name for name in study_names() if load_study(name).has_runs(options.profile)]
        runs = plan(replace(request, names=options.names or [CHAPTERS, *with_runs]))
        status = show_checks(recheck_runs(runs))
        for study in studies_of(runs):
            collect(study)
        return status
    if options.collect:
        collect_runs(request, options.figures)
        return 0
    report = not options.no_report
    reproduce(request, force=options.force, figures=options.figures, unchecked=options.unchecked, report=report)
    return 0


def given_parameters(texts: list[str]) -> dict[str, str]:
    """{name: text} of `-p name=value`. UsageError for another form."""
    if not texts:
        return {}
    from stlm_kit.options import parse_pairs  # imported here because it needs torch, and listing runs does not

    return parse_pairs(texts, "-p")


def runs_of_study(options: argparse.Namespace, otherwise: str) -> list[Run]:
    """The runs that a command's study, profile and -p select.

    Raises UsageError for a chapter; `otherwise` is the end of its sentence.
    """
    runs = plan(Request([options.study], options.profile, given_parameters(options.parameters)))
    if any(run.is_chapter for run in runs):
        raise UsageError(f"{options.study!r} is a chapter{otherwise}")
    return runs


def show_checks(checks: Iterable[Checked]) -> int:
    """Print the result of each check as it ends. Returns 1 where something is stale, else 0."""
    verdicts = []
    for checked in checks:
        print(checked, flush=True)
        verdicts.append(checked.verdict)
    if not verdicts:
        print("Nothing is to be checked.")
    return 1 if "stale" in verdicts else 0


def reproduce(
    request: Request,
    *,
    force: bool = False,
    figures: Path | None = None,
    unchecked: bool = False,
    report: bool = True,
) -> list[Ended]:
    """Execute the requested runs that are not done, and write the report unless another job does so.

    Every parameter is validated before anything starts.

    figures: the folder for the report and the figures. The default is figures/ of the project, or for your own study
    the folder you work in.

    `execute_runs` says which runs are refused and what is raised. KitError at the end where a notebook failed or a run
    was refused.
    """
    ready_for_kernels()
    runs = plan(request)
    if request.profile == FULL_SIZE and len(runs) > 1 and (note := unused_slices()):
        print(f"stlm: {note}", file=sys.stderr, flush=True)
    ended = execute_runs(runs, force=force, unchecked=unchecked)
    if report:
        tell(runs, request, figures)
    _raise_for(ended, "chapter" if all(run.is_chapter for run in runs) else "run")
    return ended


NOT_ON_SLICES = ("list", "recheck", "collect", "force")  # with --force each worker would run everything again


def reproduce_on_slices(request: Request, options: argparse.Namespace) -> int:
    """Start one worker for each slice. When all have ended, collect the rows, compare them and write the report once.

    Returns the exit status of all workers. Raises UsageError and KitError before any worker starts, Interrupted when
    all have stopped after a signal.
    """
    for name in NOT_ON_SLICES:
        if getattr(options, name):
            raise UsageError(f"--slices starts workers that share runs out; leave out --{name}.")
    ready_for_kernels()
    runs = plan(request)
    slices = chosen_slices(options.slices)[: sum(not run.finished for run in runs)]
    statuses = run_workers(slices, worker_arguments(options))
    if Interrupted.exit_status in statuses:
        raise Interrupted("Stopped; what was finished is kept, and the same command goes on from there.")
    if not options.no_report:
        collect_runs(request, options.figures)
    return status_of(statuses, all(run.finished for run in runs))


def worker_arguments(options: argparse.Namespace) -> list[str]:
    """The arguments of a worker: the same request, without the report, which the parent process writes."""
    named = {"--profile": options.profile, "--only": options.only, "--shard": options.shard}
    named |= {"--notebooks": options.notebooks}
    given = [f"{name}={value}" for name, value in named.items() if value is not None]
    given += [part for text in options.parameters for part in ("-p", text)]
    flags = [f"--{name}" for name in ("unchecked", "debug") if getattr(options, name)]
    return ["reproduce", *given, *flags, "--no-report", "--", *options.names]


def tell(runs: list[Run], request: Request, figures: Path | None) -> None:
    """Print how the runs of a study compare, and write the report."""
    from stlm_kit.report.report import write_reports
    from stlm_kit.studies.memory.comparison import compare_or_why_not

    for study in studies_of(runs):
        _, lines = compare_or_why_not(study, request.profile)
        print("\n".join(["", *lines, ""]) if lines else "", end="", flush=True)
    # A job that does part of a study also reports what the other jobs have done.
    for report in write_reports(plan(replace(request, only=None, shard=None)), request, figures):
        print(f"Report: {report}")


def collect_runs(request: Request, figures: Path | None = None) -> None:
    """Execute nothing: collect the rows of finished runs, name the runs without a row, and write the report."""
    runs = plan(request)
    for study in studies_of(runs):
        print(f"{study}: {len(collect(study))} rows")
    without = {run.name: run.state() for run in runs if not run.finished}
    if without:
        print(f"{len(without)} of {len(runs)} runs have no result: ", end="")
        print(", ".join(f"{name} ({state})" for name, state in without.items()))
    tell(runs, request, figures)


def _raise_for(ended: list[Ended], unit: str) -> None:
    """Raise KitError that names the runs that failed and those that were refused, if any."""
    sentences = []
    if failed := [end.run.name for end in ended if end.status == "failed"]:
        sentences.append(f"{len(failed)} of {len(ended)} {unit}s failed: {', '.join(failed)}")
    if refused := [end.run.name for end in ended if end.status == "refused"]:
        sentences.append(f"{len(refused)} of {len(ended)} {unit}s cannot fit into memory: {', '.join(refused)}")
    if unread := [end.run.name for end in ended if end.status == "no_data"]:
        sentences.append(f"{len(unread)} of {len(ended)} {unit}s have nothing to read here: {', '.join(unread)}")
    if sentences:
        raise KitError(f"{'; '.join(sentences)}; the lines above{' and the report' if failed else ''} say why.")


def list_runs(runs: list[Run]) -> None:
    """Print a table of runs: name, state, how long the last execution took."""
    table = plain_table("study", "name", "state", "time", "folder")
    for run in runs:
        state = run.state()
        folder = run.kept
        seconds = read_record(folder).get("seconds")
        colour = MARKS.get(state)
        table.add_row(
            run.study,
            run.name,
            f"[{colour}]{state}[/]" if colour else state,
            duration(seconds) if seconds is not None else "",
            folder.name if folder.exists() else "",
        )
    print_table(table)
    for study in set(studies_of(runs)) & set(study_names()):
        for grid in load_study(study).runs:
            print(f"{grid.name}: {grid.about}" if grid.about else grid.name)
