"""What a student's code may not use, read off its syntax tree and never run.

From the exercise's function every global name is followed to whatever binds it at the top level of a cell, and on from
there. A forbidden identifier on the way, a forbidden or unknown module, a file, or a lookup whose target cannot be read
takes the exercise's marks; what a local variable or a helper of one's own is called does not matter. Only what Python
spells out is seen: an object dug out of an allowed library's inside by other names is not.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import symtable
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

from stlm_kit.course.assignment import Exercise
from stlm_kit.course.cell_text import UNREADABLE, parse, python

# Lookups whose target is only known when they run: as a global name, and also as an attribute or a module.
DYNAMIC_NAMES = {"eval", "exec", "compile", "vars", "globals", "locals", "setattr", "delattr", "In", "_ih"}
DYNAMIC = {"__import__", "importlib", "inspect", "sys", "_getframe", "get_ipython", "builtins", "__builtins__", "gc"}
DYNAMIC |= {"__dict__", "__globals__", "__code__", "__closure__", "__subclasses__", "__getattribute__", "ctypes"}
DYNAMIC |= {"attrgetter", "methodcaller", "pickle", "marshal", "f_globals", "f_locals", "f_back", "linecache"}
ANYTHING = {"eval", "exec", "globals", "locals", "vars"}  # a cell with one of these may bind any name
FILES = {"open", "os", "io", "subprocess", "pathlib", "shutil", "tempfile", "glob", "socket", "urllib", "requests"}
METHODS = {"eval", "exec", "compile", "open"}  # harmless as attributes: model.eval(), re.compile()
MODULES = sys.stdlib_module_names | {"torch", "numpy", "jaxtyping"}  # a module that is not there might hold an answer
GIVEN = DYNAMIC | DYNAMIC_NAMES | set(dir(builtins))
# Methods that change what a name stands for without binding it again.
CHANGING = {"append", "add", "extend", "insert", "update", "setdefault", "__setitem__", "__setattr__"}


def violations(cells: list[str], function: str, exercise: Exercise) -> list[str]:
    """One sentence for each thing `function` reaches that the exercise does not allow; [] for a fair answer.

    cells: the sources of `Assignment.students_cells`, the locked setup first. A function that is missing, or whose cell
    cannot be read, is told as well. Never raises for any text.
    """
    statements, unreadable = [], []
    for cell in cells:
        try:
            statements += _statements(cell)
        except SyntaxError as error:
            unreadable.append(f"A cell has a syntax error in line {error.lineno or 1}: {error.msg}.")
        except UNREADABLE:
            unreadable.append("A cell cannot be read as Python.")
    if not any(function in statement.binds for statement in statements):
        return unreadable or [f"There is no function {function}; keep the name the exercise gives it."]
    bound = {name for statement in statements for name in statement.binds}
    found = []
    for statement in _reached(statements, function):
        for name in sorted(statement.reads):
            if name not in bound or name in GIVEN:  # `if 0: eval = None` binds nothing
                found += _of_name(name, exercise)
        for node in ast.walk(statement.node):
            found += _of_node(node, exercise)
    return list(dict.fromkeys(found))


def lines(code: str, function: str) -> int:
    """How many lines of code the body of the last `function` in `code` has; comments, blanks, docstring not counted.

    0 where there is no such function. Raises SyntaxError for code that cannot be read.
    """
    bodies = [node.body for node in ast.walk(parse(code)) if isinstance(node, FUNCTIONS) and node.name == function]
    if not bodies:
        return 0
    body = bodies[-1][1:] if _is_text(bodies[-1][0]) else bodies[-1]
    if not body:
        return 0
    inside = range(body[0].lineno, body[-1].end_lineno + 1)
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    tokens = list(tokenize.generate_tokens(io.StringIO(python(code)).readline))
    used = {row for t in tokens if t.type not in silent for row in range(t.start[0], t.end[0] + 1)}
    return len(used.intersection(inside))


def latest(cells: list[str]) -> list[str]:
    """What still counts of the cells a notebook has run: for each name the last statement that binds it.

    Whoever mends a function and runs its cell again is not held to the first try.
    """
    statements = []
    for cell in cells:
        with contextlib.suppress(*UNREADABLE):
            statements += _statements(cell)
    kept, bound = [], set()
    for statement in reversed(statements):
        if statement.changes or statement.binds - bound:
            kept.append(statement.text)
            bound |= statement.binds
    return kept[::-1]


def new_definitions(cell: str, other: str) -> set[str]:
    """The functions, classes and modules that one cell defines or imports and another does not."""
    found = []
    for text in (cell, other):
        statements = []
        with contextlib.suppress(*UNREADABLE):
            statements = _statements(text)
        making = (*FUNCTIONS, ast.ClassDef, ast.Import, ast.ImportFrom)
        found.append({name for each in statements if isinstance(each.node, making) for name in each.binds})
    return found[0] - found[1]


def names(cell: str) -> tuple[set[str], set[str]]:
    """The global names that a cell binds or changes, and those it reads; nothing for a cell that cannot be read."""
    statements = []
    with contextlib.suppress(*UNREADABLE):
        statements = _statements(cell)
    binds = {name for each in statements for name in each.binds | each.changes}
    return binds, {name for each in statements for name in each.reads}


# --- which statements a function reaches ---

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Statement:
    """One statement at the top level of a cell, with the global names it binds, changes the objects of, and reads."""

    text: str
    node: ast.stmt
    binds: frozenset[str]
    changes: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()


def _reached(statements: list[Statement], function: str) -> list[Statement]:
    """The statements that bind or change `function`, and those that bind or change what they read, and so on."""
    names, reached = {function}, []
    while fresh := [
        each
        for each in statements
        if each not in reached and (names & (each.binds | each.changes) or each.reads & ANYTHING)
    ]:
        reached += fresh
        names.update(*(each.reads for each in fresh))
    return reached


def _statements(cell: str) -> list[Statement]:
    """A cell's top level, an import of several names taken apart, so that each is reached alone."""
    found, code = [], python(cell).split("\n")
    for node in parse(cell).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                one = ast.ImportFrom(node.module, [alias], node.level) if isinstance(node, ast.ImportFrom) else None
                one = one or ast.Import([alias])
                found.append(Statement(ast.unparse(one), one, frozenset([alias.asname or alias.name.split(".")[0]])))
        else:
            first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
            text = "\n".join(code[first - 1 : node.end_lineno])
            binds, reads = _names(symtable.symtable(text, "cell", "exec"))
            changes = _changed(node)
            found.append(Statement(text, Spelled().visit(node), *map(frozenset, (binds, changes, reads))))
    return found


class Spelled(ast.NodeTransformer):
    """Writes `getattr(x, "name")` as `x.name`; a getattr that is left has a name nobody can read."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if not (isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) > 1):
            return node
        target, name, *default = node.args
        if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
            return node
        plain = ast.Attribute(target, name.value, ast.Load())
        return ast.Tuple([plain, *default], ast.Load()) if default else plain


def _names(table: symtable.SymbolTable) -> tuple[set[str], set[str]]:
    """The global names that a scope and the scopes inside it bind, and those they read: Python's own rules of scope."""
    top = table.get_type() == "module"
    binds, reads = set(), set()
    for symbol in table.get_symbols():
        if (top or symbol.is_declared_global()) and (symbol.is_assigned() or symbol.is_imported()):
            binds.add(symbol.get_name())
        if (top or symbol.is_global()) and symbol.is_referenced():
            reads.add(symbol.get_name())
    for child in table.get_children():
        more = _names(child)
        binds |= more[0]
        reads |= more[1]
    return binds, reads


def _changed(node: ast.stmt) -> set[str]:
    """The names whose objects a top-level statement changes: `table["f"] = ...`, `torch.f = ...`, `table.add(...)`."""
    changed = set()
    for part in ast.walk(node):
        if isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, (ast.Store, ast.Del)):
            changed.add(_base(part))
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in CHANGING:
            changed.add(_base(part.func))
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in ("setattr", "delattr"):
            changed.update(_base(argument) for argument in part.args[:1])
    return changed - {""}


def _base(node: ast.expr) -> str:
    """The name at the beginning of `name.a[b].c`; "" where it begins with something else."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


# --- what one node of the tree does wrong ---


def _of_name(name: str, exercise: Exercise) -> Iterator[str]:
    """The sentence about a global name that no cell binds, or that is there anyway; none about `len`."""
    if name in DYNAMIC_NAMES | DYNAMIC | FILES or name in exercise.forbidden:
        yield from _of_identifier(name, exercise)
    elif not hasattr(builtins, name):
        yield f"{exercise.id} uses {name}, which none of your cells defines."


def _of_identifier(name: str, exercise: Exercise) -> Iterator[str]:
    """The sentence about an identifier that is spelled out somewhere, if any."""
    if name in (exercise.id, *exercise.forbidden):
        yield f"{exercise.id} uses {name}, which this exercise forbids. {exercise.instead}"
    elif name in DYNAMIC_NAMES | DYNAMIC:
        yield f"{exercise.id} uses {name}, so that what it calls cannot be read. {exercise.instead}"
    elif name in FILES:
        yield f"{exercise.id} uses {name}; an answer reads and writes no files and starts nothing."


def _of_node(node: ast.AST, exercise: Exercise) -> Iterator[str]:
    """The sentences about one node of the syntax tree: an attribute, an import, a string, a getattr that is left."""
    if isinstance(node, ast.Name) and node.id == "getattr":
        yield f"{exercise.id} uses getattr, so that what it calls cannot be read. {exercise.instead}"
    if isinstance(node, ast.Constant) and node.value in exercise.forbidden:
        yield f"{exercise.id} uses the name {node.value!r}, which this exercise forbids. {exercise.instead}"
    if isinstance(node, ast.Attribute) and node.attr not in METHODS:
        yield from _of_identifier(node.attr, exercise)
    for module in _modules(node):
        for banned in exercise.forbidden_modules:
            if f"{module}.".startswith(f"{banned}."):
                yield f"{exercise.id} uses the module {banned}, which this exercise forbids. {exercise.instead}"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for part in module.split("."):
                yield from _of_identifier(part, exercise)
            if (top := module.split(".")[0]) not in MODULES and top not in exercise.forbidden_modules:
                yield f"{exercise.id} uses the module {top or 'beside it'}; use torch, numpy and Python's own alone."


def _modules(node: ast.AST) -> list[str]:
    """The dotted names a node may reach a module by: "torch.nn.functional" imported, or written out."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module or ''}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Attribute):
        return [ast.unparse(node)] if _base(node) else []
    return []


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
