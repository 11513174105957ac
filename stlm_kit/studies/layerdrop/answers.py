"""Answers to the arithmetic claims of the source `layerdrop`: sizes, drop schedules, distillation, ZeRO, the plan."""

from __future__ import annotations

import math
from datetime import date
from functools import cache
from itertools import count
from statistics import fmean

import torch
from scipy import stats

from stlm_kit.ledger.answers import Answer, answers
from stlm_kit.model import Decoder, count_parameters
from stlm_kit.presets import preset
from stlm_kit.studies.poster.answers import unstated

answers("ld.config.missing")(unstated)  # the poster leaves out the same kind of setting


# The model


def build(**overrides) -> Decoder:
    """The preset layerdrop-12 on the meta device: shapes without memory."""
    with torch.device("meta"):
        return Decoder(preset("layerdrop-12", **overrides))


@cache
def size(**overrides) -> int:
    """Parameters of the preset layerdrop-12 with overrides, counted by storage."""
    return count_parameters(build(**overrides))


def sizes(readings: dict[str, dict]) -> dict[str, int]:
    """Parameters of the preset under each reading of what the text leaves out."""
    return {reading: size(**overrides) for reading, overrides in readings.items()}


@answers("ld.params.block")
def block_size(setting):
    """The parameters of one block of the preset layerdrop-12, counted by storage."""
    return count_parameters(build(**setting, n_layers=1).blocks[0])


@answers("ld.params.total")
def model_size(setting):
    """The preset layerdrop-12 under four readings, counted by storage."""
    return Answer(sizes(setting["readings"]), missing="the vocabulary and whether the head is tied")


@answers("ld.title")
def has_trillions_of_parameters(setting):
    """Whether any reading of the model is as large as the title says."""
    largest = max(sizes(setting["readings"]).values())
    times = setting["announced_parameters"] / largest
    how = f"the largest reading has {largest:,} parameters, {times:,.0f} times fewer than a trillion"
    return Answer(times <= 1, how=how)


# LayerDrop and its schedules: rates at a step from 0 to `steps`, from `start` to `end`


def linear(step: int, start: float, end: float, steps: int) -> float:
    """The rate at `step` on a straight line from `start` to `end`."""
    return end + (start - end) * (1 - step / steps)


def cosine(step: int, start: float, end: float, steps: int) -> float:
    """The rate at `step` on half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * step / steps)) / 2


SCHEDULES = {"linear": linear, "cosine": cosine}
QUARTERS = (0, 25000, 50000, 75000, 100000)


@answers(*(f"ld.sched.linear.{step}" for step in QUARTERS))
def linear_rate(setting):
    """The end plus what is left of the way down: end + (start - end) (1 - t / T)."""
    return linear(**setting)


@answers(*(f"ld.sched.cosine.{step}" for step in QUARTERS))
def cosine_rate(setting):
    """Half a cosine: end + (start - end) (1 + cos(pi t / T)) / 2."""
    return cosine(**setting)


@answers("ld.depth.static", "ld.depth.final")
def layers_that_run(setting):
    """Each of the layers is kept with 1 - p: n (1 - p) run on average."""
    return setting["n_layers"] * (1 - setting["layerdrop"])


def mean_rate(schedule, setting) -> float:
    """The mean over steps 0 to T."""
    way = {name: setting[name] for name in ("start", "end", "steps")}
    return fmean(schedule(step, **way) for step in range(setting["steps"] + 1))


@answers("ld.depth.schedule_mean")
def mean_rates(setting):
    """The mean of each schedule over its steps; both are symmetric about the middle."""
    return {name: mean_rate(schedule, setting) for name, schedule in SCHEDULES.items()}


@answers("ld.trend.ld_speed_expected")
def compute_saved(setting):
    """A skipped block costs nothing, so the mean drop rate is saved: static first, then a schedule."""
    return [100 * setting["layerdrop"], 100 * mean_rate(cosine, setting)]


@answers("ld.sched.spans_training")
def step_of_the_final_rate(setting):
    """The first training step at which each schedule is as low as its end."""
    way = {name: setting[name] for name in ("start", "end", "steps")}
    training = range(setting["training_steps"] + 1)
    return {
        name: next((step for step in training if schedule(step, **way) <= way["end"]), None)
        for name, schedule in SCHEDULES.items()
    }


# Distillation, data, measures


@answers("ld.kd.weights_sum")
def weights_sum(setting):
    """The weights of the cross-entropy and of the KL divergence, added."""
    return setting["ce_weight"] + setting["kl_weight"]


@answers("ld.kd.teacher_same_size")
def depths(setting):
    """The layers of the presets of teacher and student."""
    return [preset(setting["teacher"]).n_layers, preset(setting["student"]).n_layers]


@answers("ld.lr.warmup_pct")
def warmup_share(setting):
    """The warm-up's steps over all steps."""
    return 100 * setting["warmup_steps"] / setting["steps"]


@answers("ld.wt103.epochs")
def passes_over_the_corpus(setting):
    """The tokens that a training reads over the tokens of the corpus, at three lengths of a row, on one GPU."""
    rows = setting["batch_size"] * setting["n_gpus"] * setting["steps"]
    passes = {
        f"{length} tokens a row": rows * length / setting["corpus_tokens"] for length in setting["context_lengths"]
    }
    return Answer(passes, missing="the sequence length and the number of GPUs")


@answers("ld.ppl.target_vs_expected")
def worst_expected_end(setting):
    """The upper end of the perplexities that the baseline is expected to end at."""
    return max(setting["expected_final"])


def runs_to_tell_apart(ratio: float, confidence: float) -> int:
    """The fewest runs of each variant at which an F test tells a standard deviation from one `ratio` times as large."""
    return next(n for n in count(2) if ratio**2 >= stats.f.ppf((1 + confidence) / 2, n - 1, n - 1))


@answers("ld.robust.n3")
def runs_needed(setting):
    """The runs that an F test of two standard deviations needs, for several ratios between them."""
    needed = {f"{ratio:g} times": runs_to_tell_apart(ratio, setting["confidence"]) for ratio in setting["ratios"]}
    freedom, tail = setting["planned_runs"] - 1, (1 - setting["confidence"]) / 2
    low, high = (math.sqrt(freedom / stats.chi2.ppf(share, freedom)) for share in (1 - tail, tail))
    how = f"an F test at 95 %; over three runs the true deviation is {low:.2f} to {high:.1f} times the one found"
    return Answer(needed, how=how, missing="how large a difference between two deviations should show")


# ZeRO stage 2


@answers("ld.zero2.reduction")
def saves_on_every_number_of_gpus(setting):
    """Whether the states of a parameter shrink on each number of GPUs: what is kept plus what is divided by N."""
    states = {n: setting["bytes_kept"] + setting["bytes_divided"] / n for n in setting["n_gpus"]}
    undivided = setting["bytes_kept"] + setting["bytes_divided"]
    how = "bytes a parameter: " + ", ".join(f"{states[n]:g} on {n}" for n in states) + f"; {undivided} without ZeRO"
    return Answer(all(state < undivided for state in states.values()), how=how)


@answers("ld.zero2.needed")
def states_overflow_the_gpu(setting):
    """Whether the undivided states of the largest reading are more than the GPU holds."""
    states_gb = max(sizes(setting["readings"]).values()) * setting["bytes_per_parameter"] / 1e9
    how = f"the undivided states of the largest reading take {states_gb:.1f} of {setting['gpu_gb']} GB"
    return Answer(states_gb > setting["gpu_gb"], how=how)


# Plan and form


@answers("ld.plan.weeks_sum", *(f"ld.plan.phase{phase}_weeks" for phase in (1, 2, 3, 5)))
def calendar_weeks(setting):
    """The days from the first date to the last, both included, over 7."""
    return ((date.fromisoformat(setting["end"]) - date.fromisoformat(setting["start"])).days + 1) / 7


@answers("ld.plan.phase4_weeks")
def weeks_of_its_own(setting):
    """The days from the first date to the last over 7; and without the days that other phases take as well."""
    alone = date.fromisoformat(setting["buffer_start"]) - date.fromisoformat(setting["phase_3_end"])
    return {
        "from its first day to its last": calendar_weeks(setting),
        "without the days shared with phase 3 and the buffer": (alone.days - 1) / 7,
    }


@answers("ld.plan.numbering")
def numbered_in_order(setting):
    """Whether the headings, in the order of the text, are sorted and none comes twice."""
    numbers = [tuple(int(part) for part in heading.split(".")) for heading in setting["headings"]]
    return numbers == sorted(set(numbers))


@answers("ld.plan.fixed_vs_scheduled")
def may_differ_between_arms(setting):
    """Whether what phase 3 compares is something that the setup lets differ between experiments."""
    return setting["compared"] not in setting["held_constant"]
