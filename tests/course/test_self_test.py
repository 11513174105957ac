"""The trial: right answers earn all, wrong ones lose in their own exercise, and a rule takes every mark."""

import pytest

from stlm_kit.course import self_test as trial
from stlm_kit.errors import UsageError


@pytest.mark.parametrize("key", ["", "a", "b"])
def test_the_reference_earns_every_mark_under_any_key(made_up, key):
    found = trial.marks(made_up, key=key)
    assert [(name, mark.earned, mark.sentence) for name, mark in found.items()] == [
        ("double-check", 0, ""),
        ("double-value", 1, ""),
        ("double-shape", 1, ""),
        ("tail-check", 0, ""),
        ("tail-last", 0, ""),
        ("tail-empty", 0, ""),
    ]
    assert trial.lost(made_up, found) == []


@pytest.mark.parametrize(
    ("exercise", "name", "cells"),
    [
        ("double", "square", ["double-value"]),
        ("double", "flat", ["double-shape"]),
        ("double", "shortcut", ["double-value", "double-shape"]),
        ("tail", "first", ["tail-last"]),
    ],
)
def test_a_wrong_answer_loses_its_own_marks_alone(made_up, exercise, name, cells):
    assert trial.lost(made_up, trial.marks(made_up, {exercise: trial.answer(made_up, exercise, name)})) == cells


def test_the_published_solution_loses_under_a_key(made_up):
    found = trial.marks(made_up, {"double": made_up.solution("double")}, key="a")
    assert trial.lost(made_up, found) == ["double-value"]
    assert found["double-value"].sentence == "Some number is not doubled."


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "def double(x):\n    return torch.mul(x, 2)",
            "uses mul, which this exercise forbids. Build it from a sum",
        ),
        ("def twice(x):\n    return 2 * x", "There is no function double"),
        ("def double(x)\n    return x", "syntax error in line 1"),
        ("def double(x):\n    raise SystemExit(3)", "SystemExit: 3"),
        ("def double(x):\n    raise ValueError('one\\ntwo')", "ValueError: one"),
    ],
)
def test_a_lost_mark_says_why(made_up, code, sentence):
    found = trial.marks(made_up, {"double": code})
    assert found["double-value"].earned == 0 and sentence in found["double-value"].sentence
    assert trial.lost(made_up, found) == ["double-value", "double-shape"]


def test_what_one_exercise_defines_another_does_not_see(made_up):
    leaking = made_up.solution("double") + "\n\ndef tail(items):\n    return None"
    assert trial.lost(made_up, trial.marks(made_up, {"double": leaking})) == []


def test_unknown_names_are_one_sentence(made_up):
    with pytest.raises(UsageError, match=r"'doubel'\. Did you mean 'double'"):
        trial.marks(made_up, {"doubel": ""})
    with pytest.raises(UsageError, match=r"'sqare'\. Did you mean 'square'"):
        trial.answer(made_up, "double", "sqare")
