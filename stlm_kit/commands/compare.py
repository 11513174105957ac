"""`stlm compare`: a table of a study's runs, with the memory and time of each."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from stlm_kit.errors import KitError


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add the options of `stlm compare`."""
    parser.add_argument("study", metavar="STUDY", help="a study whose runs measure memory")
    parser.add_argument("--profile", default="laptop", help="laptop (default), or mig20, the published size")
    parser.add_argument("--device", default="", metavar="TEXT", help="only rows timed on a device of this name")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="draw the figures there as well")
    parser.add_argument("--json", action="store_true", help="the cells, as a list of objects")


def run_compare(options: argparse.Namespace) -> int:
    """`stlm compare`: a table of a study's runs, with memory and time. KitError where there is nothing to compare."""
    from stlm_kit.reproduce.study_file import load_study
    from stlm_kit.studies.memory.comparison import compare

    study = load_study(options.study).name
    found = compare(study, options.profile, options.device)
    if found is None:
        raise KitError(
            f"The study {study} has no row with measured memory at the profile {options.profile}; "
            f"make them with `stlm reproduce {options.study} --profile {options.profile}`."
        )
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
        for name, figure in found.figures().items():
            figure.savefig(options.figures / f"{study}-{options.profile}-{name}.png")
    print(json.dumps(found.cells, indent=1) if options.json else "\n".join(found.lines()))
    return 0
