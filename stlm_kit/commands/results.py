"""`stlm results`: scores over a grid, means over seeds with intervals, differences from one arm, and a plot."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stlm_kit.errors import KitError, UsageError

if TYPE_CHECKING:
    from stlm_kit.tables.table import Table

PICTURES = (".png", ".svg", ".pdf")


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add the options of `stlm results`."""
    parser.add_argument(
        "names", nargs="+", metavar="STUDY|FILE", help="studies by name or .yaml file, or .jsonl files of rows"
    )
    parser.add_argument(
        "--metric", action="append", default=[], metavar="NAME", help="default: bits_per_byte and perplexity"
    )
    parser.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="NAME",
        help="what tells arms apart: a label of the grid, a setting, name, device, place (default: what varies)",
    )
    parser.add_argument(
        "--over", action="append", metavar="NAME", help="what is averaged over (default: seed); may be given twice"
    )
    parser.add_argument(
        "--against", metavar="ARM", help="paired differences from this arm: as printed, a value of it, or COLUMN=VALUE"
    )
    parser.add_argument("--profile", help="laptop or mig20 (default: a study's laptop, any of other rows)")
    parser.add_argument(
        "-p",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what a study's runs were given",
    )
    parser.add_argument("--all", action="store_true", help="also rows whose settings the study does not ask for")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--csv", action="store_true", help="one line an arm and metric, numbers unrounded")
    forms.add_argument("--latex", action="store_true", help="a tabular for booktabs")
    forms.add_argument("--json", action="store_true", help="a list of objects, numbers unrounded")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw it: a .png, .svg or .pdf file")


def run_results(options: argparse.Namespace) -> int:
    """`stlm results`. Raises what `gather` and `tabulate` raise, and UsageError for an unknown type of picture."""
    from stlm_kit.commands.reproduce import given_parameters
    from stlm_kit.reproduce.study_file import PROFILES
    from stlm_kit.tables.rows import gather
    from stlm_kit.tables.table import tabulate

    if options.profile not in (None, *PROFILES):
        raise UsageError(f"There is no profile {options.profile!r}; choose {' or '.join(PROFILES)}.")
    if options.figure and options.figure.suffix.lower() not in PICTURES:
        raise UsageError(f"--figure {options.figure} will not do; let the name end in {', '.join(PICTURES)}.")
    found = gather(options.names, options.profile, options.all, given_parameters(options.parameters))
    table = tabulate(found.samples, options.metric, options.by, options.over or ["seed"], options.against)
    table.notes.extend(found.notes)
    show(table, "csv" if options.csv else "latex" if options.latex else "json" if options.json else "plain")
    if options.figure:
        draw(table, options.figure)
    return 0


def show(table: Table, form: str) -> None:
    """Print the table. Notes follow it; with CSV and JSON they go to standard error."""
    from stlm_kit.tables.text import cells, csv_text, latex, records

    if form == "csv":
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(newline="")  # Windows would write CR CR LF
        print(csv_text(table), end="")
    elif form == "latex":
        print(latex(table), end="")
    elif form == "json":
        print(json.dumps(records(table), indent=1, ensure_ascii=False))
    else:
        from stlm_kit.commands.console import plain_table, print_table

        for number, part in enumerate(cells(table)):
            if number:
                print()
            shown = plain_table(*part.header)
            for column in shown.columns[part.n_names :]:
                column.justify = "right"
            for line in part.lines:
                shown.add_row(*(cell.replace("[", r"\[") for cell in line))
            print_table(shown)
        print("\n".join(["", *table.notes]) if table.notes else "", end="\n" if table.notes else "")
    if form in ("csv", "json"):
        print("".join(f"{note}\n" for note in table.notes), end="", file=sys.stderr)


def draw(table: Table, path: Path) -> None:
    """Write the plot of a table to a file. KitError where it cannot be written."""
    from stlm_kit.plots import estimates

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        estimates(table.panels, ", ".join(table.by)).savefig(path)
    except OSError as error:
        raise KitError(f"Could not write {path}: {error.strerror}; choose another folder.") from error
