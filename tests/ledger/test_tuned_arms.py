"""Arms whose rate was searched: which rate counts, which runs, and how a paired difference is read."""

import pytest

from stlm_kit.ledger.claims import find_claim, verdict
from stlm_kit.ledger.tuned_arms import (
    at_the_start,
    bits,
    decided,
    difference,
    in_words,
    lower_in,
    mean_loss,
    steps_until,
    tuned_arms,
)
from stlm_kit.tables.intervals import Estimate


def row(arm, rate, seed, bits_per_byte, curve=(7.0, 6.0, 5.0), status="done"):
    return {
        "profile": "laptop",
        "labels": {"arm": arm},
        "status": status,
        "seed": seed,
        "configuration": {"learning_rate": rate, "overrides": {}},
        "metrics": {
            "bits_per_byte": bits_per_byte,
            "first_losses": [7.6, 7.5, 7.4],
            "curve_steps": 10,
            "curve": list(curve),
        },
    }


SEARCH = [row("a", 1e-3, 0, 2.2), row("a", 2e-3, 0, 2.0), row("a", 4e-3, 0, 2.1)]


def test_an_arm_has_the_best_rate_of_its_search_and_every_other_seed_at_it():
    seeds = [row("a", 2e-3, 1, 2.02), row("a", 2e-3, 2, 2.04), row("a", 1e-3, 3, 1.0)]
    arm = tuned_arms("x", [*SEARCH, *seeds])["a"]
    assert arm.rate == 2e-3
    assert arm.searched == {1e-3: 2.2, 2e-3: 2.0, 4e-3: 2.1}
    assert list(arm.metrics) == [1, 2]
    assert arm.estimate(bits).mean == pytest.approx(2.03)


def test_rows_without_an_arm_or_of_another_size_or_out_of_memory_do_not_count():
    other = [{**SEARCH[0], "labels": {}}, {**SEARCH[0], "profile": "mig20", "seed": 1}]
    rows = [*SEARCH, *other, row("a", 2e-3, 1, 9.0, status="out_of_memory")]
    assert list(tuned_arms("x", rows)["a"].metrics) == []
    assert tuned_arms("x", [row("b", 1e-3, 1, 2.0)]) == {}  # no search


def test_differences_are_paired_by_seed():
    theirs = [row("b", 1e-3, 0, 2.9), row("b", 1e-3, 1, 2.5), row("b", 1e-3, 2, 2.6), row("b", 1e-3, 7, 9.0)]
    arms = tuned_arms("x", [*SEARCH, row("a", 2e-3, 1, 2.0), row("a", 2e-3, 2, 2.2), *theirs])
    assert difference(arms["a"], arms["b"]).values == pytest.approx((-0.5, -0.4))


def test_numbers_of_a_loss_curve():
    metrics = row("a", 1e-3, 0, 2.0, curve=(7.0, 6.0, 5.0, 4.0))["metrics"]
    assert at_the_start(metrics) == 7.6
    assert mean_loss(1, 20)(metrics) == 6.5
    assert mean_loss(11, 20)(metrics) == 6.0
    assert mean_loss(5, 15)(metrics) == 6.5  # every point that the steps touch
    assert steps_until(6.0)(metrics) == 20
    assert steps_until(1.0)(metrics) == 40


@pytest.mark.parametrize(
    ("values", "is_lower"),
    [((-0.5, -0.4, -0.45), True), ((0.5, 0.4, 0.45), False), ((0.5, -0.4, 0.1), None), ((-0.5,), None)],
)
def test_a_difference_is_decided_by_its_whole_interval(values, is_lower):
    assert decided(Estimate(values)) is is_lower


def test_differences_that_agree_are_one_answer_and_others_leave_the_claim_open():
    claim = find_claim("poster.trend.bottleneck_final")
    down, up, unclear = Estimate((-0.5, -0.4, -0.45)), Estimate((0.5, 0.4, 0.45)), Estimate((0.5, -0.4, 0.1))

    def judged(**differences):
        answer = lower_in(differences, "held-out", "bits a byte")
        return verdict(claim, answer.found, answer.by, answer.missing)

    assert judged(one=down, other=down) == "confirmed"
    assert judged(one=up, other=up) == "contradicted"
    assert judged(one=up) == "contradicted"
    assert judged(one=up, other=down) == "underdetermined"
    assert judged(one=unclear) == "underdetermined"
    assert judged(one=down, other=unclear) == "underdetermined"
    assert judged() == "open"


def test_a_difference_in_words():
    assert in_words(Estimate((-0.5, -0.4, -0.45))) == "-0.45 ± 0.12"
    assert in_words(Estimate((0.25,))) == "+0.2500"
