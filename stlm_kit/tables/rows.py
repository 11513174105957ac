"""The rows of a table of results: a study's, those recorded under a name, or those of a file.

A study's rows are the committed ones (data/results), the imported ones and those of the runs on this machine. The same
run, by its hash, counts once, with its latest row. A table takes the rows that the study defines at the profile. The
others are counted in a note, and runs without a row are named.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.paths import runs_dir
from stlm_kit.reproduce import results
from stlm_kit.reproduce.request import absolute_paths
from stlm_kit.reproduce.rows import row as row_of
from stlm_kit.reproduce.run import CHAPTERS, read_record
from stlm_kit.reproduce.run_hash import content_of, names_a_file
from stlm_kit.reproduce.study_file import Cell, Study, load_study, study_names
from stlm_kit.tables.columns import Sample
from stlm_kit.tables.table import counted, listed

Row = dict[str, Any]


@dataclass
class Gathered:
    """The rows of a table, in order, and notes on the rows that were left out."""

    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def gather(
    names: Iterable[str],
    profile: str | None = None,
    everything: bool = False,
    given: dict[str, Any] | None = None,
) -> Gathered:
    """The rows for these names: studies, names of recorded rows, .yaml and .jsonl files.

    profile: default laptop for a study, any for other rows. everything: include a study's rows whose settings it does
    not define. given: parameters, as in `stlm reproduce -p`, with which a study's runs were made. Raises UsageError for
    an unknown name, KitError for a name without a row, or a line that is not a row.
    """
    found = Gathered()
    for name in dict.fromkeys(names):
        if name.endswith(".jsonl"):
            rows = _of_file(Path(name), profile)
        elif name.endswith(".yaml") or name in study_names():
            study = load_study(name)
            cells = {run: with_given(cell, given or {}) for run, cell in study.cells(profile or "laptop").items()}
            options = "".join(f" -p {parameter}={value}" for parameter, value in (given or {}).items())
            command = f"`stlm reproduce {name} --profile {profile or 'laptop'}{options}`"
            rows = _of_study(study, cells, command, profile or "laptop", everything, found.notes)
            name = study.name
        else:
            rows = _of_name(name, profile)
        found.samples += [Sample(row, name) for row in completed(rows)]
    return found


def _of_file(path: Path, profile: str | None) -> list[Row]:
    if not path.is_file():
        raise KitError(f"There is no file {path}; give a .jsonl file of result rows, or a study's name.")
    try:
        rows = results.read_rows(path)
    except (OSError, UnicodeDecodeError) as error:
        raise KitError(f"The file {path} cannot be read as text ({error}); give a .jsonl file of rows.") from error
    return _at(rows, profile, f"The file {path}")


def _of_name(name: str, profile: str | None) -> list[Row]:
    """Rows that are recorded under a name, or collected under it in the runs folder, without a study file."""
    rows = known_rows(name)
    if not rows:
        recorded = {*study_names(), *results.recorded_names(), *_with_rows()}
        listing = near(name, recorded) or f" There are {', '.join(sorted(recorded))}."
        raise UsageError(f"There is no study {name!r}, and no row is recorded under this name.{listing}")
    return _at(rows, profile, name)


def _at(rows: list[Row], profile: str | None, what: str) -> list[Row]:
    """The rows at a profile. KitError where there are none."""
    if not rows:
        raise KitError(f"{what} holds no rows; give one that runs have written, such as runs/STUDY/rows.jsonl.")
    if found := [row for row in rows if profile in (None, row.get("profile"))]:
        return found
    others = " and ".join(sorted({row["profile"] for row in rows if row.get("profile")}))
    has = f"its rows are at {others}" if others else "its rows state none, so leave --profile out"
    raise KitError(f"{what} has no row at the profile {profile}; {has}.")


def _with_rows() -> set[str]:
    """The names under which the runs on this machine have collected rows."""
    return {path.parent.name for path in runs_dir().glob("*/rows.jsonl")} - {CHAPTERS}


def known_rows(name: str) -> list[Row]:
    """The rows of a study, the latest for each hash: committed, imported, collected, and of the runs on this machine.

    Nothing is written, because collected rows may come from another machine, without their runs' folders.
    """
    files = (results.rows_file(name), runs_dir() / "imported" / f"{name}.jsonl", runs_dir() / name / "rows.jsonl")
    rows = [each for path in files if path and path.is_file() for each in results.read_rows(path)]
    rows += [made for path in sorted((runs_dir() / name).glob("*/run.json")) if (made := row_of(path.parent))]
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        same = (row["name"], row["hash"])
        before = found.get(same)
        if before is None or (row["date"] or "") >= (before["date"] or ""):
            found[same] = row
    return list(found.values())


# rows of a study


def with_given(cell: Cell, given: dict[str, Any]) -> Cell:
    """A cell with the parameters that its run was given with `-p`."""
    return Cell({**cell.parameters, **absolute_paths(given)}, cell.labels)


def _of_study(
    study: Study, cells: dict[str, Cell], command: str, profile: str, everything: bool, notes: list[str]
) -> list[Row]:
    rows = known_rows(study.name)
    kept, refused, done = [], Counter(), set()
    for row in rows:
        why = _why_not(row, cells, profile)
        if not why:
            done.add(row["name"])
        if not why or (everything and row.get("profile") in (profile, None)):
            kept.append({**row, "labels": cells[row["name"]].labels} if row["name"] in cells else row)
        else:
            refused[why] += 1
    if not kept:
        raise KitError(_nothing(study, profile, rows, cells, command))
    if refused:
        rows_out, reasons = counted(refused.total(), "row"), listed([f"{n} {why}" for why, n in refused.most_common()])
        notes.append(f"{study.name}: {rows_out} left out ({reasons}); --all takes them in.")
    if missing := [name for name in cells if name not in done]:
        states = {name: state for name, (state, _) in _unfinished(study, profile).items()}
        told = [f"{name} ({states[name]})" if name in states else name for name in missing]
        notes.append(f"{study.name}: missing {len(missing)} of {len(cells)} runs: {', '.join(told)}; {command}.")
    order = {name: place for place, name in enumerate(cells)}
    return sorted(kept, key=lambda row: order.get(row["name"], len(order)))


def _why_not(row: Row, cells: dict[str, Cell], profile: str) -> str:
    """Why a row is not one that the study defines at a profile, in a few words; "" where it is one."""
    if row.get("profile") != profile:
        return "no run of its grid" if row.get("profile") is None else f"at the profile {row['profile']}"
    cell = cells.get(row["name"])
    if cell is None:
        return "with names that its grid has not"
    if "seed" in cell.parameters and str(row["seed"]) != str(cell.parameters["seed"]):
        return "with another seed than its run's name says"
    from stlm_kit.reproduce.study_runs import differs_in

    try:
        differs = differs_in({**row["configuration"], **_same_texts(row, cell)}, cell.parameters, profile)
    except UsageError:
        return "with settings that today's kit has not"
    return f"with another {differs.split()[1]}" if differs else ""


def _same_texts(row: Row, cell: Cell) -> dict[str, Any]:
    """The paths of a cell's texts whose content equals the row's, which may have been at another path."""
    return {
        name: cell.parameters[name]
        for name, content in ((row.get("asked") or {}).get("contents") or {}).items()
        if names_a_file(name, cell.parameters.get(name))
        and content_of(name, Path(cell.parameters[name]).expanduser().resolve()) == content
    }


def _unfinished(study: Study, profile: str) -> dict[str, tuple[str, str]]:
    """{run: (failed, interrupted or running, its sentence)} from the folders of runs that did not finish."""
    found = {}
    for path in sorted((runs_dir() / study.name).glob("*/run.json")):
        record = read_record(path.parent)
        if record.get("profile") == profile and record.get("status") in ("failed", "interrupted", "running"):
            said = record.get("sentence") or "it stopped without a word; see its log.txt."
            found[record.get("name")] = (record["status"], said)
    return found


def _nothing(study: Study, profile: str, rows: list[Row], cells: dict[str, Cell], command: str) -> str:
    """Why a study has nothing to show, and what to do."""
    failed = {name: said for name, (state, said) in _unfinished(study, profile).items() if state == "failed"}
    if failed:
        name, said = next(iter(failed.items()))
        return f"{len(failed)} of {counted(len(cells), 'run')} of {study.name} failed and none is done; {name}: {said}"
    others = sorted({row["profile"] for row in rows if row.get("profile") not in (None, profile)})
    at = f"; it has rows at --profile {' and '.join(others)}" if others else ""
    return f"The study {study.name} has no finished run at the profile {profile}{at}; {command} makes them."


def completed(rows: list[Row]) -> list[Row]:
    """Rows with missing settings at their defaults, where rows differ in which settings they contain."""
    if len({frozenset(row["configuration"]) for row in rows}) < 2:
        return rows
    from stlm_kit.train_from_text import RunSettings, run_settings

    found = []
    for row in rows:
        configuration = row["configuration"]
        if {"preset", "steps"} <= configuration.keys() <= RunSettings.model_fields.keys():
            with contextlib.suppress(UsageError):  # a value that today's kit refuses stays as recorded
                configuration = run_settings(**configuration).model_dump(mode="json")
        found.append({**row, "configuration": configuration})
    return found
