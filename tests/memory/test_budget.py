"""The largest batch in a budget: predicted, and tried on a real device."""

import random
import weakref

import pytest
import torch

from stlm_kit.errors import KitError, UsageError
from stlm_kit.memory import budget, measure, predict_peak
from stlm_kit.memory.devices import DEVICES
from stlm_kit.presets import preset
from stlm_kit.training.recipe import Recipe

SMALL = preset("laptop-llama", n_layers=1, vocab_size=512)


def test_the_search_finds_the_edge_of_any_growing_size():
    """Straight lines, lines in blocks of 2 and 20 MiB, and curves; never more than a bisection's few dozen looks."""
    draw = random.Random(0)
    for _ in range(400):
        start, slope, power = draw.uniform(0, 500), 10 ** draw.uniform(-2, 3), draw.choice([1.0, 0.7, 1.4])
        block = draw.choice([1e-9, 2, 20])
        looks = []

        def size_of(n, start=start, slope=slope, power=power, block=block, looks=looks):
            looks.append(n)
            return -(-(start + slope * n**power) // block) * block

        limit, most = draw.uniform(1, 30_000), draw.choice([1, 2, 64, 2**20])
        found = budget._last_that_fits(size_of, limit, most)
        assert len(looks) <= 45 and 0 <= found <= most
        assert found == 0 or size_of(found) <= limit
        assert found == most or size_of(found + 1) > limit


def test_the_largest_batch_fits_and_one_row_more_does_not():
    recipe = Recipe.named("fp32+chunked")
    found = budget.largest_batch(SMALL, recipe, 40.0, 64)
    at, above = (predict_peak(SMALL, recipe, size, 64, span="step").peak_reserved_mib for size in (found, found + 1))
    assert at <= 40.0 < above
    assert budget.largest_batch(SMALL, recipe, 1.0, 64) == 0
    assert budget.largest_batch(SMALL, recipe, 40.0, 64, most=found - 1) == found - 1


def test_a_20_gb_slice_holds_2700_rows_of_the_memory_study():
    leanest = Recipe.named("fp32+chunked+checkpoint")
    assert leanest.exactness == "exact"
    most = budget.largest_batch(preset("memory-study"), leanest, DEVICES["mig-20gb"].usable_mib, 256)
    assert 2700 <= most < 4000


def test_budgets_by_name_and_by_size():
    assert budget.find_budget("8,000").mib == budget.find_budget("8000").mib == 8000
    named = budget.find_budget("mig-20gb")
    assert 0.85 * 19_968 < named.mib < 1.1 * 19_968 and named.source
    if not torch.cuda.is_available():
        assert named.mib == 19_468
        assert budget.find_budget("rtx-4090").mib == DEVICES["rtx-4090"].usable_mib == 24_176 - 500
        with pytest.raises(KitError, match="no CUDA device"):
            budget.find_budget("device")


@pytest.mark.parametrize("name", ["mig-20g", "0", "-5", "nan", "inf", ""])
def test_budgets_that_cannot_be(name):
    with pytest.raises(UsageError, match=r"There is no budget .*mig-20gb or .* or device.*MiB"):
        budget.find_budget(name)


@pytest.mark.parametrize("mib", [0, -1.0, float("nan"), float("inf"), True, "9000"])
def test_sizes_that_cannot_be(mib):
    with pytest.raises(UsageError, match="will not do"):
        budget.largest_batch(SMALL, Recipe(), mib)


def test_trial_on_the_cpu_agrees_with_prediction():
    recipe = Recipe.named("fp32+chunked")
    three = predict_peak(SMALL, recipe, 3, 64, span="step", semantics="cpu").peak_allocated_mib
    assert budget.find_largest_batch(SMALL, recipe, 64, device="cpu", limit_mib=1.005 * three) == 3
    assert budget.find_largest_batch(SMALL, recipe, 64, device="cpu", limit_mib=1.0) == 0


def test_trials_that_cannot_be():
    with pytest.raises(UsageError, match="give limit_mib"):
        budget.find_largest_batch(SMALL, Recipe(), 64, device="cpu")
    with pytest.raises(UsageError, match="cuda or cpu, not on 'mps'"):
        budget.find_largest_batch(SMALL, Recipe(), 64, device="mps")
    if not torch.cuda.is_available():
        with pytest.raises(KitError, match="no CUDA device"):
            budget.find_largest_batch(SMALL, Recipe(), 64)


def test_a_function_that_ran_out_of_memory_holds_no_tensors_any_more():
    """While its exception unwinds, its frames hold what they allocated."""
    held = []

    def run():
        tensor = torch.zeros(8)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    assert budget.ran_out_of_memory(run) and held[0]() is None
    assert not budget.ran_out_of_memory(lambda: None)
    with pytest.raises(RuntimeError, match="something else"):
        budget.ran_out_of_memory(lambda: (_ for _ in ()).throw(RuntimeError("something else")))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_trial_on_a_gpu_leaves_it_clean():
    recipe = Recipe.named("fp32+chunked+checkpoint")
    measure.empty_gpu()
    before = torch.cuda.memory_allocated()
    tried = budget.find_largest_batch(preset("memory-study"), recipe, 256, limit_mib=4000.0)
    assert torch.cuda.memory_allocated() == before
    assert torch.ones(2**28, device="cuda").numel()  # 1 GiB: the limit is lifted
    assert tried == pytest.approx(budget.largest_batch(preset("memory-study"), recipe, 4000.0, 256), rel=0.05)
