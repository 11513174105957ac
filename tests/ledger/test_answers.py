"""Every arithmetic claim is answered by code that cannot see the published number, every setting has a user."""

from collections import Counter

import pytest

from stlm_kit import ledger
from stlm_kit.ledger import answers
from stlm_kit.ledger.answers import used_value
from stlm_kit.ledger.survey import survey as take_survey
from stlm_kit.reproduce.study_file import load_study

CLAIMS = {claim.id: claim for claim in ledger.load_claims()}
ARITHMETIC = [claim for claim in CLAIMS.values() if claim.kind == "arithmetic"]
EXPECTED = {"arithmetic": 150, "config": 122, "full_scale": 58, "trend": 50, "predictable": 26}  # of the four documents


def by_id(claim):
    return claim.id


def test_all_claims_of_the_four_documents_are_there():
    counts = Counter(claim.kind for claim in ledger.load_claims())
    merged = [merged for claim in CLAIMS.values() for merged in claim.merged]
    assert len(CLAIMS) == len(ledger.load_claims()), "an id stands twice"
    assert not CLAIMS.keys() & set(merged)
    assert sum(counts.values()) + len(merged) >= sum(EXPECTED.values())


def test_every_function_answers_a_claim():
    assert answers.functions().keys() <= CLAIMS.keys()


@pytest.mark.parametrize("claim", ARITHMETIC, ids=by_id)
def test_an_arithmetic_claim_is_answered_by_code_or_citation(claim):
    answer = ledger.computed(claim)
    assert answer is not None and (answer["found"] is not None or answer.get("missing"))
    assert ledger.row(claim, answer)["verdict"] not in ("open", "needs_gpu")


@pytest.mark.parametrize("claim", [c for c in CLAIMS.values() if c.id in answers.functions()], ids=by_id)
def test_a_published_number_moved_beyond_its_tolerance_is_contradicted(claim):
    answer = ledger.computed(claim)
    row = ledger.row(claim, answer)
    if row["verdict"] in ("contradicted", "underdetermined", "needs_gpu"):
        pytest.skip("it is not confirmed as printed")
    moved = claim.model_copy(update={"published": moved_away(claim)})
    assert ledger.row(moved, answer)["verdict"] == "contradicted"


def moved_away(claim):
    """The published value, farther off than any tolerance of the claim."""
    value = claim.value
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [str(part + (max(value) - min(value)) + 2 * claim.bound + 1) for part in value]
    if not ledger.is_number(value):
        return f"not {value}"
    away = 2 * claim.bound + max(abs(value), 1)
    return str(value - away if claim.compare == "at_most" else value + away)


@pytest.mark.parametrize("claim", [c for c in CLAIMS.values() if c.kind == "config"], ids=by_id)
def test_a_setting_is_used_where_the_ledger_says(claim):
    assert claim.used_by or claim.cited, "name the preset or study that uses it"
    if claim.used_by:
        assert ledger.row(claim, ledger.computed(claim))["verdict"] == "setting", used_value(
            claim.source, claim.used_by
        )


@pytest.mark.parametrize("claim", [c for c in CLAIMS.values() if ledger.is_number(c.value)], ids=by_id)
def test_a_number_has_a_unit(claim):
    assert claim.unit.strip() and claim.unit != "bool"


@pytest.mark.parametrize("claim", [c for c in CLAIMS.values() if c.kind == "full_scale"], ids=by_id)
def test_a_claim_for_a_gpu_has_its_run_or_says_why_not(claim):
    if ledger.computed(claim) is None:
        tied = claim.id in load_study(claim.source).measures
        assert tied or "no run of this kit" in claim.how, (
            f"{claim.id} needs a GPU: tie a run to it (`answers:` in {claim.source}.yaml), or say in its `how` why no "
            "run of this kit answers it."
        )


def test_the_committed_evidence_does_not_disagree_with_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("STLM_RUNS", str(tmp_path))
    assert take_survey().warnings == []


def test_an_unanswered_claim_never_reads_better_than_open(tmp_path, monkeypatch):
    monkeypatch.setenv("STLM_RUNS", str(tmp_path))
    for claim, row in zip(ledger.load_claims(), ledger.rows(), strict=True):
        if ledger.computed(claim) is None:
            assert row["verdict"] in ("open", "needs_gpu")
