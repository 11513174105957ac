"""A submission made from a release: each answer in its cell, everything else as released."""

import pytest

from stlm_kit.course.compose import compose
from stlm_kit.errors import UsageError


def test_answers_go_into_their_cells_alone(folder, made_up):
    path = folder / "01_made_up.ipynb"
    made = compose(path, {"tail": "def tail(items):\n    return 1"})
    before = {cell.id: cell for cell in made_up.notebook.cells}
    assert made.cells != list(before.values())
    for cell in made.cells:
        assert cell == before[cell.id] or (cell.id == "tail" and cell.source == "def tail(items):\n    return 1")


@pytest.mark.parametrize("name", ["tial", "tail-last"])
def test_an_answer_to_no_exercise_is_one_sentence(folder, name):
    with pytest.raises(UsageError, match=rf"no exercise '{name}'\. Did you mean 'tail'"):
        compose(folder / "01_made_up.ipynb", {name: ""})
