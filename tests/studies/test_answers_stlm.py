"""The answers of the source `stlm`, checked another way: closed formulas, exact tests, the public code's own counts."""

import pytest
from scipy.stats import binomtest

from stlm_kit import ledger
from stlm_kit.ledger.answers import evidence
from stlm_kit.reproduce.study_file import load_study
from stlm_kit.studies.stlm.model import counted, vocabulary_share
from stlm_kit.studies.stlm.tables import passes
from stlm_kit.training import TrainingSettings


@pytest.mark.parametrize("n_kv_heads", [16, 4])
@pytest.mark.parametrize("tied", [True, False])
def test_table_1_by_formula(n_kv_heads, tied):
    vocabulary, width, hidden, n_layers = 50257, 512, 1536, 10
    attention = 2 * width * width + 2 * width * (width // 16) * n_kv_heads
    block = attention + 3 * width * hidden + 2 * width
    expected = (1 if tied else 2) * vocabulary * width + n_layers * block + width
    assert counted("stlm-50m", n_kv_heads=n_kv_heads, tied_head=tied)["total"] == expected


def test_the_public_code_counts_the_same():
    facts = evidence("stlm")["facts"]
    table = counted("stlm-50m")
    assert table["total"] == facts["parameters_tied"]
    assert table["total"] - table["embedding"] == facts["core_parameters"]
    assert counted("stlm-50m", tied_head=False)["total"] == facts["parameters_untied"]


def test_an_aim_and_a_version_of_the_code_leave_a_claim_undecided():
    for name in ("stlm.goal.bench", "stlm.dropout.table_vs_upstream"):
        claim = ledger.find_claim(name)
        assert ledger.verdict_of(claim, ledger.best_answer(claim, None)) == "underdetermined", name
    rates = ledger.computed(ledger.find_claim("stlm.dropout.table_vs_upstream"))["found"]
    assert list(rates.values()) == [[0.0, 0.1], [0.0, 0.1], 0.1]


def test_a_tied_share_fixes_the_untied_one():
    tied, untied = (vocabulary_share(counted("stlm-50m", tied_head=tied)) for tied in (True, False))
    assert untied == pytest.approx(100 * 2 * tied / (100 + tied))


@pytest.mark.parametrize(
    ("share", "items", "chance", "differs"),
    [(0.21, 2376, 0.25, True), (0.507, 1267, 0.5, False), (0.256, 10042, 0.25, False), (0.253, 14042, 0.25, False)],
)
def test_only_arc_easy_is_off_chance_in_an_exact_test(share, items, chance, differs):
    assert (binomtest(round(share * items), items, chance).pvalue < 0.05) == differs


def test_the_settings_are_what_training_accepts():
    settings = load_study("stlm").settings
    chosen = {name: value for name, value in settings.items() if name in TrainingSettings.model_fields}
    assert {"steps", "accumulation_steps", "warmup_steps", "learning_rate", "weight_decay", "clip"} <= chosen.keys()
    assert TrainingSettings(context_length=512, **chosen).learning_rate_at(25000) == pytest.approx(6e-5)
    TrainingSettings(steps=25000, **settings["public_code_dropout"])


def test_every_contradicted_or_undecided_claim_says_which_reading_would_be_right():
    for claim in ledger.load_claims("stlm"):
        answer = ledger.computed(claim)
        if ledger.row(claim, answer)["verdict"] in ("contradicted", "underdetermined"):
            assert claim.reading, claim.id


def test_passes_over_the_corpus_are_what_both_chapters_print():
    times = {reading: round(count, 1) for reading, count in passes().items()}
    assert list(times.values()) == [88.2, 135.5, 6.8, 9.0]
    claim = ledger.find_claim("stlm.tokens.ten_times")
    answer = ledger.best_answer(claim, None)
    assert answer["found"] == {reading: times[reading] for reading in list(times)[:2]}
    assert ledger.verdict_of(claim, answer) == "contradicted"


def test_sharing_one_block_makes_the_whole_model_as_small_as_the_abstract_says_and_bytes_alone_do_not():
    found = ledger.computed(ledger.find_claim("stlm.byte.reduction_whole_model"))["found"]
    assert list(found.values()) == [41.5, 59.9, 90.0, 93.2]
