"""The study's eighteen recorded means, of which four serve to find out how much of its data was padding."""

import pytest

from stlm_kit.ledger.answers import evidence
from stlm_kit.memory import predict_peak
from stlm_kit.studies.memory.padding import (
    SHARE_FROM,
    SPREAD_FROM,
    STUDY_DEVICE,
    STUDY_PADDING,
    fit_padding,
    recorded_step,
)

RUNS = evidence("memory")["runs"]


@pytest.mark.parametrize("name", RUNS)
def test_a_recorded_run(name):
    run = RUNS[name]
    report = predict_peak(*recorded_step(run), *STUDY_PADDING, device=STUDY_DEVICE)
    assert report.peak_allocated_mib == pytest.approx(run["peak_mib"], rel=1e-3)
    assert report.after_forward_mib == pytest.approx(run["after_forward_mib"], rel=1e-3)
    # Parameters, gradients, moments, the kept logits, workspaces. What is cut off too small stays with its block, up to
    # 1 MiB each, by the padding of the steps before, which is not known (with known padding: test_measured_on_gpu.py).
    assert report.after_backward_mib == pytest.approx(run["after_backward_mib"], rel=2e-4)


def test_padding_is_what_four_means_say():
    share, spread = fit_padding({name: RUNS[name] for name in (*SHARE_FROM, SPREAD_FROM)})
    assert share == pytest.approx(STUDY_PADDING.valid_fraction, abs=2e-4)
    assert spread == pytest.approx(STUDY_PADDING.valid_fraction_std, abs=2e-3)


def test_uneven_padding_raises_the_mean_peak():
    """The peak is convex in the share of real targets, so its mean lies above the peak at the mean."""
    step = recorded_step(RUNS["bf16_bs32"])
    even = predict_peak(*step, STUDY_PADDING.valid_fraction, device=STUDY_DEVICE)
    uneven = predict_peak(*step, *STUDY_PADDING, device=STUDY_DEVICE)
    assert uneven.peak_allocated_mib > even.peak_allocated_mib + 20
    assert uneven.after_backward_mib == pytest.approx(even.after_backward_mib, rel=1e-6)


def test_checkpointing_brings_a_biased_product_into_the_backward_pass():
    """The 1.00 MiB between the study's checkpointed and plain runs after the backward pass, at every batch size."""
    for batch_size in (32, 64, 128):
        plain, checkpointed = (RUNS[f"{kind}_bs{batch_size}"]["after_backward_mib"] for kind in ("baseline", "gradcp"))
        assert checkpointed - plain == pytest.approx(1.0, abs=0.01)
    reports = [
        predict_peak("memory-study", f"fp32+eager+study{more}", 2, 255, device=STUDY_DEVICE)
        for more in ("", "+checkpoint")
    ]
    assert reports[1].after_backward_mib - reports[0].after_backward_mib == pytest.approx(1.0, abs=0.01)
