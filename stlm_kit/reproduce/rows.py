"""Result rows: one for each run of a study, and one file with all rows of a study.

The notebook of a run writes its numbers to row.json. The collector adds what the runner knows (configuration and hash,
versions, machine, date) and writes runs/<study>/rows.jsonl. Rows worth keeping are copied from there into
data/results/<study>.jsonl. Their form is results.ResultRow.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from stlm_kit.errors import KitError
from stlm_kit.locks import lock
from stlm_kit.paths import atomic_write, clear_parts, runs_dir
from stlm_kit.reproduce.needed_runs import names_a_run
from stlm_kit.reproduce.results import times_of
from stlm_kit.reproduce.run import CHAPTERS, FINISHED, read_record

# Texts of torch's and Python's out-of-memory errors, on a GPU and on a CPU.
OUT_OF_MEMORY = re.compile(r"OutOfMemoryError|MemoryError|can't allocate memory|CUDA out of memory|not enough memory")


def run_folder() -> Path | None:
    """The folder of this kernel's run, $STLM_RUN_DIR. None in JupyterLab, where nothing is kept."""
    given = os.environ.get("STLM_RUN_DIR")
    return Path(given) if given else None


def record_row(**numbers: Any) -> dict[str, Any]:
    """Write a run's numbers to row.json in its folder, if it has one, and return them.

    Numbers must be finite: KitError names the one that is not.
    """
    try:
        text = json.dumps(numbers, indent=1, allow_nan=False)
    except ValueError as error:
        wrong = [name for name, value in numbers.items() if value != value or value in (float("inf"), -float("inf"))]
        raise KitError(f"{' and '.join(wrong) or 'A number'} of this run is not finite; it is no result.") from error
    if folder := run_folder():
        atomic_write(folder / "row.json", text + "\n")
    return numbers


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception reports that memory ran out, on a GPU or on a CPU."""
    return OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}") is not None


def row(folder: Path) -> dict[str, Any] | None:
    """The result row of a run's folder, in the form of data/results; None while the run is not finished."""
    record = read_record(folder)
    if record.get("status") not in FINISHED:
        return None
    trained = _json(folder / "config.json")
    given = record["parameters"].get("settings", record["parameters"])
    configuration = trained_settings(trained, given) if "training" in trained else given
    numbers = own_row(folder)
    status, said = numbers.pop("status", record["status"]), numbers.pop("said", record.get("sentence"))
    return {
        **{name: record.get(name) for name in ("study", "name", "hash", "profile")},
        **({"labels": record["labels"]} if record.get("labels") else {}),
        "status": status,
        **({"said": said} if said else {}),
        "seed": configuration.get("seed"),
        "configuration": configuration,
        "asked": {name: record["identity"][name] for name in ("notebook", "parameters", "contents")},
        "source": record["identity"]["source"],
        "versions": record["identity"]["versions"],
        "device": numbers.pop("device", None),
        "machine": record.get("machine"),
        "date": record.get("ended"),
        "seconds": record.get("seconds"),
        "metrics": numbers,
    }


def trained_settings(config: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """The settings in a training's config.json, in which a run that it needed is named as in `asked`."""
    parts = (config.get(part, {}) for part in ("run", "training", "distillation"))
    needed = {name: value for name, value in asked.items() if names_a_run(name, value)}
    return {name: value for part in parts for name, value in part.items()} | needed


def own_row(folder: Path) -> dict[str, Any]:
    """The numbers that a run's notebook recorded, or else its training; {} where there are none."""
    result = _json(folder / "result.json")
    return _json(folder / "row.json") or (numbers_of(result) if "tokens" in result else {})


def has_row(folder: Path | None) -> bool:
    """Whether a run's folder holds its training's result and its notebook's row."""
    return folder is not None and all((folder / name).is_file() for name in ("result.json", "row.json"))


def numbers_of(result: dict[str, Any]) -> dict[str, Any]:
    """What a row takes from a training's result.json: its length, its losses and scores, its times."""
    scores = result.get("validation") or {}
    return {
        **{name: result[name] for name in ("steps", "tokens", "loss")},
        **scores,
        **times_of(result),
    }


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def collect(study: str) -> list[dict[str, Any]]:
    """Every result row of a study, oldest first. The rows are also written to runs/<study>/rows.jsonl.

    Several processes may collect at once. Each locks the file while it reads and writes, so the last one has read all
    rows.
    """
    folder = runs_dir() / study
    if not any(folder.glob("*/run.json")):
        return []
    with lock(folder / ".locks" / "rows.lock"):
        rows = [found for path in folder.glob("*/run.json") if (found := row(path.parent))]
        if study == CHAPTERS:
            rows = [row for row in rows if row["metrics"]]  # rows of trainings
        rows.sort(key=lambda row: (row["date"] or "", row["name"]))
        if rows:
            clear_parts(folder / "rows.jsonl")
            atomic_write(folder / "rows.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return rows
