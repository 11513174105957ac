"""What chapter 04 calls: cells and times of the study, and small steps that are measured."""

import pytest
import torch

import stlm_kit as kit
from stlm_kit.memory import measure_step
from stlm_kit.model.attention import eager
from stlm_kit.studies.memory import lesson, small_steps
from stlm_kit.training.loss import chunked_loss, plain_loss
from stlm_kit.training.recipe import Recipe


def test_the_chapter_shows_cells_of_the_table_as_printed_recorded_and_predicted():
    cells = lesson.table_cells()
    assert [size for size, *_ in cells["FP32"]] == [32, 64, 128]
    _, printed, recorded, predicted = cells["FP32"][2]
    assert (
        printed == 18_959 and recorded == pytest.approx(18_959, abs=1) and predicted == pytest.approx(18_959, rel=1e-3)
    )


def test_the_two_readings_of_a_step_disagree_by_what_the_recorded_steps_leave_out():
    times = lesson.step_times()["FP32"]
    assert times["step as read"] / times["epoch / steps"] == pytest.approx(lesson.recorded_share("FP32"), abs=0.03)


def test_each_technique_s_peak_is_the_sum_of_its_parts_and_the_watched_step_is_the_predicted_one():
    for name, (_, _, recipe) in lesson.ROWS.items():
        whole = lesson.study_step(recipe).peak_allocated_mib
        assert sum(lesson.parts_of_the_peak()[name].values()) == pytest.approx(whole, rel=1e-3)
    watched = lesson.watched_step("fp32+eager+study").report  # of batches with the mean padding, not of a spread
    assert watched.peak_allocated_mib == pytest.approx(
        lesson.study_step("fp32+eager+study").peak_allocated_mib, rel=1e-3
    )


def test_the_recorded_windows_change_flashattention_s_peak_by_next_to_nothing():
    effects = lesson.window_effects()
    assert len(effects) == 6 and 0 < max(map(abs, effects)) < 0.0005


def test_the_sizes_of_both_profiles_can_be_measured():
    assert small_steps.SIZES["laptop"].keys() == small_steps.SIZES["mig20"].keys()
    for sizes in small_steps.SIZES.values():
        kit.preset("memory-study", **sizes["model"])


def test_every_recipe_that_the_widget_offers_exists():
    for recipe in lesson.CHOICES.values():
        Recipe.named(recipe)


def test_the_peak_is_at_the_loss_until_the_loss_is_chunked():
    assert lesson.module_at_peak(lesson.packed_step("fp32+eager")) == ""
    assert lesson.module_at_peak(lesson.packed_step("fp32+sdpa+checkpoint+chunked")).startswith("blocks.")


def test_score_matrices_are_counted_by_their_shape():
    assert lesson.score_matrices("fp32+eager", 40) > 0


def test_random_losses_are_the_same_for_the_same_seed_and_leave_torchs_generator_alone():
    before = torch.get_rng_state()
    plain, chunked = (small_steps.loss_and_gradients(loss, seed=1) for loss in (plain_loss, chunked_loss))
    assert torch.equal(before, torch.get_rng_state())
    for mine, kits in zip(plain, chunked, strict=True):
        torch.testing.assert_close(mine, kits)
    assert not torch.equal(plain[0], small_steps.loss_and_gradients(plain_loss, seed=2)[0])


def test_small_steps_can_be_measured():
    config = kit.preset("memory-study", d_model=16, n_heads=2, d_ff=32, n_layers=2, context_length=8)
    steps = {
        "head": (small_steps.head_step(plain_loss, 16), lambda: torch.nn.Linear(4, 50)),
        "attention": (small_steps.attention_step(eager, 16, "cpu"), dict),
        "blocks": (small_steps.block_step(lambda b, x: b(x), 2, config), lambda: small_steps.new_blocks(config, "cpu")),
    }
    for step, build in steps.values():
        assert measure_step(build, step, device="cpu", repeats=0).peak_allocated_mib > 0


def test_checkpointed_blocks_have_the_gradients_of_blocks_that_keep_everything():
    config = kit.preset("memory-study", d_model=16, n_heads=2, d_ff=32, n_layers=2, context_length=8)
    kept, again = (small_steps.block_gradients(lambda b, x: b(x), config, "cpu", how) for how in ("none", "layer"))
    assert kept and kept.keys() == again.keys()
    for name in kept:
        torch.testing.assert_close(kept[name], again[name])
