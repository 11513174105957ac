"""What code computes, as one hash: equal hashes, equal numbers, however its prose, messages and layout changed.

A room's syntax tree is hashed without docstrings, comments, annotations of functions and what only type checkers
import; texts that a user reads (in `raise`, KitError, UsageError, warnings.warn and print, `description=`, f-strings
with a blank, and sentences) count as one and the same text.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Whatever a training run goes through, from its settings to its result row. Plots, claims, commands and reports do not
# change a number of a run.
ROOMS = (
    "config.py",
    "rope_scaling.py",
    "layer_sharing.py",
    "data",
    "model",
    "training",
    "evaluation",
    "generation.py",
    "memory",
    "options.py",
    "processor.py",
    "saved_models.py",
    "train_from_text.py",
    "reproduce/run_notebook.py",
)
TELLS_USER = {"KitError", "UsageError", "warn", "print"}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def rooms_hash(rooms: tuple[str, ...] = ROOMS) -> str:
    """SHA-256 over the syntax trees of the .py files of these rooms, files or folders of the package.

    Read once a process; `rooms_hash.__wrapped__` reads anew. Python code that cannot be parsed counts as it stands.
    """
    package, digest = Path(__file__).resolve().parent, hashlib.sha256()
    for room in rooms:
        place = package / room
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            tree = code_tree(path.read_text("utf-8"))
            digest.update(f"{path.relative_to(package).as_posix()}\0{len(tree)}\0{tree}".encode())
    return digest.hexdigest()


def code_tree(source: str, messages: bool = False) -> str:
    """Source as the text of its syntax tree; equal texts compute the same. messages: texts count as they are, too.

    A source that is no Python is given back as it is.
    """
    try:
        return "".join(_text(ast.parse(source), blank=None if messages else False))
    except SyntaxError:
        return source


def cell_tree(source: str) -> str:
    """`code_tree` of a notebook's cell: without IPython's lines, its texts kept, since a prompt is a sentence, too."""
    tree = code_tree(python := re.sub(r"^[%!].*$", "", source, flags=re.MULTILINE), messages=True)
    return source if tree == python else tree


def _text(node: object, blank: bool | None) -> Iterator[str]:
    """The pieces of a tree's text. blank: whether texts are a user's to read here; None: all texts are kept.

    Written out here since ast.dump gives other texts for the same code from one Python to the next.
    """
    if isinstance(node, list):
        for item in node:
            yield from _text(item, blank)
            yield ","
    elif not isinstance(node, ast.AST):
        yield repr(node)
    elif isinstance(node, ast.JoinedStr) and blank is not None and (blank or _has_blank(node)):
        yield "<message>"
    elif isinstance(node, ast.Constant):
        message = isinstance(node.value, str) and blank is not None and (blank or is_sentence(node.value))
        yield "<message>" if message else repr(node.value)
    elif not _is_for_type_checkers(node):
        if blank is False and (isinstance(node, ast.Raise) or _tells_user(node)):
            blank = True
        yield f"{type(node).__name__}("
        for name, value in _fields(node):
            yield f"{name}="
            yield from _text(value, True if blank is False and _describes(node, name) else blank)
            yield ";"
        yield ")"


def _fields(node: ast.AST) -> Iterator[tuple[str, object]]:
    """A node's fields that compute something: no empty ones, no annotations of functions, no docstring."""
    for name, value in ast.iter_fields(node):
        if value is None or value == [] or name in ("type_comment", "kind", "returns", "ctx"):
            continue
        if name == "annotation" and isinstance(node, ast.arg):
            continue
        if name == "body" and isinstance(node, (ast.Module, ast.ClassDef, *FUNCTION)) and _is_text(value[0]):
            value = value[1:]
        yield name, value


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a text alone: a docstring, where it comes first."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _tells_user(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return getattr(called, "id", getattr(called, "attr", None)) in TELLS_USER


def _describes(node: ast.AST, field: str) -> bool:
    """Whether a field is the value of the keyword `description=`."""
    return isinstance(node, ast.keyword) and node.arg == "description" and field == "value"


def _has_blank(node: ast.JoinedStr) -> bool:
    return any(isinstance(part, ast.Constant) and " " in str(part.value) for part in node.values)


def is_sentence(text: str) -> bool:
    """Whether a text reads as a sentence: words with a blank between them, and a sign at its end."""
    return text.endswith((".", "?", "!", ":", ";")) and re.search(r"\w[,;:)]? \w", text) is not None
