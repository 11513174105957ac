"""Claims: what the sources published, restated in the kit's words, and the verdict on an answer to one.

A claim is an entry of its source's study file, stlm_kit/studies/<source>/study.yaml. Nothing here knows where answers
come from; see survey.py.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from stlm_kit.errors import KitError, UsageError, first_sentence, near
from stlm_kit.reproduce.study_file import read_yaml, study_names, study_path

SOURCES = tuple(study_names())
Kind = Literal["arithmetic", "predictable", "trend", "full_scale", "config"]
KINDS = get_args(Kind)
VERDICTS = ("exact", "within_tolerance", "predicted", "measured", "confirmed", "contradicted", "underdetermined")
VERDICTS += ("needs_gpu", "open", "setting")
Evidence = Literal["computed", "predicted", "measured", "cited"]
Scalar = bool | int | float | str
# How a kind of claim is answered unless the answer says otherwise. A full-scale claim has no default: only a run at the
# published size may answer it, so its answer must say that it was measured (or cited).
USUAL_EVIDENCE: dict[str, Evidence | None] = {
    "arithmetic": "computed",
    "predictable": "predicted",
    "trend": "measured",
    "config": "computed",
    "full_scale": None,
}
MULTIPLES = {"K": 10**3, "M": 10**6, "B": 10**9}


MOST_WORDS = 25  # of one quoted place; quotes serve criticism and stay short


def _short(text: str) -> str:
    if len(text.split()) > MOST_WORDS:
        raise ValueError(f"A quote has at most {MOST_WORDS} words; quote the part that the claim is about.")
    return text


Words = Annotated[str, Field(min_length=1), AfterValidator(_short)]
Quote = Words | Annotated[list[Words], Field(min_length=2)]


class Citation(BaseModel):
    """An answer that is looked up instead of computed: what the cited place says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    found: Scalar | list[Scalar]
    source: str = Field(min_length=1, description="paper and section, or repository, commit and file")


class Claim(BaseModel):
    """One published statement. `published` is as printed: "45.20" keeps its last digit, "50M" its multiple."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    source: str
    where: str = Field(description="section or table of the source")
    kind: Kind
    statement: str = Field(description="in the kit's own words")
    quote: Quote | None = Field(default=None, description="the source's words, letter for letter; a list of places")
    derived: str | None = Field(default=None, min_length=1, description="how it follows; the source says no such thing")
    published: Scalar | list[Scalar] | None = Field(description="the value as printed; a pair of numbers is a range")
    unit: str = Field(min_length=1, description="'1' for a number without dimension, 'bool' for yes or no, or 'text'")
    tolerance: float | None = Field(default=None, ge=0, description="absolute; default: half the last printed digit")
    compare: Literal["equal", "at_least", "at_most"] = "equal"
    setting: dict[str, Any] = {}
    how: str = Field(description="how the claim is, or will be, answered")
    reading: str | None = Field(default=None, description="the reading of the source that would be right")
    used_by: str | None = Field(default=None, description="config only: preset:NAME.FIELD or study:settings.NAME")
    cited: Citation | None = Field(default=None, description="the answer to a fact about others' papers or code")
    merged: list[str] = Field(default=[], description="ids of claims that say the same and were merged into this one")

    @model_validator(mode="before")
    @classmethod
    def _number_with_unit(cls, entry: Any) -> Any:
        """Refuse a number without a unit. This runs before parsing, when the entry still shows what was omitted."""
        published = entry.get("published") if isinstance(entry, dict) else None
        if holds_number(published) and not str(entry.get("unit") or "").strip():
            raise ValueError(f"It publishes {published} without a unit; name the unit, or '1' for a bare number.")
        return entry

    @model_validator(mode="after")
    def _number_is_no_bool(self) -> Claim:
        if holds_number(self.value) and self.unit == "bool":
            raise ValueError("It publishes a number but its unit is 'bool'; give the number's unit, or '1'.")
        return self

    @model_validator(mode="after")
    def _quoted_or_derived(self) -> Claim:
        if self.quote and self.derived:
            raise ValueError("It has a quote and is called derived; what the source says is not derived.")
        return self

    @property
    def quotes(self) -> list[str]:
        """The quoted places, or [] where there is no quote."""
        return [self.quote] if isinstance(self.quote, str) else list(self.quote or [])

    @property
    def value(self) -> Scalar | list[Scalar] | None:
        """The published value as Python compares it: numbers as int or float, bools, text, a list of these, or None."""
        if self.unit == "text":  # "2.0" is a version and "1910.02054" a paper
            return self.published
        if isinstance(self.published, list):
            return [parse_printed(part)[0] for part in self.published]
        return parse_printed(self.published)[0]

    @property
    def printed_digit(self) -> float:
        """The size of the last printed digit: 0.01 for "45.20", 1 for 5004, 1e6 for "50M"; the largest of a list."""
        if self.unit == "text":
            return 0.0
        parts = self.published if isinstance(self.published, list) else [self.published]
        return max((parse_printed(part)[1] for part in parts), default=0.0)

    @property
    def bound(self) -> float:
        """The absolute tolerance that applies: the stated one, or half the last printed digit."""
        return self.printed_digit / 2 if self.tolerance is None else self.tolerance


def is_number(value: object) -> bool:
    """Whether `value` is an int or a float (a bool is not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def holds_number(published: Any) -> bool:
    """Whether a value, as printed or as parsed, is a number or a list with one in it."""
    parts = published if isinstance(published, list) else [published]
    return any(is_number(parse_printed(part)[0]) for part in parts)


def parse_printed(printed: Scalar | None) -> tuple[Scalar | None, float]:
    """(value, size of its last digit) of a number as printed. Text, bools and None are returned unchanged, with 0."""
    text = str(printed).replace(",", "") if not isinstance(printed, bool) else ""
    match = re.fullmatch(r"([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)([KMB]?)", text)
    if not match:
        return printed, 0.0
    number, multiple = Decimal(match[1]), MULTIPLES.get(match[2], 1)
    digit = float(Decimal(1).scaleb(number.as_tuple().exponent)) * multiple
    value = number * multiple
    return (int(value) if value == int(value) and digit >= 1 else float(value)), digit


@cache
def _load(source: str) -> tuple[Claim, ...]:
    claims = []
    for entry in read_yaml(study_path(source))["claims"]:
        try:
            claims.append(Claim(source=source, **entry))
        except ValidationError as error:
            raise KitError(f"The study {source}, claim {entry.get('id', '?')}: {first_sentence(error)}") from error
    return tuple(claims)


def load_claims(source: str | None = None) -> list[Claim]:
    """The claims of one source (such as "memory"), or of all, source by source. UsageError for an unknown source."""
    if source is not None and source not in SOURCES:
        raise UsageError(f"There is no source {source!r}; the sources are {', '.join(SOURCES)}.{near(source, SOURCES)}")
    return [claim for name in SOURCES if source in (None, name) for claim in _load(name)]


def find_claim(claim_id: str) -> Claim:
    """The claim with this id. Raises UsageError with similar ids where there is none."""
    claims = {claim.id: claim for claim in load_claims()}
    if claim_id not in claims:
        raise UsageError(f"The ledger has no claim {claim_id!r}; see `stlm ledger`.{near(claim_id, claims)}")
    return claims[claim_id]


def verdict(claim: Claim, found: Any, by: Evidence | None = None, missing: str | None = None) -> str:
    """The verdict on the claim, given an answer: one of the ledger's words.

    found: a number, bool, text or list; a dict {reading: value} where the source can be read in several ways; None
    without an answer. by: the evidence; the default is that of the claim's kind. missing: the quantity that the source
    omits, which makes the claim underdetermined.
    """
    if missing:
        return "underdetermined"
    if found is None:
        return "needs_gpu" if claim.kind == "full_scale" else "open"
    if isinstance(found, dict):  # readings that agree are one answer; readings that differ leave the claim undecided
        verdicts = {verdict(claim, reading, by) for reading in found.values()}
        return verdicts.pop() if len(verdicts) == 1 and len(found) > 1 else "underdetermined"
    if not agrees(claim, found, claim.bound):
        return "contradicted"
    if claim.kind == "config":
        return "setting"
    if isinstance(found, bool):
        return "confirmed"
    by = by or USUAL_EVIDENCE[claim.kind]
    if by in ("predicted", "measured"):
        return by
    return "exact" if agrees(claim, found, claim.printed_digit / 2) else "within_tolerance"


def agrees(claim: Claim, found: Any, tolerance: float) -> bool:
    """Whether `found` agrees with the claim. A number must lie between a published pair; a list must match by element.

    tolerance: absolute, in the claim's unit.
    """
    published = claim.value
    slack = tolerance + 1e-9 * abs(found) if is_number(found) else tolerance  # 0.005 itself still rounds to the digit
    if is_number(found) and isinstance(published, list):
        return min(published) - slack <= found <= max(published) + slack
    if is_number(found) and is_number(published):
        if claim.compare == "at_least":
            return found >= published - slack
        if claim.compare == "at_most":
            return found <= published + slack
        return abs(found - published) <= slack
    if isinstance(found, list) and isinstance(published, list):
        return len(found) == len(published) and all(
            agrees(claim.model_copy(update={"published": theirs}), ours, tolerance)
            for ours, theirs in zip(found, claim.published, strict=True)
        )
    return type(found) is type(published) and found == published
