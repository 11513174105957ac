"""`stlm reproduce --recheck --rows`: whether today's code still computes recorded rows that older code made.

One row of each kind (see recheck.py) is trained again: the first steps where a row keeps its `first_losses`, else the
whole row with the fewest steps, for its last loss. If the result equals the row's, all rows of the kind get the hash of
today's code as their `source`, and a row with `asked` gets the hash that follows from it. Predicted cells are predicted
again and must be identical. Timings are not checked; they must be measured again. Rows get the labels of their study's
grid. Nothing else in a row changes.

Over hundreds of steps another processor's rounding changes a last loss by some 1e-4. So a row that differs and was made
on another processor is left. `--against FOLDER` decides such a case: it trains the row with the copy of the kit in that
folder and with today's, on this processor, and compares the loss of every step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from stlm_kit.code_hash import rooms_hash
from stlm_kit.errors import KitError, UsageError
from stlm_kit.notebook_files import suggest
from stlm_kit.provenance import describe_machine, versions
from stlm_kit.reproduce import results
from stlm_kit.reproduce.needed_runs import needed_names
from stlm_kit.reproduce.recheck import Checked, as_many_threads, difference, first_losses, kind
from stlm_kit.reproduce.request import Request, plan
from stlm_kit.reproduce.study_file import labels_of

Row = dict[str, Any]


def recheck_rows(names: list[str], against: Path | None, predicted: Callable) -> Iterator[Checked]:
    """Check the recorded rows of these studies and their predictions (default: all). Each file is written when done.

    against: a folder with the stlm_kit that made the rows, such as a checkout of the commit that added them. predicted:
    checks the rows of predicted cells, as `_trainings` checks those of trainings. Raises UsageError for a name without
    recorded rows, KitError for a line that is not a row.
    """
    if against and not (against / "stlm_kit").is_dir():
        raise UsageError(f"There is no stlm_kit in {against}; give a folder with a copy of the kit.")
    known = {path.stem: path for path in sorted(results.checkout_folder().glob("*.jsonl"))}
    for name in names:
        if name not in known:
            raise UsageError(f"Nothing is recorded under the name {name!r}.{suggest(name, list(known))}")
    wanted = [stem for stem in known if not names or stem in names or stem.removesuffix("-predictions") in names]
    for stem in wanted:
        yield from _recheck_file(known[stem], against, predicted)


def _recheck_file(path: Path, against: Path | None, predicted: Callable) -> Iterator[Checked]:
    rows = results.read_rows(path)
    trained, cells, others = [], [], []
    for row in rows:
        group = cells if row["metrics"].get("kind") == "predicted" else trained if is_training(row) else others
        group.append(row)
    stamps: dict[int, str] = {}  # {place of a row in the file: its new source}
    places = {id(row): place for place, row in enumerate(rows)}
    for checked, held, source in chain(_trainings(trained, against), predicted(cells)):
        stamps |= {places[id(row)]: source for row in held}
        yield checked
    if others:
        yield Checked([row["name"] for row in others], "left", "timings; what measured them measures them anew.")

    def stamped(now: list[Row]) -> list[Row]:
        """The rows as they are now. Other processes may have added or changed some during the computation."""
        found = [_stamped(row, stamps.get(rows.index(row))) if row in rows else row for row in now]
        for row in found:
            results.ResultRow.model_validate(row)
        return found

    results.change_rows(path, stamped)


def is_training(row: Row) -> bool:
    """Whether a row is a run of `train_from_text`, so that its loss can be computed again."""
    return {"preset", "steps"} <= row["configuration"].keys() and "loss" in row["metrics"]


def _stamped(row: Row, source: str | None) -> Row:
    """A row with its labels and, if given, with this source and the hash that follows from it."""
    found: Row = {}
    profile = row.get("profile")
    labels = row.get("labels") or (labels_of(row["study"], row["name"], profile) if profile else {})
    for name, value in row.items():
        found[name] = value
        if name == "profile" and labels and "labels" not in row:
            found["labels"] = labels
    if source is not None:
        found["source"] = source
        found["hash"] = results.row_hash(found)
    return found


Outcome = tuple[Checked, list[Row], str]  # what to print, the rows that hold, their new source


def _trainings(rows: list[Row], against: Path | None) -> Iterator[Outcome]:
    """Rows of trainings that older code made, one kind at a time."""
    from stlm_kit.train_from_text import run_settings

    kinds: dict[str, list[Row]] = {}
    for row in rows:
        if row["source"] != rooms_hash():  # a setting that was added later has its default
            kinds.setdefault(kind(run_settings(**row["configuration"])), []).append(row)
    for alike in kinds.values():
        for row in [row for row in alike if other_versions(row)]:
            yield Checked([named(row)], "stale", f"it was made with {other_versions(row)}; record it anew."), [], ""
        alike = [row for row in alike if not other_versions(row)]
        if not alike:
            continue
        one = min(alike, key=lambda row: ("first_losses" not in row["metrics"], row["configuration"]["steps"]))
        names = [named(row) for row in alike]
        try:
            differs = _differs_from(against, one) if against else _differs(one)
        except KitError as error:
            yield Checked(names, "left", f"it cannot be checked here: {error}"), [], ""
            continue
        if differs:
            for name in names:
                yield Checked([name], "stale", f"in {named(one)} {differs}; record it anew."), [], ""
        else:
            yield Checked(names, "holds", f"the loss of {named(one)} is the same."), alike, rooms_hash()


def named(row: Row) -> str:
    """A row's name and seed."""
    return f"{row['name']} (seed {row['seed']})"


def other_versions(row: Row) -> str:
    """The first library whose version in the row differs from the installed one, in words; "" where none does."""
    here = versions()
    there = [f"{name} {version}" for name, version in row["versions"].items() if here.get(name) != version]
    return there[0] if there else ""


def _differs(row: Row) -> str:
    """How a row's first losses, or its last one, differ from those computed now; "" where they do not."""
    from stlm_kit.train_from_text import run_settings

    kept = row["metrics"].get("first_losses")
    with as_many_threads(threads(row)):
        if kept:
            return difference(first_losses(run_settings(**configuration(row)), len(kept)), kept)
        again = results.rerun({**row, "configuration": configuration(row)})
        last = difference([again["loss"]], [row["metrics"]["loss"]])
    last = last.replace("of step 1", "of the last step")
    made_on, here = row["machine"].get("processor"), describe_machine()["processor"]
    if last and made_on != here:
        raise KitError(
            f"{last}, which may be rounding, since {made_on} made it and this is {here}; give the kit that made it as "
            "--against FOLDER."
        )
    return last


def configuration(row: Row) -> dict[str, Any]:
    """A row's configuration, with the folders of the runs that it needed. KitError where they are not here."""
    found = row["configuration"]
    if not needed_names(found):
        return found
    runs = {run.name: run for run in plan(Request([row["study"]], row["profile"]))}
    if row["name"] not in runs:
        raise KitError(f"the study has no run {row['name']} any more, so the runs that it needed are not known.")
    return runs[row["name"]].with_folders(found)


def threads(row: Row) -> int | None:
    """How many threads torch used, or None where a row does not say."""
    return row["metrics"].get("threads") or row["machine"].get("threads")


THEN = """
import json, sys
import torch
from stlm_kit import run_settings, train_from_text
asked = json.load(sys.stdin)
torch.set_num_threads(asked["threads"] or torch.get_num_threads())
print(json.dumps(train_from_text(run_settings(**asked["configuration"]), progress=False).losses))
"""


def _differs_from(folder: Path, row: Row) -> str:
    """How the losses of a row's steps differ between the kit in a folder and today's; "" where they do not."""
    from stlm_kit.train_from_text import run_settings

    settings = configuration(row)
    asked = json.dumps({"configuration": settings, "threads": threads(row)})
    environment = {**os.environ, "PYTHONPATH": str(folder.resolve())}
    then = subprocess.run(
        [sys.executable, "-c", THEN], input=asked, capture_output=True, text=True, cwd=folder, env=environment
    )
    if then.returncode:
        said = then.stderr.strip().splitlines() or ["without a word"]
        raise KitError(f"the kit in {folder} fails at it ({said[-1]}).")
    old = json.loads(then.stdout.splitlines()[-1])
    with as_many_threads(threads(row)):
        return difference(first_losses(run_settings(**settings), len(old)), old)
