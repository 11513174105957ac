"""The memory study's answers, checked a second way: printed cells and counts against what its runs recorded."""

import pytest

from stlm_kit.studies import answers, ledger
from stlm_kit.studies.answers import memory
from stlm_kit.studies.answers.memory_tables import BATCH_SIZES, TECHNIQUES, at_each_batch_size, saving

RUNS = answers.evidence("memory")["runs"]
CLAIMS = {claim.id: claim for claim in ledger.load_claims("memory")}
WRONG_CELLS = {"base.bs64", "bf16.bs32", "bf16.bs64", "gradcp.bs32", "gradcp.bs64"}


def recorded_as(claim_id):
    """The run of the result files that a claim names."""
    return RUNS[CLAIMS[claim_id].setting["run"]]


def test_five_printed_peaks_are_not_what_the_runs_recorded():
    cells = [f"{technique}.bs{size}" for technique in TECHNIQUES for size in BATCH_SIZES]
    rows = {row["id"]: row["verdict"] for row in ledger.rows("memory")}
    assert {cell for cell in cells if rows[f"mem.{cell}.peak_mb"] == "contradicted"} == WRONG_CELLS


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_claim_names_the_run_of_its_own_batch_size(technique):
    assert [recorded_as(f"mem.{technique}.bs{size}.peak_mb")["batch_size"] for size in BATCH_SIZES] == list(BATCH_SIZES)


@pytest.mark.parametrize("technique", TECHNIQUES[1:])
def test_the_percentages_of_the_summary_follow_from_the_recorded_runs_too(technique):
    run, baseline = recorded_as(f"mem.{technique}.bs128.peak_mb"), RUNS["baseline_bs128"]
    for column, claim in (("peak_mib", "reduction_pct"), ("epoch_s", "speed_pct")):
        published = CLAIMS[f"mem.{technique}.bs128.{claim}"].value
        assert saving(run[column], baseline[column]) == pytest.approx(published, abs=0.05)


@pytest.mark.parametrize("technique", ["baseline", "bf16", "bf16_flash", "bf16_window16", "bf16_window32", "gradcp"])
def test_recorded_peaks_lie_on_a_line(technique):
    small, middle, large = (run["peak_mib"] for run in at_each_batch_size(technique))
    assert small + (large - small) / 3 == pytest.approx(middle, rel=2e-3)


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_counted_activations_are_what_checkpointing_saved(batch_size):
    counted = memory.kept_by_blocks({"preset": "memory-study", "batch_size": batch_size})
    saved = RUNS[f"baseline_bs{batch_size}"]["peak_mib"] - RUNS[f"gradcp_bs{batch_size}"]["peak_mib"]
    assert counted == pytest.approx(saved, rel=5e-3)


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_logits_are_what_backward_leaves_beside_the_training_state(batch_size):
    left = RUNS[f"baseline_bs{batch_size}"]["after_backward_mib"]
    state = memory.counted("memory-study")["total"] * memory.STATE_BYTES / memory.MIB
    logits = memory.logits_mib({"preset": "memory-study", "batch_size": batch_size})
    assert logits + state == pytest.approx(left, abs=22)  # a workspace of about 20 MiB, whatever the batch size
