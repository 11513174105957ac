"""What the schedules and the F test of the LayerDrop answers promise."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stlm_kit.studies.layerdrop.answers import SCHEDULES, runs_to_tell_apart


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@given(start=st.floats(0.01, 0.9), end=st.floats(0.0, 0.9), steps=st.integers(2, 1000))
@settings(max_examples=30)
def test_a_schedule_joins_its_ends_and_is_symmetric_about_the_middle(schedule, start, end, steps):
    rates = [schedule(step, start, end, steps) for step in range(steps + 1)]
    assert rates[0] == pytest.approx(start) and rates[-1] == end
    assert sorted(rates, reverse=start > end) == pytest.approx(rates)
    assert [a + b for a, b in zip(rates, reversed(rates), strict=True)] == pytest.approx([start + end] * len(rates))


@pytest.mark.parametrize("fewer", [0, 1])
def test_the_f_test_has_the_fewest_runs_with_false_alarms_below_five_in_a_hundred(fewer):
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 40000, runs_to_tell_apart(2, 0.95) - fewer, generator=generator).std(2)
    false_alarms = ((first / second).log2().abs() > 1).float().mean()  # a twofold difference where there is none
    assert (false_alarms < 0.05) == (fewer == 0)
