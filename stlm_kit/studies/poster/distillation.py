"""Answers to the claims of the source `poster` on distillation: recorded arms, at laptop size.

The poster trains its student on the KL from a teacher and shows no student without one. Here the same student is
trained both ways, with a teacher that was trained here and with SmolLM2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stlm_kit.ledger.answers import Answer, answers
from stlm_kit.ledger.tuned_arms import Value, bits, difference, lower_in, tuned_arms
from stlm_kit.reproduce import results
from stlm_kit.tables.intervals import Estimate

EQUAL_STEPS, EQUAL_OPERATIONS = "KL, equal steps", "KL, equal operations"
# {comparison: (taught, not taught)}; the teacher is one trained here, or SmolLM2.
PAIRS = {
    EQUAL_STEPS: ("forward-kl", "cross-entropy"),
    EQUAL_OPERATIONS: ("forward-kl", "cross-entropy-longer"),
    "half KL and half labels, equal steps": ("alpha-beta", "cross-entropy"),
    "half KL and half labels, equal operations": ("alpha-beta", "cross-entropy-longer"),
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


def ways_minus_labels(value: Value = bits) -> dict[str, Estimate]:
    """{way to learn: its number minus that of plain cross-entropy}, for the same student in as many steps."""
    arms = tuned_arms("poster")
    return {name: difference(arms[name], arms["cross-entropy"], value) for name in WAYS if name != "cross-entropy"}


def kept_minus_full(value: Value = bits) -> dict[str, Estimate]:
    """{what is kept of the teacher's outputs: its number minus that of all logits}, at the same rate and seeds."""
    full = tuned_arms("poster")["forward-kl"].metrics
    found: dict[str, dict[int, float]] = {}
    for row in results.rows_of("poster"):
        if name := row.get("labels", {}).get("outputs"):
            found.setdefault(name, {})[row["seed"]] = value(row["metrics"]) - value(full[row["seed"]])
    return {name: Estimate(tuple(seeds[seed] for seed in sorted(seeds))) for name, seeds in found.items()}


@dataclass(frozen=True)
class Operations:
    """What a comparison of the study takes in floating-point operations, of one run and once for all runs."""

    student: int  # a run's steps, without a teacher
    beside: int  # the teacher's forward passes, where it runs along with every step
    kept: int  # the teacher's forward passes over the whole text, once, where its outputs are kept
    training: int  # of the teacher


def operations() -> Operations:
    """The operations of the student of `forward-kl` and of its teacher, counted from their settings."""
    from stlm_kit.reproduce.cost import work_of
    from stlm_kit.reproduce.request import Request, plan

    runs = {run.name: run for run in plan(Request(["poster"]))}
    taught, teacher = (work_of(runs[name]) for name in ("forward-kl-seed-1", "teacher"))
    outputs = taught.kept_outputs()
    beside = outputs.flops * taught.settings.steps * taught.rows // outputs.rows
    return Operations(taught.flops(), beside, outputs.flops, teacher.flops())


@answers("poster.trend.distillation")
def teaching_pays(_: dict[str, Any]) -> Answer:
    """Held-out bits per byte at the end, taught minus not taught, at equal steps and at equal operations"""
    return lower_in(taught_minus_not(), "held-out, taught minus not taught", "bits a byte")
