"""An assignment's folder is read whole or refused with one sentence that says what to mend."""

import nbformat
import pytest

from stlm_kit.course.assignment import assignments_dir, folders, load, read, region
from stlm_kit.errors import KitError, UsageError

from .conftest import DOUBLE_SHAPE, RULES, SETUP, cell, made_up_cells, write


def test_an_assignment_knows_its_parts(made_up):
    assert (made_up.name, made_up.title, len(made_up.exercises)) == ("01_made_up", "Made up", 2)
    assert made_up.exercise("double").forbidden_modules == ["stlm_kit"]
    assert made_up.exercise("double").effort == "easy · 5 minutes · chapter 01, stanza 2"
    assert [test.id for test in made_up.tests("double")] == ["double-value", "double-shape"]
    assert "return x + x + offset" in made_up.solution("double")
    with pytest.raises(UsageError, match=r"no exercise 'tale'\. Did you mean 'tail'"):
        made_up.exercise("tale")


@pytest.mark.parametrize("name", ["01", "1", "made_up", "01_made_up"])
def test_an_assignment_is_found_by_number_or_name(folder, name):
    assert load(name).folder == folder and folders([name]) == folders() == [folder]


def test_unknown_assignments_and_empty_folders_are_one_sentence(folder, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"'02'\. There are 01_made_up"):
        load("02")
    monkeypatch.setenv("STLM_ASSIGNMENTS", str(tmp_path / "nowhere"))
    with pytest.raises(KitError, match=r"There is no assignment in .*nowhere"):
        folders()
    monkeypatch.delenv("STLM_ASSIGNMENTS")
    assert assignments_dir().parts[-2:] == ("notebooks", "assignments")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("lines: 2", "lines: two", "lines = 'two' will not do"),
        ("lines: 2", "line: 2", "exercises.0.lines' is missing"),
        ("    difficulty: easy\n", "", "exercises.0.difficulty' is missing"),
        (
            "difficulty: easy",
            "difficulty: fair",
            "difficulty = 'fair' will not do: input should be 'easy', 'medium'",
        ),
        ("    minutes: 5\n", "", "exercises.0.minutes' is missing"),
        ("minutes: 5", "minutes: 7.5", "minutes = 7.5 will not do: input should be a valid integer"),
        ("minutes: 5", "minutes: 0", "minutes = 0 will not do: input should be greater than 0"),
        ('    chapter: "chapter 01, stanza 2"\n', "", "exercises.0.chapter' is missing"),
        (
            "chapter 01, stanza 2",
            "chapter 1",
            "chapter: 'chapter 1' names no place; write it like",
        ),
        ("choices: [2, 3]", "choices: [1, 3]", "must not draw the published 1"),
        ("choices: [2, 3]", "choices: []", "choices"),
        ('sentence: "Add offset = {value} at the end."', "sentences: {1: One., 2: Two.}", "no sentence for 3"),
        ('sentence: "Add offset = {value} at the end."', "unit: 1", "no setting named 'exercises.0.convention.unit'"),
        ("id: tail", "id: double", "two exercises 'double'"),
        ("id: tail", "id: Tail", "Tail"),
        ("[mul, multiply]", "[double]", "'double' cannot be forbidden"),
        ("title: Made up", "title: [", "cannot be read"),
    ],
)
def test_wrong_rules_are_one_sentence(folder, old, new, sentence):
    assert old in RULES
    (folder / "exercises.yaml").write_text(RULES.replace(old, new, 1))
    with pytest.raises(KitError, match=sentence) as caught:
        read(folder)
    assert str(folder / "exercises.yaml") in str(caught.value)


def test_numbers_without_a_point_are_numbers(folder):
    (folder / "exercises.yaml").write_text(
        RULES.replace("published: 1\n", "published: 1e-6\n").replace("[2, 3]", "[1e-5, -2e+3]")
    )
    cells = made_up_cells()
    convention = read(write(folder, cells, (folder / "exercises.yaml").read_text())).exercise("double").convention
    assert (convention.published, convention.choices) == (1e-6, [1e-5, -2000.0])


def without(cell_id):
    return [each for each in made_up_cells() if each.id != cell_id]


def changed(cell_id, **flags):
    cells = made_up_cells()
    next(each for each in cells if each.id == cell_id).metadata.nbgrader.update(flags)
    return cells


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (without("setup"), "no locked cell with the id 'setup'"),
        (changed("setup", locked=False), "no locked cell with the id 'setup'"),
        (without("double-text"), "exercise double has no cell 'double-text'"),
        (without("double-check"), "exercise double has no cell 'double-check'"),
        (without("double-shape"), "exercise double has 1 test cells; give it 2 to 4"),
        (changed("double-shape", grade_id="shape"), "cell 'double-shape' has the grade_id 'shape'"),
        (changed("double-shape", points=2), "'double-shape' is worth 2; give it 1"),
        (
            [*made_up_cells(), cell("double-new", "1", grade=True, points=1)],
            "'double-new' does not begin with '# Mark: '",
        ),
        (changed("tail-last", points=1), "'tail-last' is worth 1; give it 0"),
        (changed("double", solution=False), "'double' is not marked as a solution"),
        (
            [*made_up_cells(), cell("triple-value", "# Mark: x.", grade=True, points=1)],
            "'triple-value' begins with no exercise",
        ),
        ([*made_up_cells(), cell("tail", "")], "has the grade_id 'tail'; give it the same one"),  # a second of that id
    ],
)
@pytest.mark.filterwarnings("ignore::nbformat.warnings.DuplicateCellId")
def test_wrong_cells_are_one_sentence(folder, cells, sentence):
    with pytest.raises(KitError, match=sentence):
        read(write(folder, cells))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("def double", "def twice", "'double' defines no function of that name"),
        ("offset = 1  # convention", "offset = 1", "has no line `offset = ...  # convention`"),
    ],
)
def test_a_solution_defines_its_function_and_states_its_convention(folder, old, new, sentence):
    cells = made_up_cells()
    cells[2].source = cells[2].source.replace(old, new)
    with pytest.raises(KitError, match=sentence):
        read(write(folder, cells))


def test_a_file_that_is_no_notebook_is_one_sentence(folder):
    (folder / "01_made_up.ipynb").write_text("{")
    with pytest.raises(KitError, match="cannot be read as a notebook"):
        read(folder)


def test_a_students_cells_are_all_but_the_locked_ones(made_up):
    """A helper cell that claims to be locked is still the student's."""
    own = [nbformat.v4.new_code_cell("a = 1"), cell("helper", "b = 1"), nbformat.v4.new_markdown_cell("c")]
    submission = nbformat.v4.new_notebook(cells=[*made_up_cells(), *own])
    submission.cells[0].source = "changed = True"
    assert made_up.students_cells(submission) == [
        SETUP,
        made_up.solution("double"),
        made_up.solution("tail"),
        "a = 1",
        "b = 1",
    ]


def test_regions(made_up):
    assert region(made_up.solution("double"), "SOLUTION") == ["offset = 1  # convention", "return x + x + offset"]
    assert len(region(DOUBLE_SHAPE, "HIDDEN TESTS")) == 1 and region(SETUP, "SOLUTION") == []
