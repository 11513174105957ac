"""What was handed in is found, whatever the folder looks like, and no file stops the search."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stlm_kit.course.course_file import Course, Student
from stlm_kit.course.submissions import LARGEST, Unreadable, cells, find, who
from stlm_kit.errors import UsageError

IDS = {"01_made_up": {"setup", "double"}, "02_other": {"setup", "other"}}
ROSTER = Course(
    roster=[
        Student(id="ada", name="Ada Lovelace", email="ada@example.org", canvas="101"),
        Student(id="ada2", name="Ada Byron King", login="abk"),
        Student(id="jö", name="Jörg Müller-Meier"),
    ]
)


def notebook(*ids):
    return json.dumps({"nbformat": 4, "cells": [{"cell_type": "code", "id": each, "source": ["x"]} for each in ids]})


def put(folder, path, text=None):
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(notebook("setup", "double") if text is None else text, encoding="utf-8")
    return place


def found(folder, course=None, wanted=tuple(IDS)):
    return {each.name: each for each in find(folder, course or Course(), IDS, wanted)}


@pytest.mark.parametrize(
    "path", ["ada/answer.ipynb", "ada.ipynb", "ada/01_made_up/01_made_up.ipynb", "ada/deep/down/x.ipynb"]
)
def test_layouts(tmp_path, path):
    put(tmp_path, path)
    (only,) = found(tmp_path).values()
    assert (only.student, only.assignment, only.problem) == ("ada", "01_made_up", "")
    assert only.handed_in.tzinfo is not None and b"double" in only.content


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("ada", "ada"),
        ("ADA", "ada"),
        ("ada2", "ada2"),
        ("ada_assignment-1", "ada"),
        ("ada2_assignment", "ada2"),
        ("ada@example.org", "ada"),
        ("lovelaceada_LATE_101_4711_answer-2", "ada"),
        ("somebody_101_4711_answer", "ada"),
        ("Ada Lovelace_99_assignsubmission_file", "ada"),
        ("kingadabyron_5_6_x", "ada2"),
        ("müllermeierjörg_1_2_x", "jö"),
        ("Jörg Müller-Meier_7_assignsubmission_file", "jö"),
        ("eve", ""),
        ("lovelace", ""),
        ("101", ""),
    ],
)
def test_whose_a_name_is(name, student):
    assert who(name, ROSTER)[0] == student


def test_an_unknown_student_is_told_with_near_names(tmp_path):
    put(tmp_path, "adda/x.ipynb")
    each = found(tmp_path, ROSTER)["adda"]
    assert not each.student and each.problem == "Nobody on the roster is called 'adda'. Did you mean 'ada' or 'ada2'?"


@pytest.mark.parametrize("name", ["..x", "a b", "-rf", "a;b"])
def test_without_a_roster_only_plain_names_become_folders(name):
    assert who(name, Course())[0] == ""


@pytest.mark.parametrize(
    ("path", "text", "sentence"),
    [
        ("ada/x.ipynb", "{", "not JSON"),
        ("ada/x.ipynb", "", "not JSON"),
        ("ada/x.ipynb", "[" * 100_000, "not JSON"),
        ("ada/x.ipynb", "[]", "no list of cells"),
        ("ada/x.ipynb", '{"worksheets": []}', "no list of cells"),
        ("ada/x.ipynb", " " * (LARGEST + 1), "larger than 20 MiB"),
        ("ada/readme.txt", "hello", "no notebook in the folder"),
        ("ada.py", "x = 1", "ada.py is not a notebook"),
        ("ada/.ipynb_checkpoints/x.ipynb", None, "no notebook in the folder"),
        ("ada/thing.ipynb", '{"cells": []}', "cannot be told which assignment"),
    ],
)
def test_what_is_no_notebook_gets_a_sentence(tmp_path, path, text, sentence):
    put(tmp_path, path, text)
    (only,) = found(tmp_path).values()
    assert only.student == "ada" and sentence in only.problem


def test_links_are_not_followed(tmp_path):
    secret = put(tmp_path, "elsewhere/secret.ipynb")
    submissions = tmp_path / "submissions"
    (submissions / "ada").mkdir(parents=True)
    (submissions / "ada" / "x.ipynb").symlink_to(secret)
    (submissions / "eve").symlink_to(secret.parent)
    everything = found(submissions)
    assert "no notebook" in everything["ada"].problem and "link" in everything["eve"].problem
    assert not any(each.content for each in everything.values())


def test_cells_decide_which_assignment_it_is_not_names(tmp_path):
    put(tmp_path, "ada/01_made_up.ipynb", notebook("setup", "other"))
    put(tmp_path, "eve/01_made_up.ipynb", notebook("nothing", "known"))
    everything = found(tmp_path)
    assert everything["ada"].assignment == "02_other" and everything["eve"].assignment == "01_made_up"
    assert "none of the assignment's cells" in everything["eve"].remarks[0]
    assert list(found(tmp_path, wanted=["02_other"])) == ["ada"]


def test_of_two_notebooks_one_counts_and_it_is_said(tmp_path):
    os.utime(put(tmp_path, "ada/old.ipynb"), (1, 1))
    put(tmp_path, "ada/new.ipynb")
    put(tmp_path, "ada/broken.ipynb", "{")
    put(tmp_path, "eve/old.ipynb")
    os.utime(put(tmp_path, "eve/01_made_up.ipynb"), (1, 1))
    everything = {(each.name, each.assignment): each for each in find(tmp_path, Course(), IDS, ["01_made_up"])}
    ada, eve = everything["ada", "01_made_up"], everything["eve", "01_made_up"]
    assert ada.path.name == "new.ipynb" and "new.ipynb counts, not broken.ipynb, old.ipynb" in ada.remarks[0]
    assert eve.path.name == "01_made_up.ipynb"  # called like the assignment


def test_without_ids_the_functions_tell_the_assignment(tmp_path):
    bare = {"nbformat": 4, "cells": [{"cell_type": "code", "source": "def other(x):\r\n    return x"}]}
    put(tmp_path, "ada/x.ipynb", json.dumps(bare))
    (only,) = found(tmp_path).values()
    assert only.assignment == "02_other" and not only.problem and "none of the assignment's cells" in only.remarks[0]


def test_a_notebook_as_released_is_no_attempt_beside_another(tmp_path):
    stub = "def double(x):\n    raise NotImplementedError"
    for name, source in (("01_made_up", stub.replace("\n", "\r\n")), ("mine", "def double(x):\n    return x")):
        cell = {"cell_type": "code", "id": "double", "source": source}
        put(tmp_path, f"ada/{name}.ipynb", json.dumps({"nbformat": 4, "cells": [cell]}))
    (only,) = find(tmp_path, Course(), IDS, ["01_made_up"], [stub])
    assert only.path.name == "mine.ipynb"


def test_lines_without_their_ends_are_lines(tmp_path):
    raw = {"cells": [{"cell_type": "code", "source": ["def f(x):", "    return x"]}]}
    assert cells(json.dumps(raw).encode())[0].source == "def f(x):\n    return x"


def test_nbgraders_timestamp_counts_where_nbgrader_puts_it(tmp_path):
    put(tmp_path, "ada/01_made_up/x.ipynb")
    put(tmp_path, "ada/01_made_up/timestamp.txt", "2026-10-15 21:30:00.000000 UTC")
    put(tmp_path, "eve/x.ipynb")
    put(tmp_path, "eve/timestamp.txt", "2000-01-01 00:00:00 UTC")  # written by the student
    put(tmp_path, "bob/01_made_up/x.ipynb")
    put(tmp_path, "bob/01_made_up/timestamp.txt", "yesterday, I swear")
    everything = found(tmp_path)
    assert everything["ada"].handed_in.isoformat() == "2026-10-15T21:30:00+00:00"
    assert everything["eve"].handed_in.year > 2000 and everything["bob"].handed_in.year > 2000


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("")])
def test_no_folder_or_an_empty_one_is_one_sentence(tmp_path, make):
    make(tmp_path / "in")
    with pytest.raises(UsageError, match=r"folder|nothing in"):
        found(tmp_path / "in")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["cells", "id", "source", "metadata"]), inner),
)


@given(st.binary() | JSON.map(lambda value: json.dumps({"cells": value}).encode()))
def test_reading_cells_gives_cells_or_a_sentence(content):
    try:
        assert all(isinstance(cell.source, str) for cell in cells(content))
    except Unreadable as error:
        assert str(error).endswith(".")
