"""The memory study's answers, checked a second way: printed cells and counts against what its runs recorded."""

import pytest

from stlm_kit import ledger
from stlm_kit.ledger import answers
from stlm_kit.memory.operations import step_operations
from stlm_kit.presets import preset
from stlm_kit.reproduce import results
from stlm_kit.reproduce.study_file import load_study
from stlm_kit.studies.memory import measured, model, predicted
from stlm_kit.studies.memory.tables import BATCH_SIZES, TECHNIQUES, at_each_batch_size, saving

RUNS = answers.evidence("memory")["runs"]
CLAIMS = {claim.id: claim for claim in ledger.load_claims("memory")}
CELL_NAMES = dict(zip(predicted.CLAIMED, predicted.TECHNIQUES.values(), strict=True))
WRONG_CELLS = {"base.bs64", "bf16.bs32", "bf16.bs64", "gradcp.bs32", "gradcp.bs64"}


def recorded_as(claim_id):
    """The run of the result files that a claim names."""
    return RUNS[CLAIMS[claim_id].setting["run"]]


def test_five_printed_peaks_are_neither_recorded_nor_predicted():
    cells = [f"{technique}.bs{size}" for technique in TECHNIQUES for size in BATCH_SIZES]
    rows = {row["id"]: row["verdict"] for row in ledger.rows("memory")}
    assert {cell for cell in cells if rows[f"mem.{cell}.peak_mb"] == "contradicted"} == WRONG_CELLS
    assert {rows[f"mem.{cell}.peak_mb"] for cell in cells} == {"contradicted", "predicted"}
    for cell in cells:
        recorded, published = recorded_as(f"mem.{cell}.peak_mb")["peak_mib"], CLAIMS[f"mem.{cell}.peak_mb"].value
        assert (abs(published - recorded) > 1) == (cell in WRONG_CELLS)


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_printed_times_and_perplexities_are_those_of_the_result_files_and_wait_for_a_gpu(technique):
    rows = {row["id"]: row for row in ledger.rows("memory")}
    for column, claim in (("epoch_s", "train_time_s"), ("validation_perplexity", "val_ppl")):
        claim_id = f"mem.{technique}.bs128.{claim}"
        assert recorded_as(claim_id)[column] == pytest.approx(CLAIMS[claim_id].value, abs=0.05)
        assert rows[claim_id]["verdict"] == "needs_gpu" and "no run of this kit answers it yet" in rows[claim_id]["how"]
        tie = load_study("memory").measures[claim_id]
        assert tie.run == f"{CELL_NAMES[technique]}-b128" and tie.device == ("RTX 5090" if column == "epoch_s" else "")


def test_predicted_savings_are_the_recorded_ones():
    for technique in ("bf16", "bf16_flash", "gradcp"):
        for size, share in predicted.savings(technique, "baseline").items():
            run, baseline = (RUNS[f"{name}_bs{size.split()[1]}"]["peak_mib"] for name in (technique, "baseline"))
            assert share == pytest.approx(saving(run, baseline), abs=0.1)


def test_what_windows_save_of_the_operations_is_counted_key_by_key():
    config = preset("memory-study")
    for length, window in ((255, 32), (40, 16)):
        seen = [min(i + 1, window + 1) for i in range(length)], range(1, length + 1)
        with_window, without = (sum(keys) * 4 * config.d_model * config.n_layers for keys in seen)
        rest = step_operations(config, "fp32", 1, length).forward - 4 * length**2 * config.d_model * config.n_layers
        expected = 100 * (1 - (with_window + rest) / (without + rest))
        assert model.operations_saved(config, length, window) == pytest.approx(expected)


def test_checkpointing_pays_the_more_the_deeper_and_the_less_the_head_weighs():
    deep, chunked = predicted.checkpointing_by_depth(), predicted.checkpointing_by_depth("chunked")
    assert list(deep.values()) == sorted(deep.values()) and all(chunked[n] > deep[n] for n in deep)
    assert predicted.peak("fp32-b128-vocabulary-10000") < predicted.peak("fp32-b128-vocabulary-20000")


def test_a_cell_that_nobody_predicted_leaves_its_claim_open(monkeypatch):
    monkeypatch.setattr(predicted, "predicted", lambda study: {})
    function = answers.functions()["mem.base.bs32.peak_mb"]
    assert answers.compute(function, CLAIMS["mem.base.bs32.peak_mb"].setting)["found"] is None


def test_pairs_of_a_laptop_share_all_but_one_setting():
    kept = [
        row for row in results.recorded("memory") if row["name"] in ("no-window", "window-16", "bf16", "checkpoint")
    ]
    plain = {row["seed"]: row for row in kept if row["name"] == "no-window"}
    assert len(plain) >= 3 and set(measured.changes("window-16")) == set(plain)
    for row in kept:
        ours, theirs = row["configuration"], plain[row["seed"]]["configuration"]
        assert len([name for name in ours if ours[name] != theirs[name]]) == (row["name"] != "no-window")
    same = next(row for row in kept if row["name"] == "checkpoint")
    assert same["metrics"]["perplexity"] == plain[same["seed"]]["metrics"]["perplexity"]  # it computes the same


def test_readings_that_disagree_stay_apart():
    assert measured._agreed({"seed 0": True, "seed 1": True}) is True
    assert measured._agreed({"seed 0": True, "seed 1": False}) == {"seed 0": True, "seed 1": False}


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
    counted = model.kept_by_blocks({"preset": "memory-study", "batch_size": batch_size})
    saved = RUNS[f"baseline_bs{batch_size}"]["peak_mib"] - RUNS[f"gradcp_bs{batch_size}"]["peak_mib"]
    assert counted == pytest.approx(saved, rel=5e-3)


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_logits_are_what_backward_leaves_beside_the_training_state(batch_size):
    left = RUNS[f"baseline_bs{batch_size}"]["after_backward_mib"]
    state = model.counted("memory-study")["total"] * model.STATE_BYTES / model.MIB
    logits = model.logits_mib({"preset": "memory-study", "batch_size": batch_size})
    assert logits + state == pytest.approx(left, abs=22)  # a workspace of about 20 MiB, whatever the batch size


@pytest.mark.parametrize(
    ("claim_id", "found"),
    [
        ("mem.exp.bs128_is_max", [221, 128]),
        ("mem.bf16.consistent_all_bs", [False, True]),
        ("mem.flash.best_single", [False, False, True]),
    ],
)
def test_where_two_fair_readings_differ_the_claim_is_underdetermined(claim_id, found):
    answer = answers.computed(CLAIMS[claim_id])
    assert list(answer["found"].values()) == found
    assert ledger.verdict_of(CLAIMS[claim_id], answer) == "underdetermined"
