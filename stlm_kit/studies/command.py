"""`stlm reproduce` and `stlm ledger`: options in, sentences out; the work is done by the rest of this room."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from stlm_kit.errors import KitError, UsageError, near
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
    parser.add_argument(
        "--only",
        "--run",
        metavar="NAME|INDEX",
        help="of the runs asked for, only this one; an index counts a study's runs from 1",
    )
    parser.add_argument(
        "--shard", metavar="I/N", help="every N-th run beginning with the I-th, for N jobs side by side"
    )
    parser.add_argument("--force", action="store_true", help="run again what is done, from the beginning")
    parser.add_argument(
        "--unchecked", action="store_true", help="at mig20, also start runs that are predicted not to fit into memory"
    )
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

    reproduce(request, force=options.force, figures=options.figures, unchecked=options.unchecked)
    return 0


def add_compare(parser: argparse.ArgumentParser) -> None:
    """The options of `stlm compare`."""
    parser.add_argument("study", metavar="STUDY", help="a study whose runs measure memory")
    parser.add_argument("--profile", default="laptop", help="laptop (default), or mig20, the published size")
    parser.add_argument("--device", default="", metavar="TEXT", help="only rows timed on a device of this name")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="draw the figures there as well")
    parser.add_argument("--json", action="store_true", help="the cells, as a list of objects")


def run_compare(options: argparse.Namespace) -> int:
    """`stlm compare`: a study's runs side by side, memory and time. KitError where there is nothing to compare."""
    from stlm_kit.studies.comparison import compare
    from stlm_kit.studies.study import load_study

    study = load_study(options.study).name
    found = compare(study, options.profile, options.device)
    if found is None:
        raise KitError(
            f"The study {study} has no row with measured memory at the profile {options.profile}; "
            f"make them with `stlm reproduce {study} --profile {options.profile}`."
        )
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
        for name, figure in found.figures().items():
            figure.savefig(options.figures / f"{study}-{options.profile}-{name}.png")
    print(json.dumps(found.cells, indent=1) if options.json else "\n".join(found.lines()))
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


def add_ledger(parser: argparse.ArgumentParser, parents: Sequence[argparse.ArgumentParser] = ()) -> None:
    """The options of `stlm ledger` and of its action; parents: options that every command takes."""
    parser.add_argument("--source", help="only this source: poster, memory, layerdrop or stlm")
    parser.add_argument("--kind", help="only claims of this kind: arithmetic, predictable, trend, full_scale or config")
    parser.add_argument("--verdict", help="only claims with this verdict, such as contradicted")
    parser.add_argument("--json", action="store_true", help="every field, as a list of objects")
    parser.set_defaults(action="show")
    about = "Check your own runs at the published size and let them answer the claims that ask for one."
    action = parser.add_subparsers(metavar="ACTION").add_parser(
        "import", help=about, description=f"{about} {WHERE_ROWS_GO}", parents=list(parents), allow_abbrev=False
    )
    action.set_defaults(action="import")
    action.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run's folder, or one that holds many")
    action.add_argument("--dry-run", action="store_true", help="check and show, but keep nothing")


WHERE_ROWS_GO = (
    "The rows are kept in runs/imported/STUDY.jsonl, beside your runs, and no file of the checkout changes. "
    "To contribute one, append its line to data/results/STUDY.jsonl and commit that."
)


def run_ledger(options: argparse.Namespace) -> int:
    """`stlm ledger`, or one of its actions."""
    return import_rows(options) if options.action == "import" else show_ledger(options)


def import_rows(options: argparse.Namespace) -> int:
    """`stlm ledger import`: a line for each run folder and each claim it answers. KitError where one was refused."""
    from stlm_kit.checks import in_words
    from stlm_kit.studies import ledger
    from stlm_kit.studies.imports import import_runs, shown

    done = import_runs(options.run_dir, dry_run=options.dry_run)
    refused = [each for each in done if each.refusal]
    if refused and len(done) == 1:
        raise KitError(f"{refused[0].folder.name} is not imported: {refused[0].refusal}")
    for each in done:
        if each.refusal:
            print(f"{shown(each)}: not imported: {each.refusal}")
            continue
        state = "known already" if each.known else "would be imported" if options.dry_run else "imported"
        print(f"{shown(each)}: {state}")
        for claim_id, answer in each.answers.items():
            claim = ledger.find_claim(claim_id)
            published, found = in_words(claim, answer["found"])
            print(f"  {claim_id}: published {published}, found {found}: {ledger.verdict_of(claim, answer)}")
        for claim_id, why in each.unanswered.items():
            print(f"  {claim_id}: not answered: {why}")
        if not each.answers and not each.unanswered:
            print(f"  no claim of {each.row['study']}.yaml is tied to this run yet (`answers:`)")
    if refused:
        raise KitError(f"{len(refused)} of {len(done)} runs were not imported; the lines above say why.")
    return 0


def show_ledger(options: argparse.Namespace) -> int:
    """Every claim, published beside found, with its verdict; on standard error, what is at odds."""
    from stlm_kit.checks import show
    from stlm_kit.studies import ledger

    for name, known in (("kind", ledger.KINDS), ("verdict", ledger.VERDICTS)):
        wanted = getattr(options, name)
        if wanted is not None and wanted not in known:
            raise UsageError(f"There is no {name} {wanted!r}; there are {', '.join(known)}.{near(wanted, known)}")
    survey = ledger.survey(options.source)
    for sentence in survey.warnings:
        print(f"stlm: {sentence}", file=sys.stderr)
    rows = [
        row for row in survey.rows if options.kind in (None, row["kind"]) and options.verdict in (None, row["verdict"])
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
