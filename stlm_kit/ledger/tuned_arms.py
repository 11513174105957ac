"""Arms of a study whose peak learning rate was searched, and paired differences between two of them.

Rows carry the label `arm`. The search is what ran at seed 0: its best rate, by held-out bits per byte, is the arm's.
The rows of all other seeds at that rate are the arm's result. The search's own run is not among them: it was chosen for
being the best of several, so its score is too good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stlm_kit.ledger.answers import Answer
from stlm_kit.reproduce import results
from stlm_kit.tables.intervals import Estimate, rounded

SEARCH_SEED = 0
Value = Callable[[dict[str, Any]], float]  # a number of a row's metrics


@dataclass(frozen=True)
class TunedArm:
    """One arm: its best rate, what the search found at each rate, and its metrics at the best rate by seed."""

    name: str
    rate: float
    searched: dict[float, float]  # {peak learning rate: bits per byte}
    metrics: dict[int, dict[str, Any]]  # {seed: metrics}
    configuration: dict[str, Any]

    def estimate(self, value: Value) -> Estimate:
        """The mean and 95 % interval of a number over the seeds."""
        return Estimate(tuple(value(metrics) for metrics in self.metrics.values()))


def tuned_arms(study: str, rows: Iterable[dict[str, Any]] | None = None) -> dict[str, TunedArm]:
    """{arm: its tuned result} of a study's committed rows at laptop size, or of `rows`.

    An arm that was not searched is left out.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in results.rows_of(study) if rows is None else rows:
        if row.get("profile") == "laptop" and "arm" in row.get("labels", {}) and row["status"] == "done":
            groups.setdefault(row["labels"]["arm"], []).append(row)
    found = {}
    for name, group in groups.items():
        searched = {_rate(row): bits(row["metrics"]) for row in group if row["seed"] == SEARCH_SEED}
        if searched:
            best = min(searched, key=searched.__getitem__)
            at_best = {row["seed"]: row for row in group if _rate(row) == best}
            metrics = {seed: at_best[seed]["metrics"] for seed in sorted(at_best.keys() - {SEARCH_SEED})}
            found[name] = TunedArm(name, best, searched, metrics, at_best[SEARCH_SEED]["configuration"])
    return found


def _rate(row: dict[str, Any]) -> float:
    return row["configuration"]["learning_rate"]


def bits(metrics: dict[str, Any]) -> float:
    """The held-out bits per byte at the end."""
    return metrics["bits_per_byte"]


def at_the_start(metrics: dict[str, Any]) -> float:
    """The training loss of the first batch, before any update, in nats a token."""
    return metrics["first_losses"][0]


def mean_loss(first: int, last: int) -> Value:
    """The mean training loss of the steps `first` to `last`, counted from 1, as far as the row's points allow."""

    def mean(metrics: dict[str, Any]) -> float:
        each = metrics["curve_steps"]
        points = metrics["curve"][(first - 1) // each : -(-last // each)]
        return sum(points) / len(points)

    return mean


def steps_until(loss: float) -> Value:
    """Steps until a point of the loss curve lies at `loss` or below; the whole training where none does."""

    def steps(metrics: dict[str, Any]) -> float:
        each = metrics["curve_steps"]
        reached = (place for place, mean in enumerate(metrics["curve"], start=1) if mean <= loss)
        return each * next(reached, len(metrics["curve"]))

    return steps


def difference(ours: TunedArm, theirs: TunedArm, value: Value = bits) -> Estimate:
    """Ours minus theirs, over the seeds that both have: the same text in the same order."""
    seeds = [seed for seed in ours.metrics if seed in theirs.metrics]
    return Estimate(tuple(value(ours.metrics[seed]) - value(theirs.metrics[seed]) for seed in seeds))


def decided(estimate: Estimate) -> bool | None:
    """True where a difference is below zero by its whole 95 % interval, False where above, None where undecided."""
    if estimate.half is None or estimate.low <= 0 <= estimate.high:
        return None
    return estimate.high < 0


def lower_in(differences: Mapping[str, Estimate], how: str, unit: str) -> Answer:
    """The answer to "ours is lower", given a difference for each way to compare. {} gives no answer, nor does a
    difference without a pair of seeds.

    An undecided difference is named among what is missing: the claim is then neither confirmed nor contradicted.
    """
    if not differences or not all(estimate.n for estimate in differences.values()):
        return Answer(None)
    found = {name: decided(estimate) for name, estimate in differences.items()}
    told = "; ".join(f"{name} {in_words(estimate)}" for name, estimate in differences.items())
    open_ones = [name for name, value in found.items() if value is None]
    values = {name: value for name, value in found.items() if value is not None}
    agreed = next(iter(values.values())) if len(set(values.values())) == 1 else values or None
    missing = f"runs enough to decide, here or in the source: {'; '.join(open_ones)}" if open_ones else None
    seeds = min(estimate.n for estimate in differences.values())
    return Answer(agreed, how=f"{how}, {seeds} seeds, in {unit}: {told}", by="measured", missing=missing)


def in_words(estimate: Estimate) -> str:
    """A mean difference with half its 95 % interval, such as "-0.021 ± 0.004"."""
    mean, half = rounded(estimate.mean, estimate.half, sign=True)
    return f"{mean} ± {half}" if half else mean
