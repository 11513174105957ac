"""Drawn lines: the same key draws the same, another key others, and everything else stays as it was written."""

import ast
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stlm_kit.course.assignment import Assignment, read
from stlm_kit.course.keyed_values import LINE, MARKER, convention, keyed, rewrite
from stlm_kit.errors import KitError

from .conftest import made_up_cells, write

KEYS = [f"key {number}" for number in range(40)]


def source(made_up, key, cell_id="double-value"):
    return next(cell.source for cell in keyed(made_up, key).cells if cell.id == cell_id)


def drawn(text, made_up, key="a key", cell_id="double-value"):
    return rewrite(text, made_up, cell_id, made_up.exercise("double"), key)


def test_without_a_key_only_the_comments_go(made_up):
    text = source(made_up, "")
    assert "\nseed = 3\nn, m = 2, 5\noffset = 1\n" in text
    assert source(made_up, "", "double-text") == made_up.cells["double-text"].source


def test_a_key_draws_the_same_again_and_from_the_choices(made_up):
    seeds, shapes = set(), set()
    for key in KEYS:
        text = source(made_up, key)
        assert text == source(made_up, key)
        values = dict(line.split(" = ") for line in text.split("\n")[2:5])
        seeds.add(int(values["seed"]))
        shapes.add(ast.literal_eval(values["n, m"]))
    assert len(seeds) == len(KEYS) and all(0 <= seed < 2**31 for seed in seeds)
    assert shapes == {(n, m) for n in (2, 3, 4) for m in (5, 7)}


def test_the_convention_is_one_everywhere_and_never_the_published(made_up):
    exercise, values = made_up.exercise("double"), set()
    for key in KEYS:
        values.add(value := convention(made_up, exercise, key))
        for cell_id in ("double", "double-check", "double-value"):
            assert f"offset = {value}\n" in source(made_up, key, cell_id)
        assert source(made_up, key, "double-text").endswith(f"**Convention.** Add offset = {value} at the end.")
    assert values == {2, 3}


def test_places_draw_apart(made_up):
    lines = drawn("a = 1  # drawn: seed\nb = 1  # drawn: seed\na = 1  # drawn: seed", made_up).split("\n")
    other = drawn("a = 1  # drawn: seed", made_up, cell_id="double-shape")
    assert len({line.split(" = ")[1] for line in [*lines, other]}) == 4


def test_the_source_itself_is_left_as_it_is(made_up):
    before = [dict(cell) for cell in made_up.notebook.cells]
    keyed(made_up, "a key")
    assert [dict(cell) for cell in made_up.notebook.cells] == before


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("offset = 2  # convention", "exercises.yaml publishes 1"),
        ("other = 1  # convention", "its name is not that of a convention"),
        ("n, m = 1, 2  # drawn from [1, 2]", "each name needs a list"),
        ("n = 1  # drawn from []", "each name needs a list"),
        ("n = 1  # drawn from 1, 2", "each name needs a list"),
        ("n = 1  # drawn from [1, two]", "will not do"),
        ("n = f(1)  # drawn: seed", "will not do"),
        ("n = 1 # drawn: seed", "is no drawn line"),
        ("n = 1  # drawn: sed", "is no drawn line"),
        ("n += 1  # drawn: seed", "is no drawn line"),
        ("# Convention: as stated", "is no drawn line"),
        ("x = 1 # planted: x = 2", "is no drawn line"),
        ("x = 1  # planted:", "is no drawn line"),
    ],
)
def test_a_line_that_is_not_well_formed_is_one_sentence(made_up, line, sentence):
    for key in ("", "a key"):
        with pytest.raises(KitError, match=rf"^01_made_up, cell double-value: `[^`]+` .*{sentence}"):
            drawn(f"x = 1\n{line}\ny = 2", made_up, key)


SCRIPT = "for x in y:\n    a(x)  # planted: b(x)\n    c(x)  # kept\nd(y)  # planted: e(y)"
ONE, OTHER = "for x in y:\n    b(x)\n    c(x)  # kept\nd(y)", "for x in y:\n    a(x)\n    c(x)  # kept\ne(y)"


def test_a_key_plants_at_least_one_fault_and_no_key_plants_all(made_up):
    both = "for x in y:\n    b(x)\n    c(x)  # kept\ne(y)"
    assert drawn(SCRIPT, made_up, "") == both
    assert {drawn(SCRIPT, made_up, key) for key in KEYS} == {ONE, OTHER, both}
    assert {drawn("a  # planted: b", made_up, key) for key in KEYS} == {"b"}


def test_a_convention_outside_an_exercise_is_refused(made_up):
    with pytest.raises(KitError, match=r"cell setup: .* its name"):
        rewrite("offset = 1  # convention", made_up, "setup", None, "")


def test_a_text_without_its_line_is_refused(folder):
    cells = made_up_cells()
    cells[1].source = "## Doubling"
    with pytest.raises(KitError, match=r"double-text: give it one line that starts \*\*Convention"):
        keyed(read(write(folder, cells)))


NAME = st.from_regex(r"[a-z]\w{0,5}", fullmatch=True).filter(str.isidentifier)
PLAIN = st.text(st.characters(blacklist_characters="#", blacklist_categories=["Cs"]), max_size=30)


@given(
    st.lists(NAME, min_size=1, max_size=3),
    st.lists(st.integers(), min_size=1),
    st.sampled_from(["", "    "]),
    PLAIN,
    PLAIN,
    st.text(min_size=1),
)
def test_other_lines_stay_and_every_value_is_one_of_the_choices(names, choices, indent, before, after, key):
    before, after = before.replace("\r", ""), after.replace("\r", "")
    value = ", ".join(["0"] * len(names))
    line = f"{indent}{', '.join(names)} = {value}  # drawn from {', '.join([repr(choices)] * len(names))}"
    cell = nbformat.v4.new_code_cell(f"{before}\n{line}\n{after}", id="double-value")
    assignment = Assignment(Path("01_made_up"), "Made up", (), nbformat.v4.new_notebook(cells=[cell]))
    written = rewrite(cell.source, assignment, cell.id, None, key)
    assert written == keyed(assignment, key).cells[0].source
    assert written.startswith(f"{before}\n{indent}{', '.join(names)} = ") and written.endswith(f"\n{after}")
    values = written[len(before) + 1 : len(written) - len(after) - 1].split(" = ")[1]
    assert all(int(value) in choices for value in values.split(", "))
    assert not LINE.search(written) and not MARKER.search(written)
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell | {"source": written}]))
