"""The text of a cell as grading compares it and takes it apart: never run, never raised upon.

Editors change line ends, blanks at the ends of lines, and what lies in one cell or two. None of that is an edit.
"""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Iterable

# A null byte; brackets nested too deep for the parser.
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# Before 3.11.8 Python counts the depth of all trees that it builds at once in one place, and `catch_warnings` belongs
# to the whole process too: submissions graded side by side take turns.
_ONE_AT_A_TIME = threading.Lock()


def plain(text: str) -> str:
    """A text with line ends of every system turned into newlines."""
    return re.sub(r"\r+\n|\r", "\n", text)


def same(text: str, other: str) -> bool:
    """Whether two texts differ in line ends and in blanks at the ends of lines at most."""
    return _lines(text) == _lines(other)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in plain(text).strip("\r\n \t").split("\n")]


def without(text: str, known: str) -> str:
    """A text without the places where `known` stands in it as whole lines; what lies indented below stays joined.

    An editor that merges cells leaves the teacher's text inside the student's.
    """
    lines, inside = plain(text).split("\n"), _lines(known)
    if inside == [""]:
        return text
    compared = [line.rstrip() for line in lines]
    at = 0
    while at + len(inside) <= len(lines):
        below = next((line for line in lines[at + len(inside) :] if line.strip()), "")
        if compared[at : at + len(inside)] == inside and not below[:1].isspace():
            del lines[at : at + len(inside)], compared[at : at + len(inside)]
        else:
            at += 1
    return "\n".join(lines)


def is_part_of(text: str, known: str) -> bool:
    """Whether a text is some whole lines of `known` and nothing else, as one half of a split cell is."""
    part, whole = _lines(text), _lines(known)
    return any(whole[at : at + len(part)] == part for at in range(len(whole) - len(part) + 1))


def python(cell: str) -> str:
    """A cell as IPython would run it: `!ls` becomes a call of get_ipython(), what follows `%%time` is the cell."""
    from IPython.core.inputtransformer2 import TransformerManager

    cell = re.sub(r"\A\s*%%.*", "", plain(cell))
    with _ONE_AT_A_TIME, warnings.catch_warnings(action="ignore"):
        return TransformerManager().transform_cell(cell)


def parse(cell: str) -> ast.Module:
    """The syntax tree of what IPython would run. Raises one of `UNREADABLE`."""
    return _parse(python(cell))


def _parse(code: str, attempts: int = 5) -> ast.Module:
    try:
        # An escape that Python frowns on is no matter here.
        with _ONE_AT_A_TIME, warnings.catch_warnings(action="ignore"):
            return ast.parse(code)
    except SystemError:  # a library in another thread was building a tree as well (python/cpython#106905)
        if attempts == 1:
            raise
        return _parse(code, attempts - 1)


def tree(cell: str) -> ast.Module | None:
    """`parse`, and None for a cell that nobody can read."""
    try:
        return parse(cell)
    except UNREADABLE:
        return None


def compiles(code: str) -> bool:
    """Whether a cell can run at all: half a function cannot, nor can its other half, a `return` outside of one."""
    if (parsed := tree(code)) is None:
        return False
    try:
        with _ONE_AT_A_TIME, warnings.catch_warnings(action="ignore"):
            compile(parsed, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except UNREADABLE:
        return False
    return True


def defined(code: str) -> set[str]:
    """The names that a cell defines as functions: by `def` or as a lambda, not inside another function or a class."""
    parsed = tree(code)
    if parsed is None:
        return set(re.findall(r"^(?:async )?def (\w+)\(", code, re.MULTILINE))
    return {name for statement in parsed.body for name in _defined(statement)}


def _defined(node: ast.AST) -> Iterable[str]:
    if isinstance(node, DEFINITIONS):
        yield node.name
    elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Lambda):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))
    elif isinstance(node, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
        for part in ast.iter_child_nodes(node):
            yield from _defined(part)
    elif isinstance(node, ast.ExceptHandler):
        for part in node.body:
            yield from _defined(part)


def split(code: str, names: Iterable[str]) -> list[str]:
    """A cell cut behind each statement that defines one of `names`, but for the last, so that each piece has one.

    Lines stay as they are; the cell as a whole where it cannot be read, or where two statements share a line.
    """
    wanted = set(names)
    try:
        body = _parse(code).body
    except UNREADABLE:
        return [code]
    ends = {statement.end_lineno: wanted & set(_defined(statement)) for statement in body}
    places, latest = [], {name: line for line, found in ends.items() for name in found}
    for line in sorted(set(latest.values()))[:-1]:
        if not any(each.lineno <= line < each.end_lineno for each in body):  # two statements on one line stay together
            places.append(line)
    lines, pieces, begin = code.split("\n"), [], 0
    for line in [*places, len(lines)]:
        while line < len(lines) and lines[line].strip() and lines[line][0].isspace():
            line += 1  # a comment at the end of the function's body
        pieces.append("\n".join(lines[begin:line]))
        begin = line
    return pieces


def cut_definition(code: str, name: str) -> str:
    """A cell without its top-level definitions of `name`; "" where only comments are left."""
    try:
        body = _parse(code).body
    except UNREADABLE:
        return code
    lines = code.split("\n")
    kept = [each for each in body if not (isinstance(each, DEFINITIONS) and each.name == name)]
    for each in reversed(body):
        if each not in kept:
            first = min([each.lineno, *(one.lineno for one in each.decorator_list)])
            lines[first - 1 : each.end_lineno] = []
    return "\n".join(lines) if kept else ""
