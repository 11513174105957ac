"""`stlm reproduce --recheck --rows`: recorded rows that other code made, and whether today's still computes them.

One row of each kind (see recheck.py) is trained again: the first steps where a row keeps its `first_losses`, else the
row of the fewest steps as a whole, for its last loss. Where that is what the row says, all rows of the kind get the
hash of today's code as their `source`, and a row with `asked` the hash that follows. Predicted cells are predicted
again and must be identical. A timing is no training: whatever measured it measures it anew. Rows get the labels that
their study's grid gives them; nothing else in a row changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stlm_kit.code_hash import rooms_hash
from stlm_kit.errors import KitError, UsageError
from stlm_kit.notebook_files import suggest
from stlm_kit.paths import atomic_write
from stlm_kit.provenance import versions
from stlm_kit.reproduce import results
from stlm_kit.reproduce.recheck import Checked, as_many_threads, difference, first_losses, kind
from stlm_kit.reproduce.study_file import labels_of

Row = dict[str, Any]


def recheck_rows(names: list[str]) -> Iterator[Checked]:
    """Check the committed rows of these studies and their predictions (default: all); each file is written when done.

    Raises UsageError for a name under which nothing is recorded, KitError for a line that is no row.
    """
    known = {path.stem: path for path in sorted(results.checkout_folder().glob("*.jsonl"))}
    for name in names:
        if name not in known:
            raise UsageError(f"Nothing is recorded under the name {name!r}.{suggest(name, list(known))}")
    wanted = [stem for stem in known if not names or stem in names or stem.removesuffix("-predictions") in names]
    for stem in wanted:
        yield from _recheck_file(known[stem])


def _recheck_file(path: Path) -> Iterator[Checked]:
    rows = results.read_rows(path)
    trained, predicted, others = [], [], []
    for row in rows:
        group = predicted if row["metrics"].get("kind") == "predicted" else trained if is_training(row) else others
        group.append(row)
    stamps: dict[int, str] = {}  # {place of a row in the file: the source that it gets}
    places = {id(row): place for place, row in enumerate(rows)}
    for checked, held, source in (*_trainings(trained), *_predictions(predicted)):
        stamps |= {places[id(row)]: source for row in held}
        yield checked
    if others:
        yield Checked([row["name"] for row in others], "left", "timings; what measured them measures them anew.")
    stamped = [_stamped(row, stamps.get(place)) for place, row in enumerate(rows)]
    if stamped != rows:
        for row in stamped:
            results.ResultRow.model_validate(row)
        atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in stamped))


def is_training(row: Row) -> bool:
    """Whether a row is a run of `train_from_text`, whose loss can be computed again."""
    return {"preset", "steps"} <= row["configuration"].keys() and "loss" in row["metrics"]


def _stamped(row: Row, source: str | None) -> Row:
    """A row with its labels, and with this source and the hash that follows, where there is one."""
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


Outcome = tuple[Checked, list[Row], str]  # what to say, the rows that hold, the source that they get


def _trainings(rows: list[Row]) -> Iterator[Outcome]:
    """Rows of trainings that other code made, a kind at a time."""
    from stlm_kit.train_from_text import run_settings

    kinds: dict[str, list[Row]] = {}
    for row in rows:
        if row["source"] != rooms_hash():  # a setting that came later has its default
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
            differs = _differs(one)
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
    """The first library that the row names in another version than is installed, as words; "" where there is none."""
    here = versions()
    there = [f"{name} {version}" for name, version in row["versions"].items() if here.get(name) != version]
    return there[0] if there else ""


def _differs(row: Row) -> str:
    """How a row's first losses, or its last one, differ from those computed now; "" where they do not."""
    from stlm_kit.train_from_text import run_settings

    kept = row["metrics"].get("first_losses")
    with as_many_threads(row["metrics"].get("threads") or row["machine"].get("threads")):
        if kept:
            return difference(first_losses(run_settings(**row["configuration"]), len(kept)), kept)
        last = difference([results.rerun(row)["loss"]], [row["metrics"]["loss"]])
    return last.replace("of step 1", "of the last step")


def _predictions(rows: list[Row]) -> Iterator[Outcome]:
    """Predicted cells that other code made, each predicted again."""
    from stlm_kit.studies.memory.predictions import ROOMS, predict

    held = []
    for row in rows:
        if row["source"] == rooms_hash(ROOMS):
            continue
        if json.loads(json.dumps(predict(row["configuration"]))) == row["metrics"]:
            held.append(row)
        else:
            study = row["study"].removesuffix("-predictions")
            sentence = f"it is predicted otherwise; `stlm predict --study {study} --write` makes it anew."
            yield Checked([row["name"]], "stale", sentence), [], ""
    if held:
        yield Checked([row["name"] for row in held], "holds", "each is predicted the same."), held, rooms_hash(ROOMS)
