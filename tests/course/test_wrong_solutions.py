"""Every assignment that ships: its tests pass the reference under any key, and catch each wrong solution.

The claim that the course rests on. Five plausible wrong solutions an exercise, optional ones too; each loses a mark in
its own exercise and nowhere else, the ready-made shortcut all of them, by the rule alone.
"""

import re
from functools import cache

import pytest

from stlm_kit.course import keyed_values as drawn
from stlm_kit.course import self_test as trial
from stlm_kit.course.assignment import folders, read
from stlm_kit.course.rules import lines, violations

KEYS = ["spring", "summer", "autumn"]
ASSIGNMENTS = {folder.name: read(folder) for folder in folders()}
EXERCISES = [(name, exercise.id) for name, each in ASSIGNMENTS.items() for exercise in each.exercises]
WRONG = [(name, exercise, wrong) for name, exercise in EXERCISES for wrong in trial.wrong(ASSIGNMENTS[name], exercise)]
TRAINS = {"within_budget"}  # takes seconds, so that it is not run beside the wrong solutions of other exercises


@cache
def reference(name, key=""):
    return trial.marks(ASSIGNMENTS[name], key=key)


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_at_least_four_graded_exercises_more_optional_and_five_wrong_solutions_each(name):
    assignment = ASSIGNMENTS[name]
    graded = [exercise for exercise in assignment.exercises if exercise.graded]
    assert 4 <= len(graded) < len(assignment.exercises)
    for exercise in assignment.exercises:
        wrong = trial.wrong(assignment, exercise.id)
        assert len(wrong) == 5 and "shortcut" in wrong, f"{exercise.id} has {wrong}."


def test_exercises_have_names_of_their_own_across_assignments():
    ids = [exercise for _, exercise in EXERCISES]
    assert len(set(ids)) == len(ids)  # the desk finds an exercise by its function


@pytest.mark.parametrize("key", ["", *KEYS])
@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_reference_earns_every_mark(name, key):
    failed = {cell: mark.sentence for cell, mark in reference(name, key).items() if not mark.passed}
    assert failed == {}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_published_solutions_lose_marks_in_every_graded_exercise_under_a_key(name, key):
    assignment = ASSIGNMENTS[name]
    published = {exercise.id: assignment.solution(exercise.id) for exercise in assignment.exercises}
    lost = trial.lost(assignment, trial.marks(assignment, published, key))
    for exercise in assignment.exercises:
        assert not exercise.graded or any(exercise.owns(cell) for cell in lost), f"{exercise.id} pays in full."


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_every_choice_of_a_convention_is_told_from_every_other(name, exercise):
    """The answer to one choice, handed in where another was stated, loses a mark."""
    assignment = ASSIGNMENTS[name]
    convention = assignment.exercise(exercise).convention
    keys = {convention.published: ""}
    for number in range(200):
        keys.setdefault(drawn.convention(assignment, assignment.exercise(exercise), f"key {number}"), f"key {number}")
    assert set(keys) == {convention.published, *convention.choices}
    answers = {
        value: next(cell.source for cell in drawn.keyed(assignment, key).cells if cell.id == exercise)
        for value, key in keys.items()
    }
    for stated, key in keys.items():
        for value, answer in answers.items():
            lost = trial.lost(assignment, trial.marks_of(assignment, exercise, answer, key))
            assert bool(lost) == (value != stated), f"{convention.name}: {value!r} where {stated!r} is stated: {lost}"


@pytest.mark.parametrize(("name", "exercise", "wrong"), WRONG)
def test_a_wrong_solution_loses_marks_in_its_exercise_and_nowhere_else(name, exercise, wrong):
    assignment = ASSIGNMENTS[name]
    found = trial.marks_of(assignment, exercise, trial.answer(assignment, exercise, wrong))
    for other in assignment.exercises:
        if other.id != exercise and other.id not in TRAINS:
            found |= trial.marks_of(assignment, other.id)
    lost = trial.lost(assignment, found)
    assert lost, "No mark is lost."
    assert all(assignment.exercise(exercise).owns(cell) for cell in lost)


PLANTED = [
    (name, exercise, cell.id)
    for name, exercise in EXERCISES
    for cell in ASSIGNMENTS[name].notebook.cells
    if ASSIGNMENTS[name].exercise(exercise).owns(cell.id) and drawn.PLANTED.search(cell.source)
]


@pytest.mark.parametrize("key", ["", *KEYS, *(f"key {number}" for number in range(12))])
@pytest.mark.parametrize(("name", "exercise", "cell"), PLANTED)
def test_a_script_with_planted_faults_loses_a_mark_as_it_is(name, exercise, cell, key):
    assignment = ASSIGNMENTS[name]
    script = next(each.source for each in drawn.keyed(assignment, key).cells if each.id == cell)
    answer = re.sub(r"^def \w+", f"def {exercise}", script, flags=re.MULTILINE)
    assert trial.lost(assignment, trial.marks_of(assignment, exercise, answer, key))


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_the_shortcut_loses_every_mark_by_the_rule_which_names_it(name, exercise):
    assignment = ASSIGNMENTS[name]
    rules = assignment.exercise(exercise)
    found = trial.marks_of(assignment, exercise, trial.answer(assignment, exercise, "shortcut"))
    tests = [cell.id for cell in assignment.tests(exercise)]
    assert trial.lost(assignment, found) == tests
    for cell in tests:
        sentence = found[cell].sentence
        assert any(word in sentence for word in [*rules.forbidden, *rules.forbidden_modules, exercise]), sentence
        assert "forbids" in sentence and rules.instead in sentence


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_one_wrong_solution_passes_the_public_check(name, exercise):
    """Else the hidden tests would have nothing to say that the student has not seen."""
    assignment = ASSIGNMENTS[name]
    others = [wrong for wrong in trial.wrong(assignment, exercise) if wrong != "shortcut"]
    answers = [trial.answer(assignment, exercise, wrong) for wrong in others]
    assert any(trial.marks_of(assignment, exercise, code)[f"{exercise}-check"].passed for code in answers)


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_the_reference_keeps_to_its_rule_and_its_line_budget(name, exercise):
    assignment = ASSIGNMENTS[name]
    rules = assignment.exercise(exercise)
    solution = assignment.solution(exercise)
    assert violations([assignment.cells["setup"].source, solution], exercise, rules) == []
    assert lines(solution, exercise) <= rules.lines


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_source_tells_the_published_conventions_and_holds_no_outputs(name):
    assignment = ASSIGNMENTS[name]
    for exercise in assignment.exercises:
        told = f"**Convention.** {exercise.convention.told(exercise.convention.published)}"
        assert told in assignment.cells[f"{exercise.id}-text"].source.split("\n")
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in assignment.notebook.cells)
