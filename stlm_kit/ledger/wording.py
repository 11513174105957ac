"""Values of the ledger in words: printed precision, units, bounds, and every reading."""

from __future__ import annotations

from typing import Any

from stlm_kit.ledger.claims import Claim, is_number

# stands before a published value, by claim.compare
SIGNS = {"equal": "", "at_least": "at least ", "at_most": "at most "}


def in_words(claim: Claim, found: Any) -> tuple[str, str]:
    """(published, found) in the form of a table: units, bounds and every reading; "" for a missing value."""
    published = "" if claim.value is None else SIGNS[claim.compare] + show(claim.value, claim)
    if isinstance(found, dict):
        return published, "; ".join(f"{reading}: {show(value, claim)}" for reading, value in found.items())
    return published, "" if found is None else show(found, claim)


def source_says(claim: Claim) -> tuple[str, str]:
    """(label, text): the quote with its place, or how the kit derived the claim; ("", "") without either."""
    if claim.derived:
        return "derived", f"{claim.derived} ({claim.where})"
    if claim.quotes:
        return "source says", f"{' … '.join(f'“{words}”' for words in claim.quotes)} ({claim.where})"
    return "", ""


def said_line(claim: Claim) -> str:
    """`source_says` as one text, "source says: ..." or "derived: ..."; "" without either."""
    return ": ".join(part for part in source_says(claim) if part)


def show(value: Any, claim: Claim) -> str:
    """A value at the claim's printed precision, with its unit."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return (" to " if len(value) == 2 else ", ").join(show(part, claim) for part in value)
    if not is_number(value):
        return str(value)
    digit = claim.printed_digit
    rounded = round(value / digit) * digit if digit and isinstance(value, float) else value
    return number(rounded, digit) + with_unit(claim.unit)


def number(value: float, digit: float | None = None) -> str:
    """A number with separated thousands, rounded to the size `digit` of its last digit, or to about 4 digits."""
    if digit and digit < 1:
        decimals = 0
        while round(10**-decimals, 12) > digit * (1 + 1e-9):
            decimals += 1
        return f"{value:,.{decimals}f}"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if not 1 <= abs(value) < float("inf"):  # and for NaN
        return f"{value:.4g}"
    text = f"{value:,.{max(0, 4 - len(str(int(abs(value)))))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def with_unit(unit: str) -> str:
    """A unit as it follows a number; "" for a number without dimension."""
    return f" {unit}" if unit and unit not in ("1", "bool", "text") else ""
