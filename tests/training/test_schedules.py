"""Schedules are pure functions of the step: their ends are exact, their middles are what the formula says."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stlm_kit.errors import UsageError
from stlm_kit.training.schedules import Schedule

RATES = st.floats(1e-6, 1.0)


def warmup_cosine(step, *, steps, warmup_steps, peak, minimum):
    plan = Schedule(kind="cosine", start=peak, end=minimum, steps=steps, warmup_steps=warmup_steps, begin=warmup_steps)
    return plan.at(step)


def warmup_constant(step, *, warmup_steps, peak):
    return Schedule(start=peak, warmup_steps=warmup_steps).at(step)


def ramp(step, *, start, end, steps):
    return Schedule(kind="linear", start=start, end=end, steps=steps).at(step)


@settings(max_examples=50)
@given(warmup=st.integers(1, 500), rest=st.integers(1, 5000), peak=RATES, share=st.floats(0, 1))
def test_a_cosine_rises_to_its_peak_and_ends_exactly_at_its_minimum(warmup, rest, peak, share):
    def rate(step):
        return warmup_cosine(step, steps=warmup + rest, warmup_steps=warmup, peak=peak, minimum=share * peak)

    assert rate(1) == pytest.approx(peak / warmup)
    assert rate(warmup) == peak
    assert rate(warmup + rest) == share * peak
    assert rate(warmup) >= rate(warmup + 1) >= rate(warmup + rest)


def test_half_way_down_the_cosine_is_the_middle():
    middle = warmup_cosine(60, steps=100, warmup_steps=20, peak=1.0, minimum=0.2)
    assert middle == pytest.approx(0.6, abs=1e-12)
    quarter = warmup_cosine(40, steps=100, warmup_steps=20, peak=1.0, minimum=0.2)
    assert quarter == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2, abs=1e-12)


def test_without_warm_up_the_first_step_is_already_on_the_cosine():
    rate = [warmup_cosine(step, steps=4, warmup_steps=0, peak=1.0, minimum=0.0) for step in (1, 2, 3, 4)]
    assert rate == pytest.approx([0.5 * (1 + math.sqrt(0.5)), 0.5, 0.5 * (1 - math.sqrt(0.5)), 0.0], abs=1e-12)


def test_the_schedule_of_super_tiny_language_models():
    stlm = {"steps": 25_000, "warmup_steps": 5_000, "peak": 6e-4, "minimum": 6e-5}
    assert warmup_cosine(1, **stlm) == pytest.approx(1.2e-7)
    assert warmup_cosine(5_000, **stlm) == 6e-4
    assert warmup_cosine(15_000, **stlm) == pytest.approx(3.3e-4)
    assert warmup_cosine(25_000, **stlm) == 6e-5


def test_a_constant_rate_after_its_warm_up():
    rates = [warmup_constant(step, warmup_steps=4, peak=8.0) for step in (1, 2, 4, 5, 10**6)]
    assert rates == [2.0, 4.0, 8.0, 8.0, 8.0]
    assert warmup_constant(1, warmup_steps=0, peak=1e-3) == 1e-3


@settings(max_examples=50)
@given(start=st.floats(0, 0.9), end=st.floats(0, 0.9), steps=st.integers(1, 1000), step=st.integers(1, 2000))
def test_a_ramp_stays_between_its_ends(start, end, steps, step):
    low, high = sorted((start, end))
    assert low - 1e-12 <= ramp(step, start=start, end=end, steps=steps) <= high + 1e-12
    assert ramp(max(steps, step), start=start, end=end, steps=steps) == end


def test_a_ramp_is_straight():
    rates = [ramp(step, start=0.0, end=0.4, steps=5) for step in (1, 2, 3, 4, 5)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_a_cosine_between_two_rates_starts_at_the_first_and_averages_the_middle():
    """A dropping rate of 0.2 that ends at 0.05, as the LayerDrop proposal plans it: 0.125 on average."""
    rates = [Schedule(kind="cosine", start=0.2, end=0.05, steps=1001).at(step) for step in range(1, 1002)]
    assert (rates[0], rates[-1]) == (0.2, 0.05) and rates == sorted(rates, reverse=True)
    assert sum(rates) / len(rates) == pytest.approx(0.125, abs=1e-12)


@pytest.mark.parametrize("wrong", [{"kind": "stairs"}, {"steps": 0}, {"warmup_steps": -1}, {"start": float("nan")}])
def test_a_schedule_that_cannot_be_is_one_sentence(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Schedule(**{"start": 1.0, **wrong})
