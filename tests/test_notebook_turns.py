"""What a chapter leaves to its student: each turn has a task, a hint, a name of its own and a check that needs it."""

import ast
import itertools
import re
import symtable
from typing import NamedTuple

import nbformat
from test_notebooks import chapter, code_cells, lines

TURN_LINES = 10  # of code that a student is to write at once


class Turn(NamedTuple):
    """What a student is to write in a build cell: the definition that holds the mark, and the marked lines of code."""

    name: str
    lines: int


MARK = re.compile(r"^( *)# Your turn: \S", re.MULTILINE)


def turns(cell: nbformat.NotebookNode) -> list[Turn]:
    """The marks of a cell, `# Your turn: ...` in a function or method; the region ends where its block ends."""
    source, found = cell.source.splitlines(), []
    outer = {node.name: node for node in ast.parse(cell.source).body if hasattr(node, "name")}
    for number, line in enumerate(source, 1):
        if match := MARK.match(line):
            [name] = [name for name, node in outer.items() if node.lineno <= number <= node.end_lineno]
            region = itertools.takewhile(lambda text: not text.strip() or text.startswith(match[1]), source[number:])
            found.append(Turn(name, lines("\n".join(region))))
    return found


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
        marked = turns(cell)
        assert len(marked) == cell.source.count("# Your turn"), f"a mark stands outside of a definition: {cell.source}"
        if not marked:
            continue
        names += sorted({turn.name for turn in marked})
        assert len(cell.metadata.get("hint", "")) >= 30, f"no hint for {names[-1]}"
        assert all(1 <= turn.lines <= TURN_LINES for turn in marked), f"{marked}: more than a student's turn"
        definitions = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
        assert all(isinstance(node, definitions) for node in ast.parse(cell.source).body), (
            f"a cell with a turn does more than define: {cell.source}"
        )
        for turn in marked:
            assert is_checked(turn.name, cells[place:]), f"no check depends on {turn.name}"
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
    assert turns(nbformat.v4.new_code_cell(source)) == [Turn("Two", 2), Turn("Two", 1)]


def test_a_turn_that_nothing_checks_is_noticed():
    cells = [
        nbformat.v4.new_code_cell(source) for source in ("b = a(1)", "def c():\n    return b", "checks.same(c(), 1)")
    ]
    assert is_checked("a", cells) and not is_checked("d", cells) and not is_checked("a", cells[:2])
