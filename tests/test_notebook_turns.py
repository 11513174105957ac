"""What a chapter leaves to its student: each turn has a task, a hint, a name of its own and a check that needs it."""

import ast
import re
import symtable

import nbformat
from test_notebooks import chapter, code_cells

from stlm_kit.practice.turns import turn_of

TURN_LINES = 10  # of code that a student is to write at once


def is_checked(name: str, later: list[nbformat.NotebookNode]) -> bool:
    """Whether a cell with a check takes this name, or a name that cells before it made of this one."""
    reached = {name}
    for cell in later:
        if reached & set(re.findall(r"\w+", cell.source)):
            if "checks." in cell.source:
                return True
            table = symtable.symtable(cell.source, "cell", "exec")
            reached |= {each.get_name() for each in table.get_symbols() if each.is_assigned()}
    return False


@chapter
def test_every_turn_has_a_hint_a_name_of_its_own_and_a_check(path):
    cells, names = code_cells(path), []
    for place, cell in enumerate(cells):
        turn = turn_of(cell)  # raises where a mark stands outside of a definition
        if not turn:
            continue
        assert len(turn.lines) == cell.source.count("# Your turn")
        assert all(re.findall(r"# Your turn: *(\S?)", cell.source)), f"a mark without a task: {cell.source}"
        names += turn.names
        assert len(cell.metadata.get("hint", "")) >= 30, f"no hint for {names[-1]}"
        assert all(1 <= n <= TURN_LINES for n in turn.lines), f"{turn.label}: more than a student's turn"
        definitions = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
        assert all(isinstance(node, definitions) for node in ast.parse(cell.source).body), (
            f"a cell with a turn does more than define: {cell.source}"
        )
        for name in turn.names:
            assert is_checked(name, cells[place:]), f"no check depends on {name}"
    assert len(set(names)) == len(names), "two turns of one name"
    assert names, "a chapter has something to write"


def test_a_turn_ends_where_its_block_ends():
    source = """class Two:
    def first(self):
        '''Given.'''
        # Your turn: one.
        # And more.
        one = 1

        return one
    def second(self):
        # Your turn: two.
        return 2
def third():
    return 3"""
    turn = turn_of(nbformat.v4.new_code_cell(source))
    assert (turn.names, turn.lines) == (("Two",), (2, 1))


def test_a_turn_that_nothing_checks_is_noticed():
    cells = [
        nbformat.v4.new_code_cell(source) for source in ("b = a(1)", "def c():\n    return b", "checks.same(c(), 1)")
    ]
    assert is_checked("a", cells) and not is_checked("d", cells) and not is_checked("a", cells[:2])
