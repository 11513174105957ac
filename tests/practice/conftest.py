"""A chapter in small, and a shell to practise it in."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CELLS = [
    new_markdown_cell("# 99 · In small\n\nTwo functions and a class."),
    new_code_cell("from stlm_kit import checks\n\nkept, numbers = [], [1.0, 2.0, 3.0]"),
    new_code_cell(
        "def total(numbers: list[float]) -> float:\n    # Your turn: their sum.\n    return sum(numbers)",
        metadata={"hint": "There is a function for it."},
    ),
    new_code_cell(
        "def mean(numbers: list[float]) -> float:\n    # Your turn: the total over how many there are.\n"
        "    return total(numbers) / len(numbers)",
        metadata={"hint": "`total` and `len`."},
    ),
    new_code_cell(
        "kept.append(mean(numbers))\nchecks.same(total(numbers), 6.0, what='the sum')\n"
        "checks.same(mean(numbers), 2.0, what='the mean')\nlen(kept)",
        metadata={"tags": ["nbval-check-output"]},
    ),
    new_code_cell(
        "class Scale:\n    def __call__(self, x: float) -> float:\n        # Your turn: twice x.\n        return 2 * x",
        metadata={"hint": "`*`."},
    ),
    new_code_cell("class Twice(Scale):\n    pass"),
    new_code_cell("checks.same(Twice()(3), 6, what='twice three')"),
    new_code_cell("print(mean(numbers), Twice()(1))"),
]


@pytest.fixture
def chapter():
    return nbformat.from_dict(new_notebook(cells=CELLS))


@pytest.fixture
def shell():
    """An IPython shell of its own, whose namespace starts empty."""
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.clear_instance()
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()
