"""The poster's distillation at laptop size: what its arms hold equal, and what its rows are compared by."""

from itertools import pairwise

import pytest

from stlm_kit.ledger.answers import computed
from stlm_kit.ledger.claims import find_claim, verdict
from stlm_kit.ledger.tuned_arms import tuned_arms
from stlm_kit.options import settings_from
from stlm_kit.reproduce.request import Request, plan
from stlm_kit.reproduce.results import rows_of
from stlm_kit.studies.poster import distillation
from stlm_kit.tables.intervals import Estimate


@pytest.fixture(scope="module")
def runs():
    return {run.name: run for run in plan(Request(["poster"]))}


def settings_of(runs, name):
    return settings_from(runs[name].parameters["settings"])


def without(settings, *names):
    return settings.model_dump(exclude={"learning_rate", "min_learning_rate", *names})


def test_arms_differ_in_what_they_learn_from_alone(runs):
    of_loss = type(settings_of(runs, "teacher").distillation).model_fields
    plain = without(settings_of(runs, "cross-entropy-seed-1"), *of_loss)
    for name in distillation.WAYS:
        assert without(settings_of(runs, f"{name}-seed-1"), *of_loss) == plain
    assert without(settings_of(runs, "cross-entropy-longer-seed-1"), "steps", *of_loss) == {
        name: value for name, value in plain.items() if name != "steps"
    }
    assert settings_of(runs, "cross-entropy-seed-1").distillation.is_plain
    pair = [without(settings_of(runs, f"{name}-seed-2"), *of_loss) for name in ("with-smollm2", "without-smollm2")]
    assert pair[0] == pair[1]


def test_the_longer_training_has_the_operations_of_student_and_teacher(runs):
    found, (short, long) = (
        distillation.operations(),
        (settings_of(runs, f"{name}-seed-1").steps for name in ("cross-entropy", "cross-entropy-longer")),
    )
    assert long / short == pytest.approx((found.student + found.beside) / found.student, rel=1e-3)
    assert found.training > 50 * found.student


def test_students_and_teacher_are_scored_on_the_same_documents(runs):
    of_text = ("corpus", "split_seed", "eval_documents", "spread_documents", "context_length")
    wanted = [getattr(settings_of(runs, "teacher"), name) for name in of_text]
    for name, run in runs.items():
        if "teacher" in run.needs or name.startswith(("cross-entropy", "label", "temperature", "with")):
            assert [getattr(settings_of(runs, name), each) for each in of_text] == wanted
    assert settings_of(runs, "teacher").train_documents is None


def test_rows_say_by_which_teacher_they_were_made():
    rows = {row["name"]: row for row in rows_of("poster")}
    taught = [row for row in rows.values() if row["configuration"].get("teacher") == "run:teacher"]
    assert len(taught) > 60 and "teacher" in rows
    assert len({row["asked"]["contents"]["teacher"] for row in taught}) == 1
    assert all(row["metrics"]["bits_per_byte"] > rows["teacher"]["metrics"]["bits_per_byte"] for row in taught)


def test_the_teacher_has_converged():
    """The last of its six evaluations gains little beside the first ones."""
    (row,) = [row for row in rows_of("poster") if row["name"] == "teacher"]
    scores = [bits for _, bits in row["metrics"]["held_out"]]
    gains = [before - after for before, after in pairwise(scores)]
    assert len(gains) == 5 and 0 < gains[-1] < 0.2 * gains[0]


def test_every_comparison_has_three_seeds():
    for found in (distillation.taught_minus_not(), distillation.ways_minus_labels(), distillation.kept_minus_full()):
        assert all(estimate.n == 3 for estimate in found.values())
    assert list(distillation.kept_minus_full()) == ["top-1", "top-8", "top-32", "top-128", "sampled-12"]
    assert set(distillation.WAYS) <= tuned_arms("poster").keys()


def test_the_claim_is_answered_and_stays_open_without_rows(monkeypatch):
    claim = find_claim("poster.trend.distillation")
    answer = computed(claim)
    assert verdict(claim, answer["found"], answer["by"], answer["missing"]) != "open"
    monkeypatch.setattr(distillation, "tuned_arms", lambda study: {})
    assert distillation.teaching_pays({}).found is None and distillation.taught_minus_not() == {}


def test_the_last_document_counts_alone():
    found = distillation.taught_minus_not(distillation.last_document)
    assert found.keys() == distillation.PAIRS.keys() and all(isinstance(each, Estimate) for each in found.values())
    assert found != distillation.taught_minus_not()
