"""Recorded results: the rows of runs that are too long or too many for a chapter, and how to repeat any of them.

A row is one run of `train_from_text`: its whole configuration with its hash, the seed, the versions, the machine, the
date, and the metrics. Rows are in data/results/<study>.jsonl of a checkout, and each line is checked against
`ResultRow` when it is read. An installed package has the same files.

    from stlm_kit.reproduce import results
    row = results.recorded("chapter-03")[0]
    print(results.command(row))                          # the `stlm train` line of this row
    results.rerun(row)                                   # or the same run from Python: its metrics, to compare
    results.record("chapter-03", "cosine", steps=150)    # train and append a row
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from stlm_kit.code_hash import ROOMS, rooms_hash
from stlm_kit.errors import KitError, UsageError, first_sentence, near
from stlm_kit.locks import lock
from stlm_kit.paths import atomic_write, clear_parts, file_sha256, project_dir
from stlm_kit.provenance import describe_machine, now, versions
from stlm_kit.reproduce.run_hash import configuration_hash

FIRST = 3  # how many training losses a row keeps, so that it can be checked in seconds
TIMES = ("training_seconds", "evaluation_seconds", "seconds", "tokens_per_second")  # the names in result.json


class Asked(BaseModel):
    """The runner's request. With the row's source and versions, it is everything that a run's hash covers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    notebook: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the notebook's code")
    parameters: dict[str, JsonValue]
    contents: dict[str, str] = Field(description="SHA-256 of each corpus or tokenizer that was given by path")


class ResultRow(BaseModel):
    """One line of a file of rows. A row of `stlm reproduce` has `profile` and `asked`, one of `record` has neither."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    study: str = Field(min_length=1)
    name: str = Field(min_length=1)
    hash: str = Field(pattern="^[0-9a-f]{10}$")
    profile: Literal["laptop", "mig20"] | None = None
    labels: dict[str, JsonValue] = Field({}, description="{axis: label} of the run in its study's grid")
    status: Literal["done", "out_of_memory"] = "done"
    said: str | None = None
    asked: Asked | None = None
    seed: int | None
    configuration: dict[str, JsonValue] = Field(min_length=1)
    source: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the code that computes; see code_hash.py")
    versions: dict[str, str] = Field(min_length=1)
    device: str | None
    machine: dict[str, JsonValue] = Field(min_length=1)
    date: str = Field(description="ISO 8601 with its time zone")
    seconds: float | None = Field(None, ge=0, description="of the whole run, its notebook included")
    metrics: dict[str, JsonValue]

    @field_validator("date")
    @classmethod
    def _date_has_a_zone(cls, date: str) -> str:
        try:
            zone = datetime.fromisoformat(date).tzinfo
        except ValueError:
            zone = None
        if zone is None:
            raise ValueError(f"date = {date!r} is no moment; write it as 2026-01-31T12:00:00+00:00.")
        return date

    @model_validator(mode="after")
    def _of_one_piece(self) -> ResultRow:
        if self.hash != row_hash(self.model_dump()):
            raise ValueError(f"The hash {self.hash} is not that of what was run; something in the row was changed.")
        if self.seed != self.configuration.get("seed"):
            raise ValueError(f"The seed {self.seed} is not that of the configuration.")
        if self.status == "done" and not self.metrics:
            raise ValueError("It holds no metrics.")
        return self


def row_hash(row: dict[str, Any]) -> str:
    """The hash that a row must have: its run's (see run_hash.py), or its configuration's."""
    if row.get("asked") is None:
        return configuration_hash(row["configuration"])
    return configuration_hash({"source": row["source"], **row["asked"], "versions": row["versions"]})


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file. KitError with file and line for a line that is not a `ResultRow`."""
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            ResultRow.model_validate(row)
            rows.append(row)
        except ValidationError as error:
            raise KitError(f"Line {number} of {path} is no result row: {first_sentence(error)}") from error
        except ValueError as error:
            raise KitError(f"Line {number} of {path} is no result row: it is not JSON; restore the file.") from error
    return rows


def rows_file(study: str) -> Path | None:
    """The file with the recorded rows of a study, or None."""
    return next((folder / f"{study}.jsonl" for folder in _folders() if (folder / f"{study}.jsonl").is_file()), None)


def recorded_names() -> set[str]:
    """The names under which rows are recorded."""
    return {file.stem for folder in _folders() for file in folder.glob("*.jsonl")}


def rows_hashes() -> dict[str, str]:
    """{study: SHA-256 of the file of its rows} for all recorded studies."""
    return {study: file_sha256(rows_file(study)) for study in sorted(recorded_names())}


def recorded(study: str) -> list[dict[str, Any]]:
    """The rows of a study, in the order they were recorded.

    Raises UsageError (with similar names) where nothing is recorded under that name, KitError for a line that is not a
    row.
    """
    path = rows_file(study)
    if path is None:
        raise UsageError(f"Nothing is recorded under the name {study!r}.{near(study, sorted(recorded_names()))}")
    return read_rows(path)


def rows_of(study: str) -> list[dict[str, Any]]:
    """The rows of a study as `recorded` gives them, or [] where nothing is recorded under that name."""
    path = rows_file(study)
    return read_rows(path) if path else []


def rerun(row: dict[str, Any]) -> dict[str, Any]:
    """Train a row's configuration again, with nothing kept on disk. Returns the metrics in the form of the row."""
    from stlm_kit.train_from_text import run_settings, train_from_text

    trained = train_from_text(run_settings(**row["configuration"]), progress=False)
    result = trained.result
    scores = {"loss": result["loss"], **result["validation"], "tokens": result["tokens"]}
    return {**scores, **times_of(result), "first_losses": trained.losses[:FIRST]}


def times_of(result: dict[str, Any]) -> dict[str, float]:
    """The times in a run's result, in seconds, and the tokens a second."""
    return {name: result[name] for name in TIMES if result.get(name) is not None}


def record(study: str, name: str, **settings: Any) -> dict[str, Any]:
    """Train `run_settings(**settings)`, append its row to the study's file in the checkout, and return the row.

    name: the run's name within the study, without its seed. A recorded configuration is not run again. Raises
    UsageError for an unknown setting.
    """
    import torch

    from stlm_kit.train_from_text import run_settings

    asked = run_settings(**settings)
    path = checkout_folder() / f"{study}.jsonl"

    def same(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:  # a setting that was added later has its default
        named = [row for row in rows if (row["study"], row["name"]) == (study, name)]
        return [row for row in named if run_settings(**row["configuration"]) == asked]

    if path.is_file() and (found := same(recorded(study))):
        return found[0]
    configuration = asked.model_dump(mode="json")
    metrics = rerun({"configuration": configuration})
    row = new_row(study, name, configuration, metrics, asked.device, threads=torch.get_num_threads())
    # Another process may have trained the same meanwhile; then its row is kept.
    return same(change_rows(path, lambda before: before if same(before) else [*before, row]))[0]


def new_row(
    study: str,
    name: str,
    configuration: dict[str, Any],
    metrics: dict[str, Any],
    device: str | None = None,
    rooms: tuple[str, ...] = ROOMS,
    **machine: Any,
) -> dict[str, Any]:
    """A new row, made now on this machine by the code of these modules. KitError where it is not a `ResultRow`."""
    row = {
        "study": study,
        "name": name,
        "hash": configuration_hash(configuration),
        "seed": configuration.get("seed"),
        "configuration": configuration,
        "source": rooms_hash(rooms),
        "versions": versions(),
        "device": device,
        "machine": {**describe_machine(), **machine},
        "date": now(),
        "metrics": metrics,
    }
    try:
        ResultRow.model_validate(row)
    except ValidationError as error:
        raise KitError(f"The row {name} of {study} will not do: {first_sentence(error)}") from error
    return row


def change_rows(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Replace a file's rows by what `change` returns for them ([] without a file), and return the result.

    The file is locked meanwhile, so `change` should not take long. Raises KitError as `read_rows` does, and where the
    folder cannot be written.
    """
    with lock(path.with_suffix(".lock")):
        before = read_rows(path) if path.is_file() else []
        after = change(list(before))
        if after != before:
            clear_parts(path)
            write_rows(path, after)
    return after


def replace_row(row: dict[str, Any]) -> dict[str, Any]:
    """Write a row to its study's file, in place of one with the same name from the same device. Returns the row."""

    def in_place(before: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*(old for old in before if (old["name"], old["device"]) != (row["name"], row["device"])), row]

    change_rows(checkout_folder() / f"{row['study']}.jsonl", in_place)
    return row


def append_rows(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Append the rows that the file does not hold yet, and return them. Safe with many processes at once."""
    new: list[dict[str, Any]] = []

    def change(before: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            if row not in before and row not in new:
                new.append(row)
        return [*before, *new]

    change_rows(path, change)
    return new


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a file of rows, one a line, atomically. To change existing rows use `change_rows`."""
    atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def command(row: dict[str, Any]) -> str:
    """The `stlm train` line that repeats a row's configuration. Most settings at their defaults are left out."""
    from stlm_kit.options import NAMED
    from stlm_kit.train_from_text import RunSettings

    words = ["stlm", "train"]
    for name, value in row["configuration"].items():
        default = RunSettings.model_fields[name].get_default(call_default_factory=True)
        if value == default and name not in ("preset", "corpus", "seed"):
            continue
        if name == "overrides":
            words += [part for field, chosen in value.items() for part in ("--set", f"{field}={chosen}")]
        elif name in NAMED:
            words += [f"--{name.replace('_', '-')}", str(value)]
        else:
            words += ["--set", f"{name}={value}"]
    return shlex.join([*words, "--run-dir", f"runs/{row['study']}/{row['name']}-{row['hash']}"])


def checkout_folder() -> Path:
    """The folder for new rows: the checkout's data/results."""
    return project_dir() / "data" / "results"


def _folders() -> list[Path]:
    """The folders of rows: the checkout's data/results, then the folder in an installed package."""
    return [checkout_folder(), Path(__file__).resolve().parent.parent / "results"]
