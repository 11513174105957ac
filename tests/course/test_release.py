"""A release: proven before, without solutions and hidden tests after, and the same again for the same key."""

import shutil
import stat
import subprocess
import sys

import nbformat
import pytest

from stlm_kit.cli import main
from stlm_kit.course import folder as course_folder
from stlm_kit.course import keyed_values as drawn
from stlm_kit.course.assignment import is_locked
from stlm_kit.course.compose import compose
from stlm_kit.course.release import PART, leftover, release
from stlm_kit.errors import KitError, UsageError
from stlm_kit.paths import course_dir

from .conftest import DOUBLE, cell, made_up_cells, write

pytest.importorskip("nbgrader")
pytestmark = pytest.mark.filterwarnings("ignore:Object of type:sqlalchemy.exc.SAWarning")  # nbgrader's own


@pytest.fixture
def course(folder, empty_gradebook):
    course = course_dir()
    course_folder.make(course)
    shutil.copy(empty_gradebook, course)
    return course


def released_cells(course):
    notebook = nbformat.read(course / "release" / "01_made_up" / "01_made_up.ipynb", as_version=4)
    return {each.id: each for each in notebook.cells}


def grade_by_hand(course, student="ada"):
    """What a graded submission leaves in the gradebook."""
    with course_folder.nbgrader(course).gradebook as gradebook:
        gradebook.add_student(student)
        gradebook.add_submission("01_made_up", student)


def test_the_release_shows_no_solution_and_no_hidden_test(course, made_up):
    (made,) = release([], "a key", course)
    assert made.path == course / "release" / "01_made_up" / "01_made_up.ipynb" and made.marks == 2
    text = made.path.read_text()
    for secret in (
        "return x + x + offset",
        "items[-1] if items",
        "allclose",
        "BEGIN",
        "END",
        "# convention",
        "# drawn",
    ):
        assert secret not in text, secret
    cells = released_cells(course)
    assert list(cells) == list(made_up.cells)
    assert cells["double"].source.endswith(f'"""Twice x, and the offset."""\n    {course_folder.UNWRITTEN}')
    assert cells["double-value"].source == "# Mark: every number is doubled."
    for name, each in cells.items():
        assert is_locked(each) == (name not in ("double", "tail"))


def test_the_key_decides_source_release_and_what_is_said(course, made_up):
    (made,) = release([], "a key", course)
    name, value = made.conventions["double"]
    assert (name, value) == ("offset", drawn.convention(made_up, made_up.exercise("double"), "a key")) and value in (
        2,
        3,
    )
    cells = released_cells(course)
    assert f"**Convention.** Add offset = {value} at the end." in cells["double-text"].source
    assert cells["double-check"].source.startswith(f"offset = {value}\n")
    source = nbformat.read(course / "source" / "01_made_up" / "01_made_up.ipynb", as_version=4)
    assert [each.source for each in source.cells] == [each.source for each in drawn.keyed(made_up, "a key").cells]


def test_the_same_release_again_is_the_same_and_leaves_nothing_behind(course):
    release([], "a key", course)
    first = {path: path.read_bytes() for path in course.rglob("*.ipynb")}
    assert len(first) == 2
    release(["01"], None, course)  # the course keeps its key
    assert {path: path.read_bytes() for path in course.rglob("*.ipynb")} == first
    assert not (course / PART).exists()
    with course_folder.nbgrader(course).gradebook as gradebook:
        worth = {each.name: each.max_score for each in gradebook.find_notebook("01_made_up", "01_made_up").grade_cells}
        assert worth == {"double-value": 1, "double-shape": 1, "tail-last": 0, "tail-empty": 0}


def test_the_key_and_the_folder_are_their_owners(course):
    release([], "a key", course)
    assert (course / "key").read_text() == "a key\n"
    assert stat.S_IMODE((course / "key").stat().st_mode) == 0o600 and stat.S_IMODE(course.stat().st_mode) == 0o700
    release([], "", course)
    assert course_folder.read_key(course) == "" and not (course / "key").exists()
    assert released_cells(course)["double-check"].source.startswith("offset = 1\n")


def test_another_key_is_refused_once_there_are_marks(course):
    release([], "a key", course)
    grade_by_hand(course)
    before = released_cells(course)
    for other in ("another", ""):
        with pytest.raises(KitError, match=r"marks given under another key.*--force"):
            release([], other, course)
    assert released_cells(course) == before and course_folder.read_key(course) == "a key"
    release([], "a key", course)
    release([], None, course)
    release([], "another", course, force=True)
    assert course_folder.read_key(course) == "another"


def test_another_key_makes_every_older_release_anew(course, folder):
    other = folder.parent / "02_more"
    write(other, made_up_cells())
    release([], "a key", course)
    assert [made.name for made in release(["02"], "another", course)] == ["01_made_up", "02_more"]
    assert [made.name for made in release(["02"], "another", course)] == ["02_more"]


def test_a_reference_that_fails_is_not_released(course, folder):
    broken = DOUBLE.replace("x + x", "x")
    write(
        folder,
        [
            cell("double", broken, solution=True, locked=False) if each.id == "double" else each
            for each in made_up_cells()
        ],
    )
    with pytest.raises(KitError, match=r"the reference fails in double-check .* nothing was released"):
        release([], "a key", course)
    assert [path.name for path in course.iterdir()] == ["gradebook.db"]


def test_a_release_that_would_show_a_solution_keeps_the_old_one(course, folder, made_up):
    release([], "a key", course)
    before = released_cells(course)
    cells = made_up_cells()
    cells[
        3
    ].source = "offset = 1  # convention\n### BEGIN HIDDEN TESTS\nsecret = 1\n### END HIDDEN TESTS\ndesk.report(double)"
    write(folder, cells)
    with pytest.raises(KitError):  # a hidden test in a cell that is no test: nbgrader refuses it
        release([], "a key", course)
    assert released_cells(course) == before
    source = drawn.keyed(made_up, "a key")
    assert leftover(source, nbformat.from_dict({"cells": list(before.values())})) is None
    for name, line in [
        ("double", "    return x + x + offset"),
        ("double-value", "x = torch.randn(n, m, generator=torch.Generator().manual_seed(seed))"),
        ("double-shape", "### END HIDDEN TESTS"),
        ("tail-check", "missing = 'none'  # convention"),
    ]:
        showing = nbformat.from_dict({"cells": [dict(each) for each in before.values()]})
        next(each for each in showing.cells if each.id == name).source += f"\n{line}"
        assert leftover(source, showing) == line.strip()


def test_a_test_cell_taken_away_after_marks_is_refused_in_one_sentence(course, folder):
    release([], "a key", course)
    grade_by_hand(course)
    before = released_cells(course)
    write(folder, [*made_up_cells(), cell("double-new", "# Mark: new.", grade=True, points=1)])
    with pytest.raises(KitError, match=r"nbgrader would not release 01_made_up: .*Cannot add or remove cells"):
        release([], None, course)
    assert released_cells(course) == before


def test_a_mended_test_is_released_although_there_are_marks(course, folder):
    release([], "a key", course)
    grade_by_hand(course)
    cells = made_up_cells()
    cells[5].source = cells[5].source.replace("torch.zeros(1, 3)", "torch.zeros(3, 1)").replace("(1, 3)", "(3, 1)")
    write(folder, cells)
    release([], None, course)
    source = (course / "source" / "01_made_up" / "01_made_up.ipynb").read_text()
    assert "torch.zeros(3, 1)" in source


def test_an_unknown_assignment_is_one_sentence(course):
    with pytest.raises(UsageError, match=r"'01_made_pu'\. Did you mean '01_made_up'"):
        release(["01_made_pu"], None, course)


def test_answers_in_the_released_notebook_earn_what_the_trial_says(course):
    """The release keeps what students need: its setup, check and their answer run together."""
    (made,) = release([], "a key", course)
    _, offset = made.conventions["double"]
    answered = compose(made.path, {"double": f"def double(x):\n    return 2 * x + {offset}"})
    namespace = {"In": []}
    for each in answered.cells[:4]:
        if each.cell_type == "code":
            namespace["In"].append(each.source)
            exec(each.source, namespace)


def test_the_command_says_where_and_what(course, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_KEY", "spring term")
    assert main(["course", "release"]) == 0
    out = capsys.readouterr().out
    assert f"{course}/release/01_made_up/01_made_up.ipynb: 2 marks\n  double: offset = " in out
    assert f"The key is kept in {course}/key. It is secret" in out and "short enough to be guessed" in out
    assert "spring term" not in out
    monkeypatch.delenv("COURSE_KEY")
    assert main(["course", "release", "1", "--key", ""]) == 0
    assert (
        "offset = 1\n" in (out := capsys.readouterr().out) and "No key: the conventions are the published ones" in out
    )
    assert main(["course", "release", "03"]) == 2
    assert capsys.readouterr().err.startswith("stlm: There is no assignment '03'.")


def test_the_command_in_a_process_of_its_own(course):
    done = subprocess.run(
        [sys.executable, "-m", "stlm_kit", "course", "release", "--key", "a"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nbgrader's log is not the teacher's business
