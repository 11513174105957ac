"""What the report says of the whole ledger: counts by source and verdict, and the claims that do not stand."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

from stlm_kit import ledger
from stlm_kit.ledger.wording import in_words, said_line
from stlm_kit.paths import atomic_write, cache_dir
from stlm_kit.provenance import source_hash, versions

ORDER = (
    "exact", "within_tolerance", "confirmed", "predicted", "measured", "setting", "contradicted", "underdetermined",
    "needs_gpu", "open",
)  # fmt: skip
TOLD = ("contradicted", "underdetermined")  # the verdicts whose claims the page lists, each with its quote and reading


def ledger_summary() -> dict[str, Any]:
    """{"verdicts": names in use, "counts": {source: {verdict: number}}, "told": {verdict: {source: [claim in words]}}}.

    "told" holds the verdicts of `TOLD`. Computing every claim takes seconds, and the report is written after each run:
    the summary is kept in the cache under all that it depends on, which is the kit's source, its libraries and the
    recorded answers.
    """
    recorded = {claim_id: {**answer, "time": ""} for claim_id, answer in ledger.latest_answers().items()}
    state = json.dumps([source_hash(), versions(), recorded], sort_keys=True)
    key = hashlib.sha256(state.encode()).hexdigest()
    path = cache_dir() / "ledger-summary.json"
    try:
        kept = json.loads(path.read_text("utf-8"))
        if kept["key"] == key:
            return kept["summary"]
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: it is computed
        pass
    summary = summarise(ledger.rows())
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps({"key": key, "summary": summary}, ensure_ascii=False))
    return summary


def summarise(rows: list[dict]) -> dict[str, Any]:
    """The summary of these rows of `ledger.rows()`."""
    known = {claim.id: claim for claim in ledger.load_claims()}
    counts = {source: Counter(row["verdict"] for row in rows if row["source"] == source) for source in ledger.SOURCES}
    used = [verdict for verdict in ORDER if any(count[verdict] for count in counts.values())]
    told: dict[str, dict[str, list]] = {verdict: {source: [] for source in ledger.SOURCES} for verdict in TOLD}
    for row in rows:
        if row["verdict"] in TOLD:
            claim = known[row["id"]]
            told[row["verdict"]][claim.source].append(_in_words(claim, row))
    return {"verdicts": used, "counts": {name: dict(count) for name, count in counts.items()}, "told": told}


def _in_words(claim: ledger.Claim, row: dict[str, Any]) -> dict[str, str]:
    """A claim with its quote, what was found, and what would be right or under which reading it is."""
    published, found = in_words(claim, row["found"])
    words = {"id": claim.id, "statement": claim.statement, "said": said_line(claim)}
    return words | {"published": published, "found": found, "reading": claim.reading or row["how"]}
