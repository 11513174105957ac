"""What notebook cells assert with: it passes what is right, fails what is wrong, and prints the same everywhere."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from stlm_kit import checks
from stlm_kit.errors import UsageError
from stlm_kit.ledger import calibration


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("STLM_RUNS", str(tmp_path))
    monkeypatch.delenv("STLM_RUN_DIR", raising=False)
    return tmp_path


# --- parameters ---


def test_parameters_become_attributes():
    run = checks.parameters(profile="laptop", seed=3, learning_rate=1e-3)
    assert (run.profile, run.seed, run.learning_rate) == ("laptop", 3, 1e-3)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sed": 0}, "'seed'"),
        ({"seed": "0"}, "quotes"),
        ({"seed": 0.0}, r"seed = 0\.0"),
        ({"profile": "big"}, "'laptop' or"),
    ],
)
def test_wrong_parameters_are_one_sentence(values, sentence):
    with pytest.raises(UsageError, match=sentence):
        checks.parameters(**values)


# --- same ---


@pytest.mark.parametrize(
    ("mine", "kits", "line"),
    [
        (torch.ones(2, 3), torch.ones(2, 3) + 5e-7, "same: x (within 1e-06)"),
        (torch.ones(2, dtype=torch.bfloat16, requires_grad=True), np.ones(2), "same: x (within 1e-06)"),
        ([0.5, 1.0], torch.tensor([0.5, 1.0]), "same: x (within 1e-06)"),
        (torch.arange(3), [0, 1, 2], "same: x (exactly)"),
        (torch.tensor([True]), torch.tensor([True]), "same: x (exactly)"),
        (3, 3, "same: x (exactly)"),
        ("abc", "abc", "same: x (exactly)"),
        (["a", "b"], ["a", "b"], "same: x (exactly)"),
        ([(b"a", b"b")], [(b"a", b"b")], "same: x (exactly)"),
        ({"a": 1, "b": [0.1]}, {"a": 1, "b": [0.1]}, "same: x (within 1e-06)"),
        ([], [], "same: x (exactly)"),
        (torch.tensor([-torch.inf]), torch.tensor([-torch.inf]), "same: x (within 1e-06)"),
    ],
)
def test_same_passes_and_says_within_what(capsys, mine, kits, line):
    checks.same(mine, kits, what="x")
    assert capsys.readouterr().out == line + "\n"


@pytest.mark.parametrize(
    ("mine", "kits", "sentence"),
    [
        (torch.tensor([[1.0, 2.0], [3.0, 4.5]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), r"1 of 4 .* 0\.5 at \(1, 1\)"),
        (torch.ones(2, 3), torch.ones(3, 2), r"shape \(2, 3\), the kit's \(3, 2\)"),
        (torch.tensor([1.0, torch.nan]), torch.ones(2), r"not a number at \(1,\)"),
        (torch.tensor([torch.inf]), torch.tensor([-torch.inf]), "differ"),
        (torch.tensor([torch.inf]), torch.tensor([1.0]), "differ"),
        ([1, 2], [1, 3], r"largest difference is 1 at \(1,\)"),
        (["a", "b"], ["a", "c"], r"yours is 'b', the kit's is 'c' at \[1\]"),
        (["a"], ["a", "b"], "yours has 1 items, the kit's 2"),
        ({"a": 1}, {"b": 1}, "only one of the two has"),
        ({"a": [1.0]}, {"a": [2.0]}, r"at \(0,\)"),
        ("1", 1, "yours is '1'"),
        (None, 0, "yours is None"),
        ([object()], [object()], "cannot be compared"),
    ],
)
def test_same_fails_with_what_and_where(mine, kits, sentence):
    with pytest.raises(AssertionError, match=sentence):
        checks.same(mine, kits, what="x")


def test_the_tolerance_is_absolute_and_zero_means_exactly(capsys):
    checks.same(1.0, 1.009, tolerance=0.01)
    checks.same(1.0, 1.0, tolerance=0)
    assert capsys.readouterr().out.splitlines()[1] == "same: both ways (exactly)"
    with pytest.raises(AssertionError):
        checks.same(1.0, 1.0 + 1e-12, tolerance=0)


# --- within and shows ---


def test_within_prints_the_bound_and_never_the_measurement(capsys):
    checks.within(18950.3, 18959, relative=0.001, what="peak memory", unit="MiB")
    checks.within(5.5451, 5.545, tolerance=0.01)
    assert capsys.readouterr().out.splitlines() == ["within 0.1 % of 18,959 MiB: peak memory", "within 0.01 of 5.545"]


@pytest.mark.parametrize("found", [18930, 18980, float("nan")])
def test_within_fails_outside(found):
    with pytest.raises(AssertionError, match="not within"):
        checks.within(found, 18959, relative=0.001)


@pytest.mark.parametrize("bounds", [{}, {"tolerance": 1, "relative": 1}])
def test_within_wants_one_bound(bounds):
    with pytest.raises(UsageError, match="only one"):
        checks.within(1, 1, **bounds)


def test_shows(capsys):
    checks.shows(torch.tensor(1.0) < 2, "the loss falls")
    assert capsys.readouterr().out == "shows: the loss falls\n"
    with pytest.raises(AssertionError, match="the loss falls"):
        checks.shows(False, "the loss falls")


# --- guesses and the ledger ---


def test_a_guess_is_kept_and_shown_beside_the_answer(capsys, runs):
    checks.guess("mem.base.bs128.train_time_s")
    assert not (runs / "guesses.json").exists()
    checks.guess("mem.base.bs128.train_time_s", 50)
    checks.guess("mem.expected.window.mem", "cannot know")
    assert capsys.readouterr().out == ""
    checks.reveal("mem.base.bs128.train_time_s")
    before = capsys.readouterr().out
    assert "· needs_gpu" in before and "your guess  50" in before and "published   295.6" in before
    checks.ledger("mem.base.bs128.train_time_s", 300, "timed on the GPU", by="measured")
    after = capsys.readouterr().out
    assert (
        "mem.base.bs128.train_time_s · contradicted" in after
        and "your guess  50" in after
        and "found       300" in after
    )
    checks.reveal("mem.base.bs128.train_time_s")
    assert capsys.readouterr().out == after


def test_guesses_survive_a_damaged_file_and_two_notebooks_at_once(runs):
    (runs / "guesses.json").write_text("{")
    ids = [claim.id for claim in checks._ledger.load_claims() if claim.unit not in ("bool", "text")]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(checks.guess, ids, range(len(ids))))
    assert json.loads((runs / "guesses.json").read_text()) == {name: i for i, name in enumerate(ids)}


def test_a_guess_about_no_claim_is_refused():
    with pytest.raises(UsageError, match=r"'mem\.params\.total'"):
        checks.guess("mem.param.total", 1)


@pytest.mark.parametrize(
    ("name", "value", "unit", "kept"),
    [
        ("mem.expected.window.mem", "True", "", True),
        ("mem.expected.window.mem", np.bool_(False), "", False),
        ("mem.expected.window.mem", "Cannot know", "", "cannot know"),
        ("mem.params.total", 3e7, "", 3e7),
        ("mem.params.total", "false", "", False),
        ("ch02.heads", np.int64(16), "heads", 16),
        ("ch03a.lr.peak", "true", "", True),
        ("ch03a.lr.peak", 0.5, "1", 0.5),
    ],
)
def test_a_guess_is_of_one_of_four_kinds(name, value, unit, kept):
    checks.guess(name, value, unit)
    assert checks.guesses() == {name: kept} and type(checks.guesses()[name]) is type(kept)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("mem.expected.window.mem", 3, '"true", "false" or "cannot know"\\.$'),
        ("mem.params.total", "many", "or by a number of parameters\\.$"),
        ("ch02.heads", 16, "A number needs unit="),
        ("mem.params.total", [1, 2], "is no guess"),
        ("ch2.heads", "true", "no claim"),
        ("chapter.heads", None, "no claim"),
    ],
)
def test_what_is_no_guess_is_told_in_a_sentence(name, value, sentence, runs):
    with pytest.raises(UsageError, match=sentence):
        checks.guess(name, value)
    assert not (runs / "guesses.json").exists()


def test_a_chapters_own_question_is_shown_beside_its_result_and_counted(capsys):
    checks.guess("ch02.heads", None, unit="heads")
    checks.guessed("ch02.heads", found=12)
    assert capsys.readouterr().out == "" and checks.questions() == []
    checks.guess("ch02.heads", 16, unit="heads")
    checks.guess("ch02.tied", "cannot know")
    checks.guess("ch02.later", "true")
    checks.guessed("ch02.heads", found=torch.tensor(12))
    checks.guessed("ch02.tied", found="cannot know")
    assert capsys.readouterr().out == (
        "you guessed 16 heads; found: 12 heads\nyou guessed cannot know; found: cannot know\n"
    )
    judged = calibration.judge(checks.guesses(), checks.questions())
    assert [(guess.id, guess.right, guess.answer) for guess in judged] == [
        ("ch02.heads", False, "12"),
        ("ch02.tied", True, "cannot know"),
    ]
    checks.guess("ch02.heads", 12, unit="heads")  # guessed again: the old result is that of another guess
    assert [row["id"] for row in checks.questions()] == ["ch02.tied"]


def test_a_guess_about_a_claim_is_shown_beside_a_result_too(capsys):
    checks.guess("mem.params.total", 3e7)
    checks.guessed("mem.params.total", found=28941393)
    assert capsys.readouterr().out == "you guessed 30,000,000 parameters; found: 28,941,393 parameters\n"
    assert checks.guesses() == {"mem.params.total": 3e7} and checks.questions() == []


def test_the_ledger_prints_the_published_precision_only(capsys):
    checks.ledger("ld.depth.schedule_mean", 0.12500000731)
    assert "found       0.125 probability (within 0.0005)" in capsys.readouterr().out
    checks.ledger("mem.params.total", 28941393)
    assert "28,941,393 parameters\n" in capsys.readouterr().out
    checks.ledger("poster.mem.teacher_student_fit", {"teacher in BF16": 27.4, "teacher in 4 bits": 16.0})
    both = capsys.readouterr().out
    assert "underdetermined" in both and "27 GB, read as: teacher in BF16" in both and "16 GB" in both
    checks.ledger("poster.ppl.finetune_end", None, missing="the tokenizer")
    assert "not given   the tokenizer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "digit", "text"),
    [
        (28941393, None, "28,941,393"),
        (45.2, 0.01, "45.20"),
        (0.125, 0.001, "0.125"),
        (88.0, 1, "88"),
        (5.54908, None, "5.549"),
        (295.56, None, "295.6"),
        (5.5, None, "5.5"),
        (1200.3, None, "1,200"),
        (18950.7, None, "18,951"),
        (0.0005, None, "0.0005"),
    ],
)
def test_numbers_as_printed(value, digit, text):
    assert checks.number(value, digit) == text


def test_a_verdict_is_printed_and_nothing_is_recorded(capsys, runs):
    checks.verdict("ld.plan.phase4_weeks", found=26 / 7)
    out = capsys.readouterr().out
    assert "ld.plan.phase4_weeks · contradicted" in out and "published   2 weeks" in out and "reading" in out
    assert not list(runs.rglob("*.json"))


def test_a_verdict_other_than_the_kits_own_is_refused():
    with pytest.raises(AssertionError, match="makes it exact, the kit's answer contradicted"):
        checks.verdict("ld.plan.phase4_weeks", found=2)
