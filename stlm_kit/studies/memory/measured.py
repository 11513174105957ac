"""Answers to the claims of the source `memory` that a laptop measures: pairs of rows of data/results/memory.jsonl.

Two runs of a pair have the same seed, text and steps, and differ in one setting. A claim holds where every pair agrees
with it. Where the pairs disagree, their readings leave it undecided.
"""

from __future__ import annotations

from stlm_kit.ledger.answers import Answer, answers
from stlm_kit.reproduce import results


def rows(name: str) -> dict[int | None, dict]:
    """{seed: metrics} of the recorded runs with this name; {} where nothing is recorded."""
    return {row["seed"]: row["metrics"] for row in results.rows_of("memory") if row["name"] == name}


def changes(name: str, baseline: str = "no-window") -> dict[int, float]:
    """{seed: how much higher the perplexity is than the baseline's, in %}."""
    ours, theirs = rows(name), rows(baseline)
    return {seed: 100 * (ours[seed]["perplexity"] / theirs[seed]["perplexity"] - 1) for seed in ours if seed in theirs}


@answers("mem.expected.window.ppl")
def windows_cost_quality(setting):
    """Perplexity with a window beside the same run without one, over seeds"""
    found = changes(f"window-{setting['window']}")
    if not found:
        return Answer(None)
    how = (
        f"perplexity on a laptop, {len(found)} seeds of a model of bytes: a window of {setting['window']} changes "
        f"it by {min(found.values()):+.0f} to {max(found.values()):+.0f} %; in the study's records it never rises"
    )
    return Answer(_agreed({f"seed {seed}": change > 0 for seed, change in found.items()}), how=how, by="measured")


@answers("mem.flash.why_faster")
def fused_attention_moves_less(setting):
    """Fused and eager attention, forward and backward, timed by themselves as rows grow"""
    kinds = {kind: [rows(f"attention-{kind}-{n}").get(None) for n in setting["lengths"]] for kind in ("eager", "sdpa")}
    if None in kinds["eager"] + kinds["sdpa"]:
        return Answer(None)
    times, sizes = (
        [eager[name] / fused[name] for eager, fused in zip(*kinds.values(), strict=True)]
        for name in ("seconds_median", "peak_mib")
    )
    spans = [
        eager["seconds_least"] > fused["seconds_most"] for eager, fused in zip(*kinds.values(), strict=True)
    ]  # faster by more than the spread of the steps
    how = (
        f"measured on a laptop at {', '.join(f'{n:,}' for n in setting['lengths'])} positions, as many in a batch: the "
        f"fused kernel is {_times(times)} times as fast and needs {_times(sizes)} times less memory"
    )
    return Answer(spans[-1] and times[-1] > times[0] and sizes[-1] > sizes[0], how=how, by="measured")


def _times(values: list[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _agreed(readings: dict[str, bool]) -> bool | dict[str, bool]:
    """The one reading where all agree, else all of them."""
    return readings if len(set(readings.values())) > 1 else next(iter(readings.values()))
