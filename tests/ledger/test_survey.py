"""Claims, verdicts, records and rows of the ledger."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from stlm_kit import cli, ledger
from stlm_kit.errors import KitError, UsageError
from stlm_kit.ledger import claims
from stlm_kit.ledger.survey import survey as take_survey


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("STLM_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("STLM_RUN_DIR", raising=False)
    return tmp_path / "runs"


def claim(published, kind="arithmetic", unit="tokens", **fields):
    about = {"id": "a.b", "source": "memory", "where": "Table 1", "statement": "s", "how": "h"}
    return ledger.Claim(**about, kind=kind, published=published, unit=unit, **fields)


# --- the claims ---


@pytest.mark.parametrize(
    ("printed", "value", "bound"),
    [
        ("45.20", 45.2, 0.005),
        ("45.2", 45.2, 0.05),
        (5004, 5004, 0.5),
        ("28,941,393", 28941393, 0.5),
        ("50M", 50_000_000, 500_000),
        ("1.1B", 1_100_000_000, 50_000_000),
        ("1e-3", 0.001, 0.0005),
        ("-16.7", -16.7, 0.05),
        ("2.0", 2.0, 0.05),
        (["30", "40.0"], [30, 40.0], 0.5),
        (True, True, 0.0),
        ("GPT-2", "GPT-2", 0.0),
        (None, None, 0.0),
    ],
)
def test_the_printed_form_gives_value_and_tolerance(printed, value, bound):
    found = claim(printed, unit="bool" if isinstance(printed, bool) else "tokens")
    assert found.value == value and type(found.value) is type(value)
    assert found.bound == pytest.approx(bound)


def test_a_text_that_looks_like_a_number_stays_a_text():
    paper = claim("1910.02054", unit="text")
    assert paper.value == "1910.02054"
    assert ledger.verdict(paper, "1909.11556") == "contradicted"


def test_every_claim_of_the_kit_is_well_formed_and_named_once():
    claims = ledger.load_claims()
    ids = [claim.id for claim in claims]
    assert len(ids) == len(set(ids)) > 0
    for one in claims:
        assert one.statement and one.where and one.how
        assert (one.unit == "bool") == isinstance(one.value, bool), one.id
        if ledger.is_number(one.value):
            assert one.unit not in ("", "text")
    assert {one.source for one in ledger.load_claims("stlm")} == {"stlm"}


def test_a_malformed_claim_is_refused():
    for fields in ({"kind": "hearsay"}, {"unit": ""}, {"unit": "bool"}, {"tolerance": -1}, {"typo": 1}):
        with pytest.raises(ValidationError):
            claim(10, **fields)


@pytest.mark.parametrize("unit", [{}, {"unit": ""}, {"unit": " "}, {"unit": None}])
@pytest.mark.parametrize("published", ["45.20", 10, ["30", "40"]])
def test_a_number_without_a_unit_is_told_in_a_sentence(unit, published, monkeypatch):
    entry = {"id": "mem.a", "where": "Table 1", "kind": "arithmetic", "statement": "s", "how": "h"}
    entry |= {"published": published, **unit}
    monkeypatch.setattr(claims, "read_yaml", lambda *_: {"claims": [entry]})
    with pytest.raises(
        KitError, match=r"The study memory, claim mem\.a: It publishes .* without a unit; name the unit"
    ):
        claims._load.__wrapped__("memory")


def test_unknown_names_are_refused_with_the_near_ones():
    with pytest.raises(UsageError, match="memory"):
        ledger.load_claims("memories")
    with pytest.raises(UsageError, match=r"'mem\.params\.total'"):
        ledger.find_claim("mem.param.total")


# --- verdicts ---


@pytest.mark.parametrize(
    ("one", "found", "options", "expected"),
    [
        (claim("45.20"), 45.2049, {}, "exact"),
        (claim("45.20"), 45.21, {}, "contradicted"),
        (claim("45.20", tolerance=1), 45.21, {}, "within_tolerance"),
        (claim("10"), 10.5, {}, "exact"),  # half a digit itself still rounds to it
        (claim("10"), 88.2, {}, "contradicted"),
        (claim(["30", "40"]), 35, {}, "exact"),
        (claim(["30", "40"]), 40.6, {}, "contradicted"),
        (claim(["53", "50"]), [52.7, 50.1], {}, "exact"),
        (claim(["53", "50"]), [50.1, 52.7], {}, "contradicted"),
        (claim(["53", "50"]), [52.7], {}, "contradicted"),
        (claim("120", compare="at_least"), 5000, {}, "exact"),
        (claim("120", compare="at_least"), 119, {}, "contradicted"),
        (claim("40", compare="at_most"), 12, {}, "exact"),
        (claim(True, unit="bool"), True, {}, "confirmed"),
        (claim(True, unit="bool", kind="trend"), False, {}, "contradicted"),
        (claim(True, unit="bool"), 1, {}, "contradicted"),  # a number is no answer to yes or no
        (claim("GPT-2", unit="text"), "GPT-2", {}, "exact"),
        (claim("18959", kind="predictable", tolerance=20), 18950, {}, "predicted"),
        (claim("18959", kind="predictable", tolerance=20), 18950, {"by": "measured"}, "measured"),
        (claim("18959", kind="predictable"), 18950, {}, "contradicted"),
        (claim("15.05", kind="full_scale"), 15.05, {"by": "measured"}, "measured"),
        (claim("4", kind="config"), 4, {}, "setting"),
        (claim("3B", kind="config"), 3_800_000_000, {}, "contradicted"),
        (claim("4"), None, {}, "open"),
        (claim("4", kind="full_scale"), None, {}, "needs_gpu"),
        (claim("40", kind="full_scale"), None, {"missing": "the tokenizer"}, "underdetermined"),
        (claim("4"), {"one reading": 4, "another": 5}, {}, "underdetermined"),
        (claim("4"), {"one reading": 6, "another": 5}, {}, "contradicted"),
        (claim("4"), {"one reading": 4.1, "another": 4}, {}, "exact"),
    ],
)
def test_verdicts(one, found, options, expected):
    assert ledger.verdict(one, found, **options) == expected


# --- records and rows ---


def test_a_record_is_one_file_and_turns_its_row(runs):
    before = {row["id"]: row for row in ledger.rows()}
    assert before["mem.tok.bpe_oov"]["verdict"] == "open"
    assert before["mem.base.bs128.val_ppl"]["verdict"] == "needs_gpu"
    assert before["poster.ppl.finetune_end"]["verdict"] == "needs_gpu"
    path = ledger.record("mem.base.bs128.val_ppl", torch.tensor(14.96, dtype=torch.float64), "scored", by="measured")
    assert path == runs / "interactive" / "ledger" / "mem.base.bs128.val_ppl.json"
    row = next(row for row in ledger.rows("memory") if row["id"] == "mem.base.bs128.val_ppl")
    assert list(row) == [
        "id", "source", "kind", "statement", "where", "quote", "derived", "unit", "published", "found", "tolerance",
            "verdict", "how",
    ]  # fmt: skip
    assert (row["published"], row["found"], row["verdict"], row["how"]) == (14.96, 14.96, "measured", "scored")
    json.dumps(ledger.rows())


def test_the_runner_gives_the_folder_and_the_latest_answer_counts(runs, monkeypatch):
    ledger.record("mem.params.total", 1)
    run = runs / "memory" / "base-1a2b"
    monkeypatch.setenv("STLM_RUN_DIR", str(run))
    assert ledger.record("mem.params.total", np.int64(28941393)).parent == run / "ledger"
    monkeypatch.delenv("STLM_RUN_DIR")
    assert ledger.latest_answers()["mem.params.total"]["found"] == 28941393
    ledger.record("mem.params.total", 2)
    assert ledger.latest_answers()["mem.params.total"]["found"] == 2


def test_what_is_missing_and_what_is_cited_stand_in_the_row():
    ledger.record("poster.ppl.finetune_end", None, missing="the tokenizer")
    ledger.record("mem.base.bs128.val_ppl", 14.96, "their code", by="cited")
    rows = {row["id"]: row for row in ledger.rows()}
    assert rows["poster.ppl.finetune_end"]["verdict"] == "underdetermined"
    assert "the tokenizer" in rows["poster.ppl.finetune_end"]["how"]
    assert rows["mem.base.bs128.val_ppl"]["how"] == "their code (cited, not run)"


def test_a_run_outranks_a_citation_and_not_a_computation():
    claim = ledger.find_claim("mem.expected.flash.speed_pct")
    assert ledger.best_answer(claim, None)["by"] == "cited"
    assert ledger.best_answer(claim, {"found": 300.0, "by": "measured", "how": "here"})["found"] == 300.0
    counted = ledger.find_claim("mem.params.total")
    assert ledger.best_answer(counted, {"found": 1, "by": None, "how": "miscounted"})["found"] == 28941393


def test_a_notebook_and_a_function_that_disagree_are_told(capsys):
    assert take_survey("memory").warnings == []
    ledger.record("mem.params.total", 28941393, "counted")
    assert take_survey("memory").warnings == []
    ledger.record("mem.params.total", 28941392, "miscounted")
    assert cli.main(["ledger", "--source", "memory", "--verdict", "exact", "--json"]) == 0
    said = capsys.readouterr()
    sentence = (
        "Two answers to mem.params.total disagree: contradicted by a notebook and exact by the kit's own computation"
    )
    assert sentence in said.err and said.err.count("\n") == 1
    assert "mem.params.total" in {row["id"] for row in json.loads(said.out)}


def test_a_run_that_differs_from_a_citation_is_no_disagreement():
    assert ledger.best_answer(ledger.find_claim("mem.expected.flash.speed_pct"), None)["by"] == "cited"
    ledger.record("mem.expected.flash.speed_pct", 1.0, "timed", by="measured")
    survey = take_survey("memory")
    assert survey.warnings == []
    assert {row["id"]: row["verdict"] for row in survey.rows}["mem.expected.flash.speed_pct"] == "contradicted"


def test_a_laptops_run_records_no_full_scale_measurement(runs, monkeypatch):
    folder = runs / "stlm" / "base-1"
    folder.mkdir(parents=True)
    monkeypatch.setenv("STLM_RUN_DIR", str(folder))
    for profile, refused in (("laptop", True), ("mig20", False)):
        (folder / "run.json").write_text(json.dumps({"profile": profile}))
        with pytest.raises(UsageError, match="a laptop's") if refused else nullcontext():
            ledger.record("stlm.goal.48h", 3.0, by="measured")
        assert (folder / "ledger" / "stlm.goal.48h.json").exists() != refused


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        (("no.such.claim", 1), {}, "no claim"),
        (("mem.params.total", float("nan")), {}, "finite"),
        (("mem.params.total", object()), {}, "no answer"),
        (("mem.params.total", 1), {"by": "guessed"}, "no evidence"),
        (("poster.ppl.finetune_end", 39.0), {}, "published size"),  # a laptop answers none by accident
    ],
)
def test_what_is_no_answer_is_refused(runs, arguments, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        ledger.record(*arguments, **options)
    assert not list(runs.rglob("*.json"))


def test_a_damaged_answer_is_named(runs):
    path = ledger.record("mem.params.total", 1)
    path.write_text("{")
    with pytest.raises(KitError, match="delete it"):
        ledger.rows()


def test_the_ledger_by_kind_and_verdict(capsys):
    assert cli.main(["ledger", "--source", "memory", "--kind", "trend", "--verdict", "contradicted", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows and {(row["source"], row["kind"], row["verdict"]) for row in rows} == {
        ("memory", "trend", "contradicted")
    }
    for option in ("--kind", "--verdict"):
        assert cli.main(["ledger", option, "contradict"]) == 2
