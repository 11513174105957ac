"""Estimate the time of a run on this machine's device, and say what the estimate is based on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from stlm_kit.memory.devices import CHIPS, DEVICES, measured_tflops, peak_tflops
from stlm_kit.processor import is_slow, slowdown
from stlm_kit.reproduce.cost import MARGIN, Cost, Work, needed_of, refusal, time_limit

if TYPE_CHECKING:
    from stlm_kit.memory.budget import Budget
    from stlm_kit.memory.report import MemoryReport, Semantics

# the device for an estimate without a GPU
SLICE, SLICE_MULTIPROCESSORS = "A100 MIG 2g.20gb", DEVICES["mig-20gb"].multiprocessors


@dataclass(frozen=True)
class Means:
    """What the hours and the memory check are based on. budget: None on a CPU, which swaps memory to disk."""

    budget: Budget | None
    semantics: Semantics
    utilisation: float
    calibrate: int  # steps to time; 0: use the peak and the utilisation


UTILISATION = 0.3  # the default share of the peak


def means_for(
    profile: str, budget_name: str | None = None, utilisation: float = UTILISATION, calibrate: int = 0
) -> Means:
    """A GPU's memory and peak where there is one or the profile needs one, else this machine's processor."""
    import torch

    from stlm_kit.memory.budget import find_budget

    on_gpu = profile == "mig20" or torch.cuda.is_available()
    name = budget_name or ("device" if torch.cuda.is_available() else "mig-20gb" if on_gpu else None)
    budget = None if name is None else find_budget(name)
    return Means(budget, "cuda" if on_gpu else "cpu", utilisation, calibrate)


def cost_of(index: int, work: Work, means: Means) -> Cost:
    """The cost of a run with the given means. Raises UsageError for settings that are impossible."""
    report = work.memory(semantics=means.semantics)
    why_not = refusal(work, means.budget.mib, means.semantics) if means.budget else ""
    flops, steps = work.flops(), work.settings.steps
    peak = peak_of(means.semantics, work.recipe.precision)[0]
    seconds, utilisation = None, means.utilisation
    if means.calibrate and not why_not:
        seconds = _timed(work, means.calibrate)
        utilisation = flops / steps / seconds / (peak * 1e12) if peak else None
    elif peak:
        seconds = flops / steps / (peak * 1e12 * utilisation)
    scoring = work.evaluation_flops()
    evaluation = None if seconds is None or scoring is None else steps * seconds * scoring / flops / 3600
    if evaluation and means.semantics == "cpu" and is_slow(work.recipe.precision):  # the evaluation then runs in fp32
        evaluation /= slowdown(work.recipe.precision)
    hours = None if seconds is None else steps * seconds / 3600 + (evaluation or 0.0)
    return Cost(
        index=index,
        name=work.run.name,
        predicted_mib=round(report.peak_allocated_mib, 1),
        reserved_mib=round(report.peak_reserved_mib, 1),
        needed_mib=round(needed_of(report), 1),
        fits=_fits(report, means.budget, why_not),
        refusal=why_not,
        steps=steps,
        tokens=steps * work.rows * work.settings.context_length,
        valid_fraction=work.valid_fraction,
        flops=flops,
        seconds_per_step=seconds,
        utilisation=utilisation,
        hours=hours,
        evaluation_hours=evaluation,
        time_limit=None if hours is None else time_limit(hours),
        disk_mib=round(work.disk_mib(), 1),
        token_mib=work.token_mib,
    )


def _fits(report: MemoryReport, budget: Budget | None, why_not: str) -> str:
    if budget is None:
        return ""
    return "no" if why_not else "yes" if report.peak_reserved_mib <= budget.mib else "tight"


def _timed(work: Work, n_steps: int) -> float:
    """The median time of `n_steps` steps on the run's device, in seconds."""
    from stlm_kit.memory import measure_peak

    report = measure_peak(
        work.config,
        work.recipe,
        work.settings.batch_size,
        work.settings.context_length,
        valid_fraction=work.valid_fraction or 1.0,
        device=work.settings.device,
        accumulation_steps=work.settings.accumulation_steps,
        repeats=n_steps,
    )
    return report.step_s["median"]


@cache
def peak_of(semantics: Semantics, precision: str) -> tuple[float | None, str]:
    """(TFLOP/s, its source) of this machine's device. For CUDA without a GPU, of the slice that mig20 is named for."""
    import torch

    if semantics == "cpu":
        # A larger product gets closer to the peak, but takes 14 s on a processor without bf16.
        size = 256 if is_slow(precision) else 1024
        peak = measured_tflops(precision, size)
        how = f"measured just now by a product of two matrices of {size:,} x {size:,}"
        return peak, f"{precision}: {peak:.2g} TFLOP/s, {how}"
    name, multiprocessors = SLICE, SLICE_MULTIPROCESSORS
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        name, multiprocessors = properties.name, properties.multi_processor_count
    peak = peak_tflops(name, precision, multiprocessors)
    if peak is None:
        return (
            None,
            f"{precision}: no peak is known of {name} (known: {', '.join(CHIPS)}); --calibrate 50 measures hours",
        )
    return peak, f"{precision}: {peak:.3g} TFLOP/s, the data sheet's by {multiprocessors} multiprocessors of {name}"


def notes_on(costs: list[Cost], works: list[Work], means: Means) -> list[str]:
    """The assumptions of the table, one sentence each."""
    notes = []
    notes.append("Memory: predicted, in MiB, the whole step of the fullest batch in a thousand.")
    if means.budget:
        notes.append(f"Budget: {means.budget.mib:,.0f} MiB ({means.budget.source}).")
    if any(cost.fits == "tight" for cost in costs):
        notes.append(
            "tight: there is room for the step if the allocator gives blocks back at each, which takes some time."
        )
    peaks = dict.fromkeys(peak_of(means.semantics, work.recipe.precision)[1] for work in works)
    if means.calibrate:
        notes.append(f"Hours: the median of {means.calibrate} steps of each run, timed on this device.")
    else:
        notes.append(f"Hours: operations over {means.utilisation:.0%} of the peak.")
    notes += [f"Peak in {sentence}." for sentence in peaks]
    if any(cost.hours is not None and cost.evaluation_hours is None for cost in costs):
        notes.append("Evaluations are left out of the hours where the text is not on this machine.")
    if unknown := {work.settings.corpus for work in works if work.valid_fraction is None}:
        notes.append(
            f"The text of {', '.join(sorted(unknown))}, or its tokenizer, is not on this machine: each position counts "
            "as real, so memory is an upper bound; `stlm data get` fetches them."
        )
    if fitted := {work.settings.corpus for work in works if work.valid_fraction is not None and work.token_mib is None}:
        notes.append(
            f"The text of {', '.join(sorted(fitted))} is not on this machine; its share of real targets is taken "
            "as the one that fits the memory study's recorded peaks."
        )
    shared = {work.settings.corpus: work.token_mib for work in works if work.token_mib is not None}
    notes += [f"Token files of {name}: {mib:,.1f} MiB in the cache, once for all runs." for name, mib in shared.items()]
    for outputs in dict.fromkeys(filter(None, (work.kept_outputs() for work in works))):
        notes.append(
            f"Outputs of {outputs.teacher} ({outputs.what}) for {outputs.rows:,} rows are made by the first run that "
            f"reads them: {outputs.flops:.2e} operations and {outputs.mib:,.0f} MiB, which are in no run's figures."
        )
    notes.append(f"Limits: {MARGIN:g} times the hours and 10 minutes, for a slower node and start-up, in quarters.")
    notes += [f"{cost.name} cannot fit: it {cost.refusal}" for cost in costs if cost.fits == "no"]
    return notes
