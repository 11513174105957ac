"""The ledger: what the sources published, what the kit found, and the verdict.

A claim is one published statement (claims.py). An answer is one small JSON file, written by a run or a notebook, or
what a run at the published size measured (measured.py), or a function (answers/). A row joins claim and answer; the
verdict is worked out when it is read, and so is everything that can be computed.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from stlm_kit.errors import KitError, UsageError
from stlm_kit.paths import atomic_write, runs_dir
from stlm_kit.studies.claims import (
    KINDS,
    SOURCES,
    USUAL_EVIDENCE,
    VERDICTS,
    Claim,
    Evidence,
    agrees,
    find_claim,
    is_number,
    load_claims,
    parse_printed,
    verdict,
)
from stlm_kit.studies.runs import read_record

__all__ = [
    "KINDS", "SOURCES", "USUAL_EVIDENCE", "VERDICTS", "Claim", "Evidence", "Survey", "agrees", "answers", "best_answer",
    "computed", "find_claim", "is_number", "load_claims", "parse_printed", "plain", "record", "row", "rows", "survey",
    "verdict",
]  # fmt: skip


def record(claim_id: str, found: Any, how: str = "", *, by: Evidence | None = None, missing: str | None = None) -> Path:
    """Keep one answer as one file, written atomically: `<run>/ledger/<claim id>.json`.

    The run is $STLM_RUN_DIR where the runner set it, else runs/interactive. how: one sentence on how it was found.
    Raises UsageError for an unknown claim, evidence or value, and for a full-scale claim whose answer does not say that
    it was measured at the published size, or says so in a laptop's run.
    """
    claim = find_claim(claim_id)
    found = plain(found)
    if by is not None and by not in get_args(Evidence):
        raise UsageError(f"There is no evidence {by!r}; it is one of {', '.join(get_args(Evidence))}.")
    if claim.kind == "full_scale" and found is not None:
        _refuse_small_runs(claim_id, by)
    answer = {
        "id": claim_id,
        "found": found,
        "by": by,
        "missing": missing,
        "how": how,
        "time": datetime.now(UTC).isoformat(timespec="microseconds"),
    }
    return atomic_write(answers_dir() / f"{claim_id}.json", json.dumps(answer, indent=1, ensure_ascii=False) + "\n")


def _refuse_small_runs(claim_id: str, by: Evidence | None) -> None:
    """A full-scale claim is answered by a run at the published size that says so, or by a citation."""
    if by is None:
        raise UsageError(
            f"The claim {claim_id} needs a run at the published size: pass by='measured' from one, or found=None."
        )
    if by == "measured" and read_record(answers_dir().parent).get("profile") == "laptop":
        raise UsageError(
            f"The claim {claim_id} needs a run at the published size, and this one is a laptop's; pass found=None."
        )


def plain(found: Any) -> Any:
    """`found` as JSON keeps it: numpy and torch scalars become Python's; NaN and infinity are refused."""
    if isinstance(found, dict):
        return {str(key): plain(value) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [plain(value) for value in found]
    if hasattr(found, "item"):  # a scalar of numpy or torch
        found = found.item()
    if isinstance(found, float) and not abs(found) < float("inf"):
        raise UsageError(f"found = {found} is no answer; record a finite number, or None while the claim is open.")
    if found is not None and not isinstance(found, (bool, int, float, str)):
        raise UsageError(f"found = {found!r} is no answer; record a number, a bool, a text, a list or None.")
    return found


def answers_dir() -> Path:
    """Where this process records its answers."""
    run = os.environ.get("STLM_RUN_DIR")
    return (Path(run) if run else runs_dir() / "interactive") / "ledger"


def recorded() -> dict[str, dict]:
    """The latest answer that a notebook or a run recorded for each claim; {} where nothing has run."""
    files = {*runs_dir().glob("*/ledger/*.json"), *runs_dir().glob("*/*/ledger/*.json"), *answers_dir().glob("*.json")}
    latest: dict[str, dict] = {}
    for path in sorted(files):
        try:
            answer = json.loads(path.read_text("utf-8"))
            claim_id, time = answer["id"], answer["time"]
        except (ValueError, KeyError, TypeError) as error:
            raise KitError(f"{path} is not an answer of the ledger; delete it and run its notebook again.") from error
        if claim_id not in latest or time > latest[claim_id]["time"]:
            latest[claim_id] = answer
    return latest


def answers() -> dict[str, dict]:
    """The answer to each claim that was run: the latest result row at the published size, else the latest recorded."""
    from stlm_kit.studies.measured import measured

    return recorded() | {claim_id: found[-1] for claim_id, found in measured().answers.items()}


def row(claim: Claim, answer: dict | None) -> dict:
    """One line of `stlm ledger --json`."""
    answer = answer or {"found": None, "by": None, "missing": None, "how": ""}
    by = answer.get("by")
    how = answer["how"] or claim.how
    if answer.get("missing"):
        how = f"{how} (not given: {answer['missing']})"
    return {
        "id": claim.id,
        "source": claim.source,
        "kind": claim.kind,
        "statement": claim.statement,
        "unit": claim.unit,
        "published": claim.value,
        "found": answer["found"],
        "tolerance": claim.bound,
        "verdict": verdict_of(claim, answer),
        "how": f"{how} (cited, not run)" if by == "cited" else how,
    }


def verdict_of(claim: Claim, answer: dict) -> str:
    """The verdict of an answer as it is kept."""
    return verdict(claim, answer["found"], answer.get("by"), answer.get("missing"))


def computed(claim: Claim) -> dict | None:
    """The answer that needs no run: a function's, the preset or study that uses a setting, or a citation."""
    from stlm_kit.studies.answers import compute, functions
    from stlm_kit.studies.used_by import used_value

    if function := functions().get(claim.id):
        return compute(function, claim.setting)
    if claim.used_by:
        return {"found": plain(used_value(claim.source, claim.used_by)), "how": f"used by {claim.used_by}", "by": None}
    if claim.cited:
        return {"found": claim.cited.found, "how": claim.cited.source, "by": "cited"}
    return None


def best_answer(claim: Claim, ran: dict | None) -> dict | None:
    """A run's answer outranks a citation; what is computed from presets and settings outranks a stored answer.

    What a run at the published size measured outranks all but plain arithmetic, a prediction too.
    """
    return _better(claim, computed(claim), ran)


def _better(claim: Claim, ready: dict | None, ran: dict | None) -> dict | None:
    if ran is None or ran["found"] is None:
        return ran if ready is None else ready
    at_full_size = "row" in ran and claim.kind not in ("arithmetic", "config")
    return ran if ready is None or ready.get("by") == "cited" or at_full_size else ready


@dataclass(frozen=True)
class Survey:
    """The whole ledger as it stands: a row for each claim, and a sentence for everything that is at odds."""

    rows: list[dict]
    warnings: list[str]


def survey(source: str | None = None) -> Survey:
    """Every claim (of one source, or of all) joined with its best answer, and where two answers disagree.

    One that nothing answered reads open, or needs_gpu at full scale.
    """
    from stlm_kit.studies.measured import measured

    claims, told, full_size = load_claims(source), recorded(), measured(source)
    rows, warnings = [], list(full_size.warnings)
    for claim in claims:
        ready, notebooks, runs = computed(claim), told.get(claim.id), full_size.answers.get(claim.id, [])
        rows.append(row(claim, _better(claim, ready, runs[-1] if runs else notebooks)))
        warnings += _disagreement(claim, ready, notebooks, runs)
    return Survey(rows, warnings)


def _disagreement(claim: Claim, ready: dict | None, notebook: dict | None, runs: list[dict]) -> list[str]:
    """A sentence where two answers of one rank lead to two verdicts: computed ones, or measured at full size."""
    verdicts: dict[str, str] = {}  # by who gave it
    if runs:
        verdicts = {f"the run {answer['row']}": verdict_of(claim, answer) for answer in runs}
    if notebook and (notebook["found"] is not None or notebook.get("missing")):
        of_equal_rank = notebook.get("by") == "measured" if runs else ready is not None and ready.get("by") != "cited"
        if of_equal_rank:
            verdicts |= {"a notebook": verdict_of(claim, notebook)}
            verdicts |= {} if runs else {"the kit's own computation": verdict_of(claim, ready)}
    if len(set(verdicts.values())) < 2:
        return []
    said = " and ".join(f"{found} by {who}" for who, found in verdicts.items())
    return [f"Two answers to {claim.id} disagree: {said}; run the older one again, or take it away."]


def rows(source: str | None = None) -> list[dict]:
    """Every claim joined with its best answer: the rows of `survey`."""
    return survey(source).rows
