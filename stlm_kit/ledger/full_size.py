"""Answers from runs at the published size: result rows, checked against the study that defines the runs.

A study names the claims that each of its runs answers (`answers:` in its YAML; see study.py). On a GPU, `stlm reproduce
STUDY --profile mig20` makes the runs and `stlm ledger import` takes over their rows. Rows are in two places in the same
form (results.ResultRow):

    <runs>/imported/<study>.jsonl       a user's own, beside the runs; no file of the checkout changes
    data/results/<study>.jsonl          contributed and committed rows

A row counts only while its configuration is the one in the study today. A laptop's row never counts. The checks detect
mistakes and old files, but they cannot prove that a row was measured; to be sure, repeat the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stlm_kit.errors import KitError, near
from stlm_kit.ledger.claims import SOURCES, find_claim, is_number
from stlm_kit.paths import runs_dir
from stlm_kit.reproduce import results
from stlm_kit.reproduce.study_file import FULL_SIZE, Measure, Study, load_study


@dataclass(frozen=True)
class Measured:
    """Answers by claim, oldest first, and one sentence for each row that no longer answers anything."""

    answers: dict[str, list[dict]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def imported_file(study: str) -> Path:
    """The file with a user's own rows of a study."""
    return runs_dir() / "imported" / f"{study}.jsonl"


def measured(source: str | None = None) -> Measured:
    """The answers of the available rows to the claims of one source, or of all.

    KitError for a line that is not a row.
    """
    found = Measured()
    for name in SOURCES if source is None else (source,):
        rows = list(full_size_rows(name))
        study = load_study(name) if rows else None  # reading a study takes time, and most have no row yet
        for row in sorted(rows, key=lambda row: row["date"]):
            try:
                answers, _ = answers_of(row, study)
            except KitError as error:
                found.warnings.append(f"The row {label(row)} of the study {name} answers nothing any more: {error}")
                continue
            for claim_id, answer in answers.items():
                found.answers.setdefault(claim_id, []).append(answer)
    return found


def full_size_rows(study: str) -> Iterator[dict[str, Any]]:
    """The finished rows of a study at the published size, each once: the committed rows, then the user's own."""
    seen = []
    for path in (results.rows_file(study), imported_file(study)):
        for row in results.read_rows(path) if path and path.is_file() else []:
            if row.get("profile") == FULL_SIZE and row.get("status") == "done" and row not in seen:
                seen.append(row)
                yield row


def label(row: dict[str, Any]) -> str:
    """The name of a row's run folder."""
    return f"{row['name']}-{row['hash']}"


def answers_of(row: dict[str, Any], study: Study) -> tuple[dict[str, dict], dict[str, str]]:
    """({claim id: answer}, {claim id: why this row does not answer it}) for the claims tied to the row's run.

    Raises KitError with one sentence for a row whose run the study does not define.
    """
    must_be_asked_for(row, study)
    answers, refused = {}, {}
    for claim_id, tie in study.measures.items():
        if tie.run != row["name"]:
            continue
        try:
            answers[claim_id] = _answer(claim_id, tie, row)
        except KitError as error:
            refused[claim_id] = str(error)
    return answers, refused


def _answer(claim_id: str, tie: Measure, row: dict[str, Any]) -> dict[str, Any]:
    """A row's answer to one claim, in the form of the ledger. KitError where the row cannot answer it."""
    device = row["device"] or "an unnamed device"
    if tie.device.lower() not in device.lower():
        raise KitError(f"it holds on {tie.device}, and this run had {device}; neither bears the other out.")
    value = row["metrics"].get(tie.metric)
    if value is None:
        raise KitError(f"the run measured no {tie.metric!r}.{near(tie.metric, row['metrics'])}")
    claim = find_claim(claim_id)
    return {
        "id": claim_id,
        "found": value / tie.divide_by if is_number(value) and tie.divide_by != 1 else value,
        "by": "measured",
        "missing": None,
        "how": f"{tie.metric} of the run {row['name']}, seed {row['seed']}, on {device}, {row['date'][:10]}"
        + ("" if tie.divide_by == 1 else f", over {tie.divide_by:g} for {claim.unit}"),
        "time": row["date"],
        "row": f"{label(row)} of {row['date']}",
    }


# --- is it the run that the study asks for? ---


def must_be_asked_for(row: dict[str, Any], study: Study) -> None:
    """Raise KitError that names the first differing setting, unless the study has this run with these settings."""
    if row.get("profile") != FULL_SIZE:
        raise KitError(
            f"it ran at the profile {row.get('profile')}, and a laptop's row never answers a full-scale claim; "
            f"run `stlm reproduce {study.name} --profile {FULL_SIZE}`."
        )
    from stlm_kit.reproduce.study_runs import differs_in  # it imports torch

    runs = study.expand(FULL_SIZE)
    if row["name"] not in runs:
        raise KitError(f"the study {study.name} has no run {row['name']!r}.{near(row['name'], runs)}")
    if differs := differs_in(row["configuration"], runs[row["name"]], FULL_SIZE):
        raise KitError(f"{differs}.")
