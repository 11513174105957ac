"""Answers to the claims of the source `poster` on distillation: recorded arms, at laptop size.

The poster trains its student on the KL from a teacher and shows no student without one. Here the same student is
trained both ways, with a teacher that was trained here and with SmolLM2.
"""

from __future__ import annotations

from typing import Any

from stlm_kit.ledger.answers import Answer, answers
from stlm_kit.ledger.tuned_arms import Value, bits, difference, lower_in, tuned_arms
from stlm_kit.tables.intervals import Estimate

# {comparison: (taught, not taught)}
PAIRS = {
    "KL from a teacher trained here, equal steps": ("forward-kl", "cross-entropy"),
    "KL from a teacher trained here, equal operations": ("forward-kl", "cross-entropy-longer"),
    "half KL from SmolLM2 and half labels, equal steps": ("with-smollm2", "without-smollm2"),
}
WAYS = (
    "cross-entropy",
    "label-smoothing",
    "temperature",
    "forward-kl",
    "forward-kl-t2",
    "reverse-kl",
    "jensen-shannon",
    "alpha-beta",
    "alpha-beta-warmup",
    "alpha-beta-hidden",
)  # what the same student learns from, in equal steps


def last_document(metrics: dict[str, Any]) -> float:
    """The bits per byte of the last scored document, which is later than all that the teacher read."""
    return metrics["last_document_bits_per_byte"]


def taught_minus_not(value: Value = bits) -> dict[str, Estimate]:
    """{comparison: taught minus not taught}, of a number of a row; {} where rows are missing."""
    arms = tuned_arms("poster")
    if not {name for pair in PAIRS.values() for name in pair} <= arms.keys():
        return {}
    return {name: difference(arms[ours], arms[theirs], value) for name, (ours, theirs) in PAIRS.items()}


@answers("poster.trend.distillation")
def teaching_pays(_: dict[str, Any]) -> Answer:
    """Held-out bits per byte at the end, taught minus not taught, at equal steps and at equal operations"""
    return lower_in(taught_minus_not(), "held-out, taught minus not taught", "bits a byte")
