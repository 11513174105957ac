"""Answers that need no run, computed each time the ledger is read: functions, settings in use, citations.

    @answers("mem.bf16.bs128.reduction_pct", "mem.flash.bs128.reduction_pct")
    def saving(setting):
        return 100 * (1 - setting["peak_mib"] / setting["baseline_peak_mib"])

A function receives only the claim's setting (the quantities that the source gives), so it cannot read the number that
it checks. It returns a number, a bool, a text, a list, a dict {reading: value}, or an Answer. It may be in any module
of its source's folder, stlm_kit/studies/<source>/.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

from stlm_kit.errors import KitError
from stlm_kit.ledger.claims import SOURCES, Claim, load_claims
from stlm_kit.ledger.recorded import plain
from stlm_kit.presets import preset
from stlm_kit.reproduce.study_file import read_yaml, studies_dir, study_path

_FUNCTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {}


@dataclass(frozen=True)
class Answer:
    """A found value with details: how it was found, by which evidence, and what the source omits."""

    found: Any
    how: str = ""
    by: str | None = None
    missing: str | None = None


def answers(*claim_ids: str) -> Callable:
    """Register the decorated function for these claims. ValueError where a claim has two functions."""

    def register(function: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
        for claim_id in claim_ids:
            if claim_id in _FUNCTIONS:
                raise ValueError(
                    f"The claim {claim_id} has two answers: {_FUNCTIONS[claim_id].__name__} and {function.__name__}."
                )
            _FUNCTIONS[claim_id] = function
        return function

    return register


@cache
def functions() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """{claim id: function} over all sources. Every module in a source's folder is imported once."""
    for source in SOURCES:
        for path in sorted((studies_dir() / source).glob("*.py")):
            importlib.import_module(f"stlm_kit.studies.{source}.{path.stem}".removesuffix(".__init__"))
    return _FUNCTIONS


def compute(function: Callable[[dict[str, Any]], Any], setting: dict[str, Any]) -> dict[str, Any]:
    """One answer in the form that the ledger keeps. `how` defaults to the first line of the function's docstring."""
    result = function(setting)
    answer = result if isinstance(result, Answer) else Answer(result)
    docstring = (function.__doc__ or "").strip().splitlines()
    how = answer.how or (docstring[0].rstrip(".") if docstring else "")
    return {"found": answer.found, "how": how, "by": answer.by, "missing": answer.missing, "time": ""}


def computed(claim: Claim) -> dict | None:
    """The answer that needs no run: from a function, from the preset or study that uses a setting, or from a citation.

    None where the claim has none of these.
    """
    if function := functions().get(claim.id):
        return compute(function, claim.setting)
    if claim.used_by:
        return {"found": plain(used_value(claim.source, claim.used_by)), "how": f"used by {claim.used_by}", "by": None}
    if claim.cited:
        return {"found": claim.cited.found, "how": claim.cited.source, "by": "cited"}
    return None


def computed_answers(source: str | None) -> dict[str, dict[str, Any] | None]:
    """{claim id: what `computed` gives} for the claims of one source, or of all."""
    return {claim.id: computed(claim) for claim in load_claims(source)}


def used_value(source: str, used_by: str) -> Any:
    """The value of "preset:NAME.FIELD" or "study:settings.NAME" (of the claim's own study file).

    Raises KitError where the kit has nothing of that name. So a setting cannot name a user that does not exist.
    """
    kind, _, path = used_by.partition(":")
    try:
        if kind == "preset":
            name, field = path.rsplit(".", 1)
            return getattr(preset(name), field)
        if kind == "study":
            return reduce(lambda place, key: place[key], path.split("."), read_yaml(study_path(source)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise KitError(
            f"The study {source} says that {used_by} uses a setting, and there is no such thing; name its user."
        ) from error
    raise KitError(f"The study {source} has used_by {used_by!r}; write preset:NAME.FIELD or study:settings.NAME.")


def evidence(source: str) -> dict[str, Any]:
    """Numbers from a source's public result files, with the commit of those files (the source's evidence.yaml)."""
    return read_yaml(study_path(source).with_name("evidence.yaml"))
