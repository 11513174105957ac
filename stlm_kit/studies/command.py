"""`stlm reproduce` and `stlm ledger`: options in, sentences out; the work is done by the rest of this room."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from stlm_kit.errors import UsageError, near
from stlm_kit.studies.plan import Request, parse_parameters, parse_shard, plan
from stlm_kit.studies.runs import Run

MARKS = {"done": "green", "failed": "red", "stale": "yellow", "interrupted": "yellow", "running": "cyan"}


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    """The options of `stlm reproduce`."""
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
    parser.add_argument("--only", metavar="NAME", help="of the runs asked for, only the one of this name")
    parser.add_argument(
        "--shard", metavar="I/N", help="every N-th run beginning with the I-th, for N jobs side by side"
    )
    parser.add_argument("--force", action="store_true", help="run again what is done, from the beginning")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="where report and figures go (default: figures/)")
    parser.add_argument("--notebooks", type=Path, metavar="DIR", help="a folder of chapters of your own")


def run_reproduce(options: argparse.Namespace) -> int:
    """`stlm reproduce`; gives its exit status. Raises what `reproduce` raises."""
    request = Request(
        names=options.names,
        profile=options.profile,
        parameters=parse_parameters(options.parameters),
        only=options.only,
        shard=None if options.shard is None else parse_shard(options.shard),
        notebooks=options.notebooks,
    )
    if options.list:
        list_runs(plan(request))
        return 0
    from stlm_kit.studies.runner import reproduce

    reproduce(request, force=options.force, figures=options.figures)
    return 0


def list_runs(runs: list[Run]) -> None:
    """Print a table of runs: name, state, how long the last execution took."""
    from rich.console import Console
    from rich.table import Table

    from stlm_kit.studies.machine import duration
    from stlm_kit.studies.runs import read_record

    table = Table("study", "name", "state", "time", "folder", box=None, pad_edge=False, header_style="bold")
    for run in runs:
        state = run.state()
        folder = run.older() if state == "stale" else run.folder
        seconds = read_record(folder).get("seconds")
        colour = MARKS.get(state)
        table.add_row(
            run.study,
            run.name,
            f"[{colour}]{state}[/]" if colour else state,
            duration(seconds) if seconds is not None else "",
            folder.name if folder.exists() else "",
        )
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = 400  # a log has no width: let no column be cut
    console.print(table)


def add_ledger(parser: argparse.ArgumentParser) -> None:
    """The options of `stlm ledger`."""
    parser.add_argument("--source", help="only this source: poster, memory, layerdrop or stlm")
    parser.add_argument("--kind", help="only claims of this kind: arithmetic, predictable, trend, full_scale or config")
    parser.add_argument("--verdict", help="only claims with this verdict, such as contradicted")
    parser.add_argument("--json", action="store_true", help="every field, as a list of objects")


def run_ledger(options: argparse.Namespace) -> int:
    """`stlm ledger`: every claim, published beside found, with its verdict."""
    from stlm_kit.checks import show
    from stlm_kit.studies import ledger

    for name, known in (("kind", ledger.KINDS), ("verdict", ledger.VERDICTS)):
        wanted = getattr(options, name)
        if wanted is not None and wanted not in known:
            raise UsageError(f"There is no {name} {wanted!r}; there are {', '.join(known)}.{near(wanted, known)}")
    rows = [
        row
        for row in ledger.rows(options.source)
        if options.kind in (None, row["kind"]) and options.verdict in (None, row["verdict"])
    ]
    if options.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    claims = {claim.id: claim for claim in ledger.load_claims(options.source)}
    table = Table("claim", "published", "found", "verdict", "statement", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        claim, found = claims[row["id"]], row["found"]
        values = list(found.values()) if isinstance(found, dict) else [] if found is None else [found]
        published = "" if claim.value is None else show(claim.value, claim)
        shown = " or ".join(show(value, claim) for value in values)
        table.add_row(row["id"], escape(published), escape(shown), row["verdict"], escape(row["statement"]))
    console = Console()
    if not console.is_terminal:
        console.width = 400
    console.print(table)
    counts = Counter(row["verdict"] for row in rows)
    console.print(f"{len(rows)} claims: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
    return 0
