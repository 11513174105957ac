"""How good a reader's guesses are: which were right, and how often for each kind of guess.

Every question allows a number in the claim's unit, "true", "false", or "cannot know". "Cannot know" is right for an
underdetermined claim: the source omits what the answer depends on, or two fair readings of it differ. "True" and
"false" are wrong for such a claim. Claims without an answer are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from stlm_kit.ledger.claims import is_number
from stlm_kit.ledger.wording import number

WAITING = ("open", "needs_gpu")
NEAR = 0.1  # a guessed number is right within this share of the found value, because it is made without computing
WORDS = {"true": True, "yes": True, "false": False, "no": False}
UNKNOWN = ("cannot know", "unknown", "underdetermined")


class Judged(NamedTuple):
    """One guess beside its claim's answer. right: None while the claim has no answer."""

    id: str
    kind: str  # "true", "false", "cannot know", "a number" or "something else"
    right: bool | None
    answer: str = ""  # the right answer, or "" while the claim has none


def judge(guesses: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> list[Judged]:
    """Each guess beside the verdict.

    guesses: `checks.guesses()`. rows: `ledger.rows()`, and `checks.questions()` for the chapters' own questions. A
    guess about a claim without a row is left out (the course may have dropped the claim).

    "true" is right for a confirmed claim, "false" for a contradicted one, "cannot know" for an underdetermined one. A
    number is right within a tenth of the found value, under any reading.
    """
    by_id = {row["id"]: row for row in rows}
    return [_judged(by_id[claim_id], value) for claim_id, value in guesses.items() if claim_id in by_id]


def _judged(row: Mapping[str, Any], value: Any) -> Judged:
    word = str(value).strip().lower()
    verdict = row["verdict"]
    if word in UNKNOWN:
        kind, right = "cannot know", verdict == "underdetermined"
    elif word in WORDS:
        kind = "true" if WORDS[word] else "false"
        right = verdict != "underdetermined" and (verdict != "contradicted") == WORDS[word]
    elif isinstance(value, (int, float)):
        found = row["found"].values() if isinstance(row["found"], dict) else [row["found"]]
        kind, right = "a number", any(_near(value, number) for number in found)
    else:
        kind, right = "something else", value == row["found"]
    if verdict in WAITING:
        return Judged(row["id"], kind, None)
    return Judged(row["id"], kind, right, _answer(row, kind))


def _answer(row: Mapping[str, Any], kind: str) -> str:
    if row["verdict"] == "underdetermined":
        return "cannot know"
    if kind == "a number" and is_number(row["found"]):
        return number(row["found"])
    return "false" if row["verdict"] == "contradicted" else "true"


def _near(guess: float, found: Any) -> bool:
    return isinstance(found, (int, float)) and abs(guess - found) <= NEAR * abs(found)


def calibration(judged: Iterable[Judged]) -> dict[str, tuple[int, int]]:
    """{kind of guess: (number right, number answered)}, in the order in which the kinds first occur."""
    table: dict[str, tuple[int, int]] = {}
    for guess in judged:
        right, answered = table.get(guess.kind, (0, 0))
        table[guess.kind] = (right + (guess.right is True), answered + (guess.right is not None))
    return table


def summary(judged: list[Judged]) -> str:
    """A few lines for a notebook: how often the guesses were right, by kind, or how to make a first one."""
    if not judged:
        return "No guesses yet. Put one in place of None in a cell with checks.guess(...), run it, and come back."
    waiting = [guess.id for guess in judged if guess.right is None]
    lines = [
        f'when you said "{kind}", you were right {right} of {answered} times'
        for kind, (right, answered) in calibration(judged).items()
        if answered
    ]
    wrong = [f"{guess.id} ({guess.answer})" for guess in judged if guess.right is False]
    lines += [f"not right, with the answer: {', '.join(wrong)}"] if wrong else []
    lines += [f"still waiting for an answer: {', '.join(waiting)}"] if waiting else []
    return "\n".join(lines)
