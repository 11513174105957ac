"""Grading throughput: a folder of submissions put together from right and wrong solutions, graded from nothing.

    python benchmarks/grading.py [--submissions 100] [--assignment 02] [--side-by-side 2] [--json]

Each submission answers every exercise, by turns with the reference, one of the wrong solutions, or not at all; all
under a key. Printed are minutes for all, seconds for one, and whether the sandbox was used.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from pathlib import Path

import nbformat


def hand_in(folder: Path, course: Path, name: str, count: int) -> None:
    """Write `count` submissions of an assignment into a folder."""
    from stlm_kit.course import assignment as assignments
    from stlm_kit.course import self_test as trial
    from stlm_kit.course.compose import compose

    assignment = assignments.load(name)
    file = f"{assignment.name}.ipynb"
    source = nbformat.read(course / "source" / assignment.name / file, as_version=4)
    reference = {cell.id: cell.source for cell in source.cells}
    choices = {}
    for place, exercise in enumerate(each.id for each in assignment.exercises):
        wrong = [trial.answer(assignment, exercise, each) for each in trial.wrong(assignment, exercise)]
        turns = itertools.cycle([reference[exercise], *wrong, None])
        choices[exercise] = list(itertools.islice(turns, place, place + count))
    for number in range(count):
        answers = {exercise: codes[number] for exercise, codes in choices.items() if codes[number] is not None}
        place = folder / f"student{number:03d}" / file
        place.parent.mkdir()
        nbformat.write(compose(course / "release" / assignment.name / file, answers), place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=100)
    parser.add_argument("--assignment", default="02")
    parser.add_argument("--side-by-side", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    from stlm_kit.course import sandbox
    from stlm_kit.course.grade import grade
    from stlm_kit.course.release import release

    with tempfile.TemporaryDirectory(prefix="stlm-grading-") as place:
        course, folder = Path(place) / "course", Path(place) / "submissions"
        folder.mkdir()
        release([options.assignment], "a key for the benchmark", course)
        hand_in(folder, course, options.assignment, options.submissions)
        begun = time.monotonic()
        done = grade(folder, course, [options.assignment], lambda line: None, options.side_by_side)
        seconds = time.monotonic() - begun
    graded = [report for report in done if not report.problem]
    row = {
        "submissions": len(done),
        "graded": len(graded),
        "mean_marks": round(sum(report.earned for report in graded) / max(1, len(graded)), 2),
        "possible": max((report.possible for report in graded), default=0),
        "minutes": round(seconds / 60, 2),
        "seconds_each": round(seconds / max(1, len(done)), 2),
        "side_by_side": options.side_by_side,
        "sandboxed": not sandbox.missing(),
        "cores": os.cpu_count(),
    }
    print(json.dumps(row) if options.json else "\n".join(f"{name:14} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
