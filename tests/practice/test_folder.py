"""`stlm practice`: what is written, what of the student's is never touched."""

import nbformat
import pytest

from stlm_kit import cli
from stlm_kit.notebook_files import chapters
from stlm_kit.practice import folder as made
from stlm_kit.practice.folder import KEPT, NEW, OLDER, make_practice, practice_dir

NAMES = [chapter.path.name for chapter in chapters()]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A student's course, made once."""
    folder = tmp_path_factory.mktemp("course") / "mine"
    assert cli.main(["practice", str(folder)]) == 0
    return folder


def test_it_holds_every_chapter_and_every_assignment_without_a_solution(course):
    assert sorted(path.name for path in course.glob("*.ipynb")) == NAMES
    assignments = sorted(course.glob("assignments/*.ipynb"))
    assert [path.name[:2] for path in assignments] == ["01", "02", "03", "04", "05", "06"]
    for path in assignments:
        text = path.read_text("utf-8")
        assert "NotImplementedError" in text
        assert "BEGIN SOLUTION" not in text and "BEGIN HIDDEN TESTS" not in text


def test_a_second_time_nothing_of_the_students_is_touched(course, capsys):
    path = course / NAMES[1]
    book = nbformat.read(path, as_version=4)
    book.cells.append(nbformat.v4.new_markdown_cell("my own notes"))
    nbformat.write(book, path)
    before = {each: each.read_bytes() for each in course.rglob("*.ipynb")}
    assert cli.main(["practice", str(course)]) == 0
    assert {each: each.read_bytes() for each in course.rglob("*.ipynb")} == before
    assert f"0 notebooks made, {len(before)} kept as they are" in capsys.readouterr().out


def test_again_makes_one_chapter_anew_and_keeps_the_students_beside_it(course, capsys):
    path = course / NAMES[0]
    path.write_text("{ damaged", "utf-8")
    for number in (1, 2):
        assert cli.main(["practice", str(course), "--again", NAMES[0][:2]]) == 0
        assert f"yours is now {path.stem}.mine-{number}.ipynb" in capsys.readouterr().out
    assert (course / f"{path.stem}.mine-1.ipynb").read_text("utf-8") == "{ damaged"
    nbformat.validate(nbformat.read(path, as_version=4))


def test_a_copy_of_an_older_chapter_is_said_to_be_one(course, capsys):
    path = course / NAMES[2]
    book = nbformat.read(path, as_version=4)
    book.metadata["practice_of"]["sources"] = "0" * 16
    nbformat.write(book, path)
    [state] = [each.state for each in make_practice(course, [NAMES[2]])]
    assert state == OLDER
    cli.main(["practice", str(course)])
    assert f"{NAMES[2]} was made from an older chapter; --again 02" in capsys.readouterr().out


def test_a_wrong_name_and_a_folder_that_cannot_be_are_one_sentence(tmp_path, capsys):
    assert cli.main(["practice", str(tmp_path / "x"), "--again", "77"]) == 2
    assert "There is no chapter '77'" in capsys.readouterr().err
    (tmp_path / "file").write_text("", "utf-8")
    assert cli.main(["practice", str(tmp_path / "file")]) == 1
    assert "Could not write" in capsys.readouterr().err


def test_it_goes_into_the_checkout_where_git_ignores_it_and_into_the_working_folder_elsewhere(tmp_path, monkeypatch):
    assert practice_dir().parts[-2:] == ("notebooks", "practice")
    monkeypatch.setattr(made, "notebooks_dir", lambda: tmp_path / "site-packages" / "notebooks")
    monkeypatch.chdir(tmp_path)
    assert practice_dir() == tmp_path / "practice"


def test_states_are_told_apart():
    assert len({NEW, KEPT, OLDER}) == 3
