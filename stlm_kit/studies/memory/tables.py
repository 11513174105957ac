"""Answers to the claims of the source `memory` about its measurements: printed cells and recorded runs."""

from __future__ import annotations

from stlm_kit.ledger.answers import Answer, answers, evidence

TECHNIQUES = ("base", "bf16", "flash", "w16", "w32", "gradcp")
BATCH_SIZES = (32, 64, 128)


def recorded(name: str) -> dict:
    """One run in the study's result files."""
    return evidence("memory")["runs"][name]


def at_each_batch_size(technique: str) -> list[dict]:
    """A technique's recorded runs, in order of batch size."""
    return [recorded(f"{technique}_bs{batch_size}") for batch_size in BATCH_SIZES]


def saving(value: float, baseline: float) -> float:
    """How far a value is below the baseline, in %."""
    return 100 * (1 - value / baseline)


# The cells themselves


@answers("mem.window.bs64_text")
def mean_peak(setting):
    """Peak of a step, mean over the recorded steps, in the study's own result file of the run"""
    return Answer(recorded(setting["run"])["peak_mib"], by="cited")


@answers("mem.flash.ppl_identical", "mem.gradcp.ppl_identical")
def validation_perplexity(setting):
    """Validation perplexity in the study's own result file of the run"""
    return Answer(recorded(setting["run"])["validation_perplexity"], by="cited")


# Percentages from printed cells


@answers(*(f"mem.{technique}.bs128.reduction_pct" for technique in TECHNIQUES[1:]))
def memory_saved(setting):
    """1 - peak / baseline's peak, from the printed cells"""
    return saving(setting["peak_mib"], setting["baseline_peak_mib"])


@answers(*(f"mem.{technique}.bs128.speed_pct" for technique in TECHNIQUES[1:]))
def time_saved(setting):
    """1 - time / baseline's time, from the printed cells"""
    return saving(setting["time_s"], setting["baseline_time_s"])


@answers("mem.flash.53_50")
def memory_and_time_saved(setting):
    """1 - peak / baseline's peak, and the same of the time, from the printed cells"""
    return [memory_saved(setting), time_saved(setting)]


@answers("mem.gradcp.23_17")
def memory_saved_and_time_added(setting):
    """1 - peak / baseline's peak, and time / baseline's time - 1, from the printed cells"""
    return [memory_saved(setting), -time_saved(setting)]


@answers("mem.findings.mem_range")
def memory_savings(setting):
    """1 - peak / baseline's peak of each technique, from the printed cells"""
    return [saving(peak, setting["baseline_peak_mib"]) for peak in setting["peaks_mib"]]


@answers("mem.findings.speed_range")
def time_savings(setting):
    """1 - time / baseline's time of each technique, from the printed cells"""
    return [saving(time, setting["baseline_time_s"]) for time in setting["times_s"]]


@answers("mem.window.speed_marginal")
def time_saved_by_windows(setting):
    """1 - time with a window / time without, from the printed cells"""
    return {f"window {window}": saving(time, setting["time_s"]) for window, time in setting["window_times_s"].items()}


@answers("mem.flash.2x")
def times_as_fast(setting):
    """Baseline's time over the time, from the printed cells"""
    return setting["baseline_time_s"] / setting["time_s"]


@answers("mem.findings.ppl_within_0p1")
def largest_distance(setting):
    """The largest distance of a technique's printed perplexity from the baseline's"""
    return max(abs(perplexity - setting["baseline_perplexity"]) for perplexity in setting["perplexities"])


@answers("mem.findings.ppl_interval")
def interval(setting):
    """The lowest and the highest printed perplexity of a technique"""
    return [min(setting["perplexities"]), max(setting["perplexities"])]


@answers("mem.window.identical_all_bs")
def same_with_windows(setting):
    """Whether the printed peaks of FlashAttention and both windows agree at each batch size, in %"""
    spread = max(100 * (max(peaks) / min(peaks) - 1) for peaks in setting["peaks_mib"].values())
    return Answer(spread < setting["same_within_pct"], how=f"the printed cells differ by {spread:.2f} % at most")


@answers("mem.exp.linear_batch")
def lines_through_the_cells(setting):
    """Whether the line through a row's cells at 32 and 128 meets its cell at 64"""
    off = {}
    for row, (small, middle, large) in setting["peaks_mib"].items():
        line = small + (large - small) * (64 - 32) / (128 - 32)
        if abs(middle / line - 1) * 100 > setting["same_within_pct"]:
            off[row] = f"{row} {middle:,} where the line gives {line:,.0f}"
    return Answer(not off, how=f"printed cells at batch size 64: {'; '.join(off.values())}")


@answers("mem.bf16.consistent_all_bs")
def same_saving_everywhere(setting):
    """Whether the saving at each batch size is the stated one, to the percent or about"""
    cells = [saving(*pair) for pair in zip(setting["peaks_mib"], setting["baseline_peaks_mib"], strict=True)]
    files = recorded_savings_of("bf16", "baseline", "peak_mib")
    readings = {"printed cells": cells, "recorded peaks": list(files.values())}
    both, stated, near = [*cells, *files.values()], setting["saving_pct"], setting["near_points"]
    shown = [f"{label} {', '.join(f'{value:.1f}' for value in values)} %" for label, values in readings.items()]
    return Answer(
        {
            "to the percent": all(round(value) == stated for value in both),
            f"within {near} points": all(abs(value - stated) <= near for value in both),
        },
        how=f"saved at 32, 64 and 128: {'; '.join(shown)}",
    )


# Comparisons of recorded runs


def recorded_savings_of(technique: str, baseline: str, quantity: str) -> dict[str, float]:
    """{batch size: % saved} of a technique beside a baseline."""
    pairs = zip(at_each_batch_size(technique), at_each_batch_size(baseline), strict=True)
    return {f"batch {run['batch_size']}": saving(run[quantity], other[quantity]) for run, other in pairs}


@answers("mem.expected.flash.speed_pct")
def recorded_time_savings(setting):
    """1 - time / baseline's time at each batch size, from the recorded epochs"""
    return Answer(recorded_savings_of(setting["technique"], setting["baseline"], "epoch_s"), by="cited")


@answers("mem.expected.gradcp.slow_pct")
def recorded_slowdowns(setting):
    """Time / baseline's time - 1 at each batch size, from the recorded epochs"""
    savings = recorded_savings_of(setting["technique"], setting["baseline"], "epoch_s")
    return Answer({batch_size: -saved for batch_size, saved in savings.items()}, by="cited")


@answers("mem.expected.base.extremes")
def baseline_is_largest_and_slowest(setting):
    """Whether the baseline has the highest recorded peak and the longest epoch"""
    techniques = ("baseline", "bf16", "bf16_flash", "bf16_window16", "bf16_window32", "gradcp")
    runs = {technique: recorded(f"{technique}_bs{setting['batch_size']}") for technique in techniques}
    largest, slowest = (max(runs, key=lambda name: runs[name][column]) for column in ("peak_mib", "epoch_s"))
    how = f"highest recorded peak: {largest}; longest epoch: {slowest}, {runs[slowest]['epoch_s']} s"
    return Answer(largest == slowest == "baseline", how=how, by="cited")


@answers("mem.bf16.no_downside")
def bf16_costs_nothing(setting):
    """Whether BF16 is nowhere larger, slower or worse than FP32 by more than noise"""
    memory, time = (recorded_savings_of("bf16", "baseline", column) for column in ("peak_mib", "epoch_s"))
    pairs = zip(*(at_each_batch_size(name) for name in ("bf16", "baseline", "gradcp")), strict=True)
    perplexities = [[run["validation_perplexity"] for run in runs] for runs in pairs]
    noise = max(abs(same - base) for _, base, same in perplexities)  # checkpointing computes the same as the baseline
    worse = max(bf16 - base for bf16, base, _ in perplexities)
    fine = min(memory.values()) > 0 and min(time.values()) > -setting["time_noise_pct"] and worse <= noise
    times = ", ".join(f"{-saved:+.1f}" for saved in time.values())
    how = f"recorded time {times} % at 32, 64 and 128; perplexity up by {worse:.2f} at most, where noise is {noise:.2f}"
    return Answer(fine, how=how, by="cited")


@answers("mem.flash.best_single")
def flash_beats_the_others(setting):
    """FlashAttention's own gain over BF16 beside BF16's over FP32, and its run beside the windows' runs"""
    at = f"batch {setting['batch_size']}"
    memory, bf16 = (
        recorded_savings_of(*pair, "peak_mib")[at] for pair in (("bf16_flash", "bf16"), ("bf16", "baseline"))
    )
    names = ("bf16_flash", "bf16_window16", "bf16_window32", "bf16", "gradcp")
    runs = [recorded(f"{name}_bs{setting['batch_size']}") for name in names]
    flash, *windows = (run["epoch_s"] for run in runs[:3])
    ahead = all(runs[0][column] < run[column] for run in runs[3:] for column in ("peak_mib", "epoch_s"))
    how = (
        f"recorded: it saves {memory:.1f} % of BF16's memory, BF16 {bf16:.1f} % of FP32's; "
        f"its epoch takes {flash} s, those with windows {' and '.join(map(str, windows))} s"
    )
    readings = {
        "on its own, by memory": memory > bf16,
        "with BF16, by time, beside windows too": flash < min(windows),
        "with BF16, by memory and time, beside BF16 and checkpointing": ahead,
    }
    return Answer(readings, how=how, by="cited")
