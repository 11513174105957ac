"""A reader's guesses are judged by the verdict, and what waits for an answer is held against nobody."""

import pytest

from stlm_kit.ledger import calibration

FOUND = {
    "stands": ("exact", 100.0),
    "wrong": ("contradicted", False),
    "unknown": ("underdetermined", {"one way": 50, "another": 80}),
    "waits": ("needs_gpu", None),
}
ROWS = [{"id": claim_id, "verdict": verdict, "found": found} for claim_id, (verdict, found) in FOUND.items()]


@pytest.mark.parametrize(
    ("claim_id", "guess", "right"),
    [
        ("stands", "true", True),
        ("stands", True, True),
        ("stands", "False", False),
        ("stands", "cannot know", False),
        ("stands", 91, True),
        ("stands", 89, False),
        ("wrong", "false", True),
        ("wrong", True, False),
        ("unknown", "cannot know", True),
        ("unknown", "true", False),
        ("unknown", "false", False),
        ("unknown", 82, True),
        ("waits", "true", None),
        ("waits", 3, None),
        ("stands", "perhaps", False),
    ],
)
def test_judge(claim_id, guess, right):
    [judged] = calibration.judge({claim_id: guess}, ROWS)
    assert judged.right is right


def test_calibration_counts_by_kind_of_guess():
    judged = calibration.judge({"stands": "true", "wrong": True, "waits": "true", "unknown": 70, "gone": "true"}, ROWS)
    assert calibration.calibration(judged) == {"true": (1, 2), "a number": (0, 1)}


def test_summary_says_what_to_do_without_guesses_and_names_what_was_not_right():
    assert "No guesses yet" in calibration.summary([])
    text = calibration.summary(calibration.judge({"stands": "true", "wrong": "true", "waits": "true"}, ROWS))
    assert text.splitlines() == [
        'when you said "true", you were right 1 of 2 times',
        "not right, with the answer: wrong (false)",
        "still waiting for an answer: waits",
    ]


@pytest.mark.parametrize("guess", [True, False])
def test_of_an_underdetermined_claim_cannot_know_is_the_answer_that_counts(guess):
    row = {"id": "stlm.lr.cosine", "verdict": "underdetermined", "found": {"150 steps": False, "1,500 steps": True}}
    [judged] = calibration.judge({row["id"]: guess}, [row])
    assert (judged.right, judged.answer) == (False, "cannot know")
    assert calibration.summary([judged]).endswith("not right, with the answer: stlm.lr.cosine (cannot know)")
    [judged] = calibration.judge({row["id"]: "cannot know"}, [row])
    assert judged.right


def test_a_wrong_number_is_told_the_found_one():
    assert "stands (100)" in calibration.summary(calibration.judge({"stands": 3}, ROWS))
