"""Rows of benchmarks/gpu.py, measured on a GPU. `stlm ledger import FOLDER/gpu.jsonl` keeps them.

They are in data/results/gpu.jsonl, one for each case, device and torch version; a newer row replaces an older one.
Functions in a source's folder answer claims from them (`answers.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stlm_kit.errors import KitError
from stlm_kit.reproduce import results

STUDY = "gpu"
Row = dict[str, Any]


def gpu_rows(case: str, device: str = "") -> list[Row]:
    """The rows of a case ("speed.study.bf16-b128") on devices whose name contains `device`, without failed ones."""
    rows = results.rows_of(STUDY)
    found = [row for row in rows if row["name"] == case and device in row["device"] and "failed" not in row["metrics"]]
    return sorted(found, key=lambda row: row["date"])


def import_gpu_rows(file: Path, *, dry_run: bool = False) -> list[Row]:
    """Take over the rows of a file. Returns the rows that are new.

    Cases that were not available on the device are left out. Raises KitError with one sentence, and keeps nothing, for
    a line that is not a row, for rows of a study (import the run's folder instead) and for rows of a rehearsal.
    """
    rows = results.read_rows(file)
    if not rows:
        raise KitError(f"{file} holds no row; python benchmarks/gpu.py --out FOLDER writes FOLDER/gpu.jsonl.")
    for number, row in enumerate(rows, start=1):
        if row["study"] != STUDY:
            raise KitError(
                f"Line {number} of {file} is a row of the study {row['study']}; give the folder of its run instead."
            )
        if row["device"] == "cpu":
            raise KitError(
                f"Line {number} of {file} is of a rehearsal on a processor, which confirms nothing of a GPU."
            )
    path = results.checkout_folder() / f"{STUDY}.jsonl"
    new: list[Row] = []

    def change(before: list[Row]) -> list[Row]:
        new.extend(row for row in rows if row not in before and "unavailable" not in row["metrics"])
        if not new:
            return before
        latest = {_of(row): row for row in sorted([*before, *new], key=lambda row: row["date"])}
        return sorted(latest.values(), key=lambda row: (row["device"], row["date"], row["name"]))

    if dry_run:
        change(results.read_rows(path) if path.is_file() else [])
    else:
        results.change_rows(path, change)
    return new


def _of(row: Row) -> tuple[str, str, str]:
    return row["name"], row["device"], row["versions"].get("torch", "")
