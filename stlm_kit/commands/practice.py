"""`stlm practice`: the student's copy of the course."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_practice(parser: argparse.ArgumentParser) -> None:
    """Add the options of `stlm practice`."""
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        metavar="DIR",
        help="where to put it (default: notebooks/practice of a checkout, which git ignores; elsewhere practice/)",
    )
    parser.add_argument(
        "--again",
        action="append",
        metavar="CHAPTER",
        help="make this chapter anew, by number or name; your older file is kept beside it",
    )


def run_practice(options: argparse.Namespace) -> int:
    """`stlm practice [DIR]`: print what is new, what was kept, and where to begin."""
    from stlm_kit.practice.folder import KEPT, NEW, OLDER, make_practice, practice_dir

    folder = (options.folder or practice_dir()).expanduser()
    made = make_practice(folder, options.again, again=bool(options.again))
    counts = {state: sum(each.state == state for each in made) for state in (NEW, KEPT, OLDER)}
    print(f"{folder}: {counts[NEW]} notebooks made, {counts[KEPT] + counts[OLDER]} kept as they are.")
    for each in made:
        if each.moved_to:
            print(f"  {each.path.name} is new; yours is now {each.moved_to.name}.")
        if each.state == OLDER:
            print(f"  {each.path.name} was made from an older chapter; --again {each.path.name[:2]} makes it anew.")
    return 0
