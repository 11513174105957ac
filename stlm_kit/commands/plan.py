"""`stlm plan`: a table of the time and memory that each run of a study needs, before you start it."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from stlm_kit.commands.console import plain_table, print_table
from stlm_kit.commands.reproduce import given_parameters, runs_of_study
from stlm_kit.errors import UsageError
from stlm_kit.progress import Waiting
from stlm_kit.provenance import duration
from stlm_kit.reproduce.request import Request, need_gpu, plan

if TYPE_CHECKING:
    from stlm_kit.reproduce.cost import Cost

MARKS = {"tight": "[yellow]tight[/]", "no": "[red]no[/]"}


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add the options of `stlm plan`."""
    parser.add_argument("study", metavar="STUDY", help="a study by name, or a .yaml file of one's own")
    parser.add_argument("--profile", default="laptop", help="laptop (default), or mig20, the published size")
    parser.add_argument("--run", metavar="NAME|INDEX", help="only this run; an index counts from 1")
    parser.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help="set a parameter"
    )
    parser.add_argument("--budget", metavar="NAME|MIB", help="mig-20gb, device, or the MiB that torch may reserve")
    parser.add_argument(
        "--utilisation", type=float, default=0.3, metavar="SHARE", help="of the device's peak (default: 0.3)"
    )
    parser.add_argument(
        "--calibrate", type=int, metavar="STEPS", help="time so many steps of each run on this device instead"
    )
    parser.add_argument("--json", action="store_true", help="every figure, as an object")


def run_plan(options: argparse.Namespace) -> int:
    """`stlm plan`. Raises UsageError for options that are out of range, and what `plan` and `work_of` raise."""
    if not 0 < options.utilisation <= 1:
        raise UsageError(f"--utilisation {options.utilisation} will not do; give a share above 0 and up to 1.")
    if options.calibrate is not None and options.calibrate < 1:
        raise UsageError(f"--calibrate {options.calibrate} will not do; give the number of steps to time, such as 50.")
    runs = runs_of_study(options, ", which takes minutes; stlm plan takes a study.")
    chosen = plan(Request([options.study], options.profile, given_parameters(options.parameters), only=options.run))
    if options.calibrate:
        need_gpu(chosen)
    from stlm_kit.reproduce.cost import work_of
    from stlm_kit.reproduce.estimate import cost_of, means_for, notes_on

    means = means_for(options.profile, options.budget, options.utilisation, options.calibrate or 0)
    works, costs = [], []
    with Waiting("planning") as waiting:
        for run in waiting.over(chosen, "run"):
            works.append(work_of(run))
            costs.append(cost_of(runs.index(run) + 1, works[-1], means))
    notes = notes_on(costs, works, means)
    if any(cost.fits != "no" and cost.time_limit for cost in costs):
        notes.append(f"For Slurm: stlm submit {options.study} --profile {options.profile} (--dry-run shows it first).")
    if options.json:
        budget = None if means.budget is None else means.budget.mib
        about = {"study": chosen[0].study, "profile": options.profile, "budget_mib": budget}
        print(json.dumps({**about, "runs": [cost.to_dict() for cost in costs], "notes": notes}, indent=1))
        return 0
    _show(costs)
    print("\n".join(notes))
    return 0


def _show(costs: list[Cost]) -> None:
    names = ("#", "run", "MiB", "reserved", "fits", "steps", "tokens", "FLOPs", "time", "evaluation")
    table = plain_table(*names, "disk MiB", "limit")
    for cost in costs:
        table.add_row(
            str(cost.index),
            cost.name,
            f"{cost.predicted_mib:,.0f}",
            f"{cost.reserved_mib:,.0f}",
            MARKS.get(cost.fits, cost.fits),
            f"{cost.steps:,}",
            f"{cost.tokens:,}",
            f"{cost.flops:.2e}",
            "?" if cost.hours is None else duration(3600 * cost.hours),
            "?" if cost.evaluation_hours is None else duration(3600 * cost.evaluation_hours),
            f"{cost.disk_mib:,.0f}",
            cost.time_limit or "?",
        )
    print_table(table)
