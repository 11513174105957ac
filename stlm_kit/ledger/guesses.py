"""The reader's guesses, kept in runs/guesses.json and shown beside what a check found.

A guess is about a claim of the ledger ("mem.params.total") or about a chapter's own question ("ch02.heads"). There are
four kinds: true, false, cannot know, or a number in the unit of the claim or question.
"""

from __future__ import annotations

import json
import re
from typing import Any

from stlm_kit.errors import UsageError
from stlm_kit.ledger.calibration import UNKNOWN, WORDS
from stlm_kit.ledger.claims import find_claim, is_number
from stlm_kit.ledger.recorded import plain
from stlm_kit.ledger.wording import number, with_unit
from stlm_kit.locks import lock
from stlm_kit.paths import atomic_write, clear_parts, runs_dir

QUESTION = re.compile(r"ch\d\d[a-z]?\.[\w.]*\w")  # the id of a question without a claim


def guess(name: str, value: bool | float | str | None = None, unit: str = "") -> None:
    """Keep the reader's guess. None (no guess yet) does nothing.

    name: a claim's id, or "chNN.name" for a chapter's own question. value: "true", "false" (or True, False), "cannot
    know", or a number. unit: for a question that a number answers ("1" without a unit); a claim has its own. Raises
    UsageError for an unknown claim, and for a guess that is of no kind or of a kind that cannot answer.
    """
    if not QUESTION.fullmatch(name):
        unit = find_claim(name).unit
    if value is None:
        return
    value = _of_one_kind(name, plain(value), unit)
    _keep(name, {"guess": value, "unit": unit} if QUESTION.fullmatch(name) else value)


def guessed(name: str, found: bool | float | str) -> None:
    """Print the reader's guess beside what a check found. Prints nothing without a guess.

    found: a bool, "cannot know" or a number, in the unit of the guess. For a chapter's own question the value is kept,
    so that `questions` can be counted together with the claims.
    """
    kept = _kept().get(name)
    if kept is None:
        return
    found = plain(found)
    unit = kept["unit"] if isinstance(kept, dict) else find_claim(name).unit
    if isinstance(kept, dict):
        _keep(name, {**kept, "found": found})
    print(f"you guessed {_in_words(_value(kept), unit)}; found: {_in_words(found, unit)}")


def guesses() -> dict[str, Any]:
    """The reader's guesses so far: {claim id or question: value}; {} before the first."""
    return {name: _value(kept) for name, kept in _kept().items()}


def questions() -> list[dict[str, Any]]:
    """The chapters' own questions that were guessed and answered, as rows for `calibration.judge`."""
    answered = {name: kept["found"] for name, kept in _kept().items() if isinstance(kept, dict) and "found" in kept}
    return [{"id": name, "verdict": _verdict(found), "found": found} for name, found in answered.items()]


def _verdict(found: Any) -> str:
    """The verdict that a claim with this answer would have. A number gives "exact"."""
    if isinstance(found, bool):
        return "confirmed" if found else "contradicted"
    return "exact" if is_number(found) else "underdetermined"


def _of_one_kind(name: str, value: Any, unit: str) -> bool | float | str:
    word = str(value).strip().lower()
    if word in WORDS:
        return WORDS[word]
    if word in UNKNOWN:
        return UNKNOWN[0]
    takes_numbers = unit not in ("", "bool", "text")
    if is_number(value) and takes_numbers:
        return value
    which = f", or by a number{with_unit(unit) and f' of{with_unit(unit)}'}" if takes_numbers else ""
    hint = " A number needs unit=..." if is_number(value) and not unit else ""
    raise UsageError(f'{value!r} is no guess about {name}; answer by "true", "false" or "cannot know"{which}.{hint}')


def _in_words(value: Any, unit: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return number(value) + with_unit(unit) if is_number(value) else str(value)


def _value(kept: Any) -> Any:
    return kept["guess"] if isinstance(kept, dict) else kept


def _keep(name: str, entry: Any) -> None:
    path = runs_dir() / "guesses.json"
    with lock(path.with_suffix(".lock")):  # two notebooks may be open at once
        clear_parts(path)
        atomic_write(path, json.dumps({**_kept(), name: entry}, indent=1) + "\n")


def _kept() -> dict[str, Any]:
    path = runs_dir() / "guesses.json"
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):  # a damaged file loses the guesses but must not stop a chapter
        return {}
