"""Marks in build cells: what becomes of them, and what is refused."""

import pytest

from stlm_kit.errors import KitError
from stlm_kit.practice.turns import STUB, groups, turn_of

SOURCE = '''def mean(numbers: list[float]) -> float:
    """Their mean."""
    n = len(numbers)
    # Your turn: the sum of the numbers
    # over n.
    total = sum(numbers)

    # a comment of the solution
    return total / n


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        # Your turn: x times the factor.
        return self.factor * x

    def extra_repr(self) -> str:
        return f"factor={self.factor}"'''


def code(source: str, **metadata) -> dict:
    return {"cell_type": "code", "source": source, "metadata": metadata}


def test_a_region_becomes_its_task_with_a_line_budget():
    turn = turn_of(code(SOURCE, hint="Think."))
    assert turn.stub == SOURCE.replace(
        """    # Your turn: the sum of the numbers
    # over n.
    total = sum(numbers)

    # a comment of the solution
    return total / n
""",
        f"""    # Your turn (about 2 lines): the sum of the numbers
    # over n.
    {STUB}
""",
    ).replace(
        """        # Your turn: x times the factor.
        return self.factor * x
""",
        f"""        # Your turn (about 1 line): x times the factor.
        {STUB}
""",
    )
    assert (turn.names, turn.label, turn.n_lines, turn.hint) == (("mean", "Scale"), "mean, Scale", 3, "Think.")
    assert turn.solution == SOURCE
    compile(turn.stub, "stub", "exec")


def test_what_has_no_mark_is_no_turn():
    assert turn_of(code("x = 1")) is None
    assert turn_of({"cell_type": "markdown", "source": "# Your turn: read", "metadata": {}}) is None


MIXED = "def a():\n    # Your turn: inside\n    return 1\n\n\nif a():\n    # Your turn: outside\n    x = 1"


@pytest.mark.parametrize(
    "source",
    [
        "# Your turn: outside\nx = 1",
        "if True:\n    # Your turn: outside\n    x = 1",
        "# Your turn without a colon",
        MIXED,
    ],
)
def test_a_mark_outside_of_a_function_is_refused(source):
    with pytest.raises(KitError, match="inside a function"):
        turn_of(code(source))


def test_turns_belong_to_the_next_check():
    first, second, other = (f"def {name}():\n    # Your turn: it.\n    return 1" for name in "abc")
    cells = [
        code(first),
        code(second),
        code("x = 1"),
        code("checks.same(a(), b())"),
        code(other),
        code("checks.shows(c(), 'it')"),
    ]
    assert {at: [turn.label for turn in turns] for at, turns in groups(cells).items()} == {3: ["a", "b"], 5: ["c"]}


def test_a_turn_without_a_check_or_with_it_in_its_own_cell_is_refused():
    turn = "def a():\n    # Your turn: it.\n    return 1"
    with pytest.raises(KitError, match="No cell behind a checks it"):
        groups([code(turn), code("checks.guess('ch02.a', value=None)")])
    with pytest.raises(KitError, match="share a cell"):
        groups([code(f"{turn}\n\n\nchecks.same(a(), 1)")])
