"""`stlm ledger import`: check a run folder at the published size, and keep its row.

The checks, in order; the first difference is named in the error:
- the run belongs to a study, is of full size and is finished
- run.json's hash is that of the request it holds
- config.json, which the training wrote, agrees with run.json
- the numbers in row.json are those of result.json
- the study defines this configuration (full_size.py)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stlm_kit.errors import KitError, first_sentence
from stlm_kit.ledger.full_size import FULL_SIZE, answers_of, imported_file, label
from stlm_kit.reproduce.results import ResultRow, append_rows, read_rows
from stlm_kit.reproduce.rows import own_row, row, trained_settings
from stlm_kit.reproduce.run import CHAPTERS, FINISHED, read_record
from stlm_kit.reproduce.run_hash import configuration_hash, without
from stlm_kit.reproduce.study_file import load_study, study_names
from stlm_kit.reproduce.study_runs import ANOTHER_SAMPLE
from stlm_kit.training.run_folder import read_json


@dataclass(frozen=True)
class Import:
    """The result for one run folder: its row with the answers it gives, or the sentence that refuses it."""

    folder: Path
    row: dict[str, Any] | None = None
    answers: dict[str, dict] | None = None  # {claim id: answer}
    unanswered: dict[str, str] | None = None  # {claim id: why not, though the study ties it to this run}
    known: bool = False  # the row was known already
    refusal: str = ""


def import_runs(folder: Path, *, dry_run: bool = False) -> list[Import]:
    """Import one run's folder, or every run in a folder of runs in the order of their names; see `Import`.

    A refused run does not stop the others. dry_run: check everything and write nothing. Raises KitError where there is
    no run.
    """
    return [_import(each, dry_run) for each in run_folders(folder)]


def run_folders(folder: Path) -> list[Path]:
    """The folder itself if it is a run's, else the runs in it or one level below. KitError where there is none."""
    if not folder.is_dir():
        raise KitError(f"There is no folder {folder}; give a run's folder, such as runs/memory/NAME-HASH.")
    if (folder / "run.json").is_file():
        return [folder]
    found = sorted(path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/run.json"))
    found = [path for path in found if read_record(path).get("study") != CHAPTERS]
    if not found:
        raise KitError(f"{folder} holds no run of a study; `stlm reproduce STUDY --profile {FULL_SIZE}` makes them.")
    return found


def _import(folder: Path, dry_run: bool) -> Import:
    try:
        study = read_record(folder).get("study")
        if study not in (None, CHAPTERS, *study_names()):
            raise KitError(
                f"{study} is a study of your own, and its runs answer no published claim; see them with stlm results."
            )
        checked = checked_row(folder)
        answers, unanswered = answers_of(checked, load_study(checked["study"]))
    except KitError as error:
        return Import(folder, refusal=str(error))
    known = keep(checked, dry_run)
    return Import(folder, checked, answers, unanswered, known)


def keep(checked: dict[str, Any], dry_run: bool) -> bool:
    """Append a row to the user's rows of its study. True where the row was there already."""
    path = imported_file(checked["study"])
    if dry_run:
        return path.is_file() and checked in read_rows(path)
    return not append_rows(path, [checked])


# --- one folder, checked ---


def checked_row(folder: Path) -> dict[str, Any]:
    """The result row of a run's folder, in the form of a file of rows. KitError where a part is wrong.

    `answers_of` checks that the study defines this configuration.
    """
    record = read_record(folder)
    _must_be_finished(record)
    found = {name: read_json(folder / name) for name in ("config.json", "result.json", "row.json")}
    for name, content in found.items():
        if content is None:
            raise KitError(f"it has no {name}; restore it from a copy, or make the run again with --force.")
    if not {"run", "training", "model"} <= found["config.json"].keys():
        raise KitError("its config.json is not that of a training; make the run again with --force.")
    _must_be_of_one_piece(record)
    try:
        made = json.loads(json.dumps(row(folder)))
        ResultRow.model_validate(made)
    except ValidationError as error:
        raise KitError(f"its row will not do: {first_sentence(error)}") from error
    except (KeyError, TypeError) as error:
        raise KitError("its run.json or config.json lacks a part; make the run again with --force.") from error
    _must_agree_with_config(record, found["config.json"])
    _must_agree_with_result(own_row(folder), found["result.json"])
    return made


def _must_be_finished(record: dict[str, Any]) -> None:
    if not record or "study" not in record:
        raise KitError("it has no run.json that can be read; only runs of `stlm reproduce STUDY` can be imported.")
    if record["study"] == CHAPTERS:
        raise KitError("it is a chapter's run; only a study's runs are imported, a chapter records its own answers.")
    if record.get("profile") != FULL_SIZE:
        raise KitError(
            f"it ran at the profile {record.get('profile')}, and a laptop's row never answers a full-scale claim; "
            f"run `stlm reproduce {record['study']} --profile {FULL_SIZE}`."
        )
    if record.get("status") not in FINISHED:
        raise KitError(f"it is not finished ({record.get('status')}); the command that began it goes on from there.")
    if record["status"] == "out_of_memory":
        raise KitError("it ran out of memory, so it measured nothing that a claim asks for.")


def _must_be_of_one_piece(record: dict[str, Any]) -> None:
    """Check that run.json's hash is that of the request it holds, and that its parameters are those of the request."""
    identity, parameters = record.get("identity") or {}, record.get("parameters") or {}
    named = without(identity.get("contents", {}), parameters)
    if record.get("hash") != configuration_hash(identity) or named != identity.get("parameters"):
        raise KitError("its run.json was changed: the hash is not that of what it says was asked for.")


def _must_agree_with_config(record: dict[str, Any], config: dict[str, Any]) -> None:
    """Check config.json, which the training wrote: code, model and settings must be those of run.json."""
    from stlm_kit.options import settings_from
    from stlm_kit.presets import preset
    from stlm_kit.train_from_text import run_settings

    trained_by = record.get("checked", {}).get("trained_by") or record["identity"]["source"]
    if config.get("made_by", {}).get("rooms") != trained_by:
        raise KitError("its config.json was written by other code than its run.json names.")
    wanted = record["parameters"].get("settings", {})
    settings = run_settings(**trained_settings(config, wanted))
    asked = settings_from(wanted)
    given = wanted.keys() - ANOTHER_SAMPLE
    for name in sorted(given & type(asked).model_fields.keys()):
        value, used = getattr(asked, name), getattr(settings, name)
        if used != value:
            raise KitError(
                f"its {name} is {value!r} in run.json and {used!r} in config.json, which the training wrote."
            )
    model = preset(settings.preset, **{"context_length": settings.context_length, **settings.overrides}).model_dump()
    for name, value in model.items():
        if name != "vocab_size" and config["model"].get(name) != value:  # that one is the tokenizer's
            there = config["model"].get(name)
            raise KitError(f"its decoder has {name} = {there!r}, and the preset {settings.preset!r} says {value!r}.")


def _must_agree_with_result(numbers: dict[str, Any], result: dict[str, Any]) -> None:
    """Check row.json, which the notebook wrote, against result.json of the training: shared numbers must be equal."""
    told = {**result, **(result.get("validation") or {})}
    for name in sorted(numbers.keys() & told.keys() - {"device", "validation"}):
        if numbers[name] != told[name]:
            raise KitError(f"its {name} is {numbers[name]!r} in row.json and {told[name]!r} in result.json.")


def shown(each: Import) -> str:
    """A run folder's line: the name of the run, and where and when it was measured."""
    return f"{label(each.row)} on {each.row['device']}, {each.row['date'][:10]}" if each.row else each.folder.name
