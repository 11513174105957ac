"""Answers to the claims of the source `poster` on sharing and on the bottleneck: recorded arms and predicted peaks.

The arms are those of study.yaml beside this file, at laptop size: trained on the next token, or on a teacher's KL as in
the poster's Figure 2. A comparison counts as decided where the 95 % interval of its paired difference lies on one side
of zero.
"""

from __future__ import annotations

from typing import Any

from stlm_kit.ledger.answers import Answer, answers
from stlm_kit.ledger.tuned_arms import (
    TunedArm,
    Value,
    at_the_start,
    bits,
    difference,
    lower_in,
    mean_loss,
    steps_until,
    tuned_arms,
)
from stlm_kit.tables.intervals import Estimate

# The poster's student shares all and has an index. The bottleneck in both readings, at equal width and at equal
# parameters, and taught by KL: {comparison: (the arm with a bottleneck, the arm without)}.
BOTTLENECKS = {
    "d_ff = r, equal width": ("shared-narrow", "all-index"),
    "d_ff = r, equal parameters": ("shared-narrow-wide", "all-index"),
    "rank r, equal width": ("shared-factored", "all-index"),
    "rank r, equal parameters": ("shared-factored-wide", "all-index"),
    "d_ff = r, equal width, taught by KL": ("taught-narrow", "taught-shared"),
    "rank r, equal width, taught by KL": ("taught-factored", "taught-shared"),
}


def bottlenecks() -> dict[str, tuple[TunedArm, TunedArm]]:
    """{comparison: (with the bottleneck, without)}; {} where rows are missing."""
    arms = tuned_arms("poster")
    if not {name for pair in BOTTLENECKS.values() for name in pair} <= arms.keys():
        return {}
    return {name: (arms[ours], arms[theirs]) for name, (ours, theirs) in BOTTLENECKS.items()}


def bottleneck_differences(value: Value) -> dict[str, Estimate]:
    """{comparison: with the bottleneck minus without}, of a number of a row; {} where rows are missing."""
    return {name: difference(*pair, value) for name, pair in bottlenecks().items()}


@answers("poster.trend.bottleneck_initial")
def starts_lower(setting: dict[str, Any]) -> Answer:
    """The loss before any update, and the mean of the first steps that a trainer would log together"""
    first = setting["first_logged_steps"]
    found = {
        f"{name}, {when}": each
        for when, value in {"step 0": at_the_start, f"mean of steps 1 to {first}": mean_loss(1, first)}.items()
        for name, each in bottleneck_differences(value).items()
    }
    return lower_in(found, "training loss with the bottleneck minus without", "nats a token")


@answers("poster.trend.bottleneck_faster")
def reaches_a_loss_sooner(setting: dict[str, Any]) -> Answer:
    """Steps until the training loss that the model without a bottleneck has after a share of the training"""
    share, found = setting["share_of_training"], {}
    for name, (ours, theirs) in bottlenecks().items():
        loss = loss_after(share, theirs)
        found[f"{name}, until {loss:.2f} nats"] = difference(ours, theirs, steps_until(loss))
    how = (
        f"steps until the training loss that the model without has after {share:.0%}, with the bottleneck minus without"
    )
    return lower_in(found, how, "steps")


def loss_after(share: float, arm: TunedArm) -> float:
    """The mean training loss of an arm's runs after this share of the training."""
    curves = [metrics["curve"] for metrics in arm.metrics.values()]
    place = round(share * len(curves[0])) - 1
    return sum(curve[place] for curve in curves) / len(curves)


@answers("poster.trend.bottleneck_final")
def ends_lower(setting: dict[str, Any]) -> Answer:
    """Held-out bits per byte at the end, with the bottleneck minus without"""
    return lower_in(bottleneck_differences(bits), "held-out, with the bottleneck minus without", "bits a byte")


@answers("poster.trend.rivals_larger")
def small_beside_large(setting: dict[str, Any]) -> Answer:
    """A model made small by sharing, or by sharing and a bottleneck, beside plain models with more parameters"""
    arms = tuned_arms("poster")
    pairs = {f"{small} beside {large}": (small, large) for small, large in setting["pairs"]}
    if not {name for pair in pairs.values() for name in pair} <= arms.keys():
        return Answer(None)
    found = {
        f"{name} ({_times(arms[small], arms[large])} as many parameters)": difference(arms[small], arms[large])
        for name, (small, large) in pairs.items()
    }
    return lower_in(found, "held-out, the small model minus the larger plain one", "bits a byte")


def _times(small: TunedArm, large: TunedArm) -> str:
    sizes = [next(iter(arm.metrics.values()))["model_parameters"] for arm in (small, large)]
    return f"{sizes[0] / sizes[1]:.2f} times"


# --- predicted ---


def predicted_peaks(setting: dict[str, Any]) -> dict[int, dict[str, float]]:
    """{number of layers: {"all": GiB, "none": GiB}}: peaks with one layer in all places, and with a layer in each."""
    depths = setting["n_layers"]
    return {n: {kind: predicted_gib(kind, setting, n_layers=n) for kind in ("all", "none")} for n in depths}


def predicted_gib(sharing: str, setting: dict[str, Any], **changes: Any) -> float:
    """The predicted peak of one training step at the setting's preset and recipe, in GiB; takes a second or two."""
    from stlm_kit.memory import MemoryReport, predict_peak
    from stlm_kit.presets import preset
    from stlm_kit.reproduce.trace_cache import kept

    config = preset(setting["preset"], sharing=sharing, **changes)
    step = (config, setting["recipe"], setting["batch_size"], config.context_length)
    return kept(MemoryReport, predict_peak, *step, span="step").peak_allocated_mib / 1024


@answers("poster.sharing.memory")
def sharing_lowers_the_peak(setting: dict[str, Any]) -> Answer:
    """Predicted peak of a step, one layer in all places against a layer of its own in each"""
    peaks = predicted_peaks(setting)
    told = "; ".join(f"{n} layers {peak['all']:.1f} and {peak['none']:.1f} GiB" for n, peak in peaks.items())
    return Answer(
        all(peak["all"] < setting["at_most"] * peak["none"] for peak in peaks.values()),
        how=f"{setting['preset']}, batch {setting['batch_size']}, predicted, shared and not: {told}; "
        f"considerably is read as: at most {setting['at_most']:.0%} of it",
        by="predicted",
    )


@answers("poster.trend.deep_limited")
def deep_decoders_fit(setting: dict[str, Any]) -> Answer:
    """The deepest decoder that fits into the slice: predicted, shared and not shared"""
    peaks, size = predicted_peaks(setting), setting["gpu_memory_gb"]
    limit, deepest, tried = size * 1e9 / 2**30, max(peaks), " and ".join(map(str, peaks))
    fits = {kind: max((n for n, peak in peaks.items() if peak[kind] <= limit), default=0) for kind in ("all", "none")}
    return Answer(
        fits["all"] == deepest and fits["none"] < deepest,
        how=f"{setting['preset']}, batch {setting['batch_size']}, at {tried} layers: below {size} GB fit up to "
        f"{fits['all']} shared, {fits['none']} not shared; {deepest} take {peaks[deepest]['all']:.1f} and "
        f"{peaks[deepest]['none']:.1f} GiB. How well such a model predicts is the claim poster.trend.rivals_larger",
        by="predicted",
    )
