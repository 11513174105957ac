"""The ledger: what the sources published, what the kit found, and the verdict.

claims.py       the published statements, read from studies/<source>/study.yaml
answers.py      answers that are computed at each call: functions, settings in use, citations
recorded.py     answers that a notebook or a run recorded
full_size.py    answers from result rows at the published size
survey.py       claims joined with their best answers: the rows of `stlm ledger`
quotes.py       whether the claims' quotes occur in the sources' texts
guesses.py      the reader's guesses, beside what was found
calibration.py  how often the reader's guesses are right
"""

from stlm_kit.ledger.answers import computed
from stlm_kit.ledger.claims import (
    KINDS,
    SOURCES,
    VERDICTS,
    Claim,
    find_claim,
    is_number,
    load_claims,
    parse_printed,
    verdict,
)
from stlm_kit.ledger.recorded import latest_answers, plain, record
from stlm_kit.ledger.survey import best_answer, row, rows, verdict_of

__all__ = [
    "KINDS",
    "SOURCES",
    "VERDICTS",
    "Claim",
    "best_answer",
    "computed",
    "find_claim",
    "is_number",
    "latest_answers",
    "load_claims",
    "parse_printed",
    "plain",
    "record",
    "row",
    "rows",
    "verdict",
    "verdict_of",
]
