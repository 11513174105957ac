"""Answers to arithmetic claims: one short function each, computed anew whenever the ledger is read.

    @answers("mem.bf16.bs128.reduction_pct", "mem.flash.bs128.reduction_pct")
    def saving(setting):
        return 100 * (1 - setting["peak_mib"] / setting["baseline_peak_mib"])

A function gets the claim's setting (the quantities that the source gives) and nothing else: it cannot read the number
it is about to check. It gives a number, a bool, a text, a list, a dict {reading: value}, or an Answer.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stlm_kit.studies.packaged import read_yaml

MODULES = ("poster", "memory", "layerdrop", "stlm")
_FUNCTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {}


@dataclass(frozen=True)
class Answer:
    """What was found, and, where a bare value does not say it: how, by which evidence, what the source leaves out."""

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


def functions() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """{claim id: function} over all sources."""
    for module in MODULES:
        importlib.import_module(f"{__name__}.{module}")
    return _FUNCTIONS


def compute(function: Callable[[dict[str, Any]], Any], setting: dict[str, Any]) -> dict[str, Any]:
    """One answer as the ledger keeps it."""
    result = function(setting)
    answer = result if isinstance(result, Answer) else Answer(result)
    how = (
        answer.how or (function.__doc__ or "").strip().splitlines()[0].rstrip(".")
        if function.__doc__ or answer.how
        else ""
    )
    return {"found": answer.found, "how": how, "by": answer.by, "missing": answer.missing, "time": ""}


def evidence(name: str) -> dict[str, Any]:
    """Numbers read off a source's public result files, with the commit they were read at (studies/evidence/)."""
    return read_yaml("stlm_kit.studies.evidence", name)
