"""course.yaml: what it says is what counts, and whatever is wrong in it is one sentence."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stlm_kit.course.course_file import Course, Lateness, read_course
from stlm_kit.errors import KitError
from stlm_kit.notebook_files import notebooks_dir

DUE = datetime(2026, 10, 16, 21, 59, tzinfo=UTC)  # 23:59 in Berlin, where summer time still holds
RULES = """
timezone: Europe/Berlin
grace_minutes: 15
late: {per_day: 10, floor: 50, refuse_after_days: 7}
assignments: {one: {due: 2026-10-16 23:59}, two: {}}
extensions: [{student: grace, assignment: one, days: 2}]
roster: [{id: ada}, {id: grace}]
"""


def course(tmp_path: Path, text: str) -> Course:
    path = tmp_path / "course.yaml"
    path.write_text(text, encoding="utf-8")
    return read_course(path)


def test_the_example_is_sound_and_names_the_assignments():
    example = read_course(notebooks_dir() / "assignments" / "course.yaml")
    assert example.roster and example.extensions and example.due("02_building_the_decoder", "grace") is not None
    assert example.student("ada").canvas == "101"  # a number in the file is a text here


@pytest.mark.parametrize(
    ("late", "keeps", "days"),
    [
        (timedelta(minutes=-1), 1.0, 0),
        (timedelta(minutes=15), 1.0, 0),
        (timedelta(minutes=16), 0.9, 1),
        (timedelta(days=1), 0.9, 1),
        (timedelta(days=1, seconds=1), 0.8, 2),
        (timedelta(days=6.5), 0.5, 7),
        (timedelta(days=7), 0.5, 7),
        (timedelta(days=7, seconds=1), 0.0, 8),
    ],
)
def test_lateness_counts_days_begun_after_the_grace(tmp_path, late, keeps, days):
    assert course(tmp_path, RULES).lateness("one", "ada", DUE + late) == Lateness(days, keeps)


def test_an_extension_moves_one_students_date(tmp_path):
    rules = course(tmp_path, RULES)
    assert rules.due("one", "ada") == DUE and rules.due("one", "grace") == DUE + timedelta(days=2)
    assert rules.lateness("one", "grace", DUE + timedelta(days=2)).keeps == 1
    assert rules.lateness("two", "ada", DUE + timedelta(days=999)) == Lateness(0, 1.0)  # no due date


def test_without_a_file_everybody_takes_part_and_nothing_is_late(tmp_path):
    rules = read_course(tmp_path / "course.yaml")
    assert not rules.roster and rules.lateness("one", "anybody", DUE).keeps == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gracee: 3", "no setting named 'gracee'"),
        ("late: {per_day: 120}", "per_day"),
        ("timezone: Mars/Olympus", "no timezone 'Mars/Olympus'"),
        ("roster: [{id: ada}, {id: ada}]", "'ada' twice"),
        ("roster: [{id: ../ada}]", "roster"),
        ("roster: [{id: ada}]\nextensions: [{student: adda, days: 1}]", "Did you mean 'ada'"),
        ("assignments: {one: {}}\nextensions: [{student: a, assignment: onne, days: 1}]", "Did you mean 'one'"),
        ("assignments: {one: {due: tomorrow}}", "due"),
        ("late: [", "cannot be read"),
        ("- a list", "course.yaml"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, text, sentence):
    with pytest.raises(KitError, match=r"course\.yaml") as caught:
        course(tmp_path, text)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
