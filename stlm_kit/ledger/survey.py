"""The rows of the ledger: each claim joined with its best answer. The verdict is computed when the ledger is read.

A computed answer (answers.py) outranks an answer recorded by a notebook (recorded.py). An answer measured at the
published size (full_size.py) outranks everything except plain arithmetic. Every answer outranks a citation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stlm_kit.ledger.answers import computed, computed_answers
from stlm_kit.ledger.claims import Claim, load_claims, verdict
from stlm_kit.ledger.full_size import measured
from stlm_kit.ledger.recorded import recorded_answers


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
        "where": claim.where,
        "quote": claim.quotes,
        "derived": claim.derived,
        "unit": claim.unit,
        "published": claim.value,
        "found": answer["found"],
        "tolerance": claim.bound,
        "verdict": verdict_of(claim, answer),
        "how": f"{how} (cited, not run)" if by == "cited" else how,
    }


def verdict_of(claim: Claim, answer: dict) -> str:
    """The verdict on an answer in its stored form."""
    return verdict(claim, answer["found"], answer.get("by"), answer.get("missing"))


def best_answer(claim: Claim, ran: dict | None) -> dict | None:
    """The better of two answers. A run's answer outranks a citation; a computed answer outranks a stored one.

    An answer measured at the published size outranks everything, also a prediction, except plain arithmetic.
    """
    return _better(claim, computed(claim), ran)


def _better(claim: Claim, ready: dict | None, ran: dict | None) -> dict | None:
    if ran is None or ran["found"] is None:
        return ran if ready is None else ready
    at_full_size = "row" in ran and claim.kind not in ("arithmetic", "config")
    return ran if ready is None or ready.get("by") == "cited" or at_full_size else ready


@dataclass(frozen=True)
class Survey:
    """The state of the whole ledger: a row for each claim, and a sentence for each contradiction between answers."""

    rows: list[dict]
    warnings: list[str]


def survey(source: str | None = None, ready_made: Callable[[str | None], dict] = computed_answers) -> Survey:
    """Every claim (of one source, or of all) joined with its best answer, and a warning where two answers disagree.

    A claim without an answer is open, or needs_gpu at full scale. `ready_made` gives the answers that need no run.
    """
    claims, told, full_size = load_claims(source), recorded_answers(), measured(source)
    computed, rows, warnings = ready_made(source), [], list(full_size.warnings)
    for claim in claims:
        ready, notebooks, runs = computed[claim.id], told.get(claim.id), full_size.answers.get(claim.id, [])
        rows.append(row(claim, _better(claim, ready, runs[-1] if runs else notebooks)))
        warnings += _disagreement(claim, ready, notebooks, runs)
    return Survey(rows, warnings)


def _disagreement(claim: Claim, ready: dict | None, notebook: dict | None, runs: list[dict]) -> list[str]:
    """A sentence where two answers of equal rank give two verdicts: both computed, or both measured at full size."""
    verdicts: dict[str, str] = {}  # by the source of the answer
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
