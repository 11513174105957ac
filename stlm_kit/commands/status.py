"""`stlm status`: the progress of a study's runs, on this machine and in Slurm's queue."""

from __future__ import annotations

import argparse
import json
import time

from stlm_kit.cluster import slurm
from stlm_kit.cluster.standing import Standing, in_words, planned_hours, standings
from stlm_kit.commands.console import plain_table, print_table
from stlm_kit.commands.reproduce import MARKS, runs_of_study
from stlm_kit.commands.submit import job_name
from stlm_kit.errors import UsageError
from stlm_kit.provenance import duration
from stlm_kit.reproduce.run import FINISHED

OVER = (*FINISHED, "failed", "missing")  # the state of such a run does not change by itself


def add_status(parser: argparse.ArgumentParser) -> None:
    """Add the options of `stlm status`."""
    parser.add_argument("study", metavar="STUDY", help="a study by name, or a .yaml file of one's own")
    parser.add_argument("--profile", default="laptop", help="laptop (default), or mig20, the published size")
    parser.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help="a parameter that was set"
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=float,
        const=10.0,
        metavar="SECONDS",
        help="look again every so many seconds (default: 10) until no run is waiting or running",
    )
    parser.add_argument("--json", action="store_true", help="a list of objects, one a run")


def run_status(options: argparse.Namespace) -> int:
    """`stlm status`. Returns 1 where a run has failed, else 0. Raises what `plan` raises."""
    if options.watch is not None and not options.watch > 0:
        raise UsageError(f"--watch {options.watch:g} will not do; give seconds above 0.")
    runs = runs_of_study(options, f"; `stlm reproduce {options.study} --list` shows its state.")
    planned = planned_hours(runs, options.profile)
    shown = None
    while True:
        found = standings(runs, slurm.queue_if_any(job_name(runs[0].study, options.profile)), planned)
        if options.json:
            print(json.dumps([one.to_dict() for one in found], indent=1), flush=True)
        elif (now := in_words(found)) != shown:  # in a log, print a table only if something changed
            show(found)
            print(now, flush=True)
            shown = now
        if options.watch is None or all(one.state in OVER and not one.job for one in found):
            return 1 if any(one.state == "failed" for one in found) else 0
        time.sleep(options.watch)


def show(found: list[Standing]) -> None:
    """Print the table of runs."""
    table = plain_table("#", "run", "state", "job", "step", "left", "")
    for one in found:
        colour = MARKS.get(one.state)
        state = one.state.replace("_", " ")
        left = "?" if one.hours_left is None else "" if one.hours_left == 0 else duration(3600 * one.hours_left)
        table.add_row(
            str(one.index),
            one.name,
            f"[{colour}]{state}[/]" if colour else state,
            one.job,
            f"{one.step:,} of {one.steps:,}" if one.steps else f"{one.step:,}",
            left,
            one.sentence,
        )
    print_table(table)
