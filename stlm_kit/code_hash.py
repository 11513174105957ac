"""One hash of what code computes: equal hashes mean equal numbers, even if prose, messages or layout differ.

The hash covers the syntax tree of each module, without docstrings, comments, function annotations and imports under
TYPE_CHECKING. Texts for a user all count as the same text. These are texts in `raise`, KitError, UsageError,
warnings.warn and print, texts given as `description=`, f-strings with a blank, and sentences.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# The modules that a training run passes through, from its settings to its result row. Plots, claims, commands and
# reports do not change a number of a run.
ROOMS = (
    "config.py",
    "rope_scaling.py",
    "layer_sharing.py",
    "presets.py",
    "data",
    "model",
    "training",
    "evaluation",
    "generation.py",
    "memory",
    "options.py",
    "processor.py",
    "run_teacher.py",
    "saved_models.py",
    "teachers",
    "train_from_text.py",
    "reproduce/run_notebook.py",
)
TELLS_USER = {"KitError", "UsageError", "warn", "print"}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def rooms_hash(rooms: tuple[str, ...] = ROOMS) -> str:
    """SHA-256 over the syntax trees of the .py files of these modules (files or folders of the package).

    The files are read once in a process; `rooms_hash.__wrapped__` reads them again. A file that cannot be parsed counts
    with its text.
    """
    package, digest = Path(__file__).resolve().parent, hashlib.sha256()
    for room in rooms:
        place = package / room
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            tree = code_tree(path.read_text("utf-8"))
            digest.update(f"{path.relative_to(package).as_posix()}\0{len(tree)}\0{tree}".encode())
    return digest.hexdigest()


def code_tree(source: str, messages: bool = False) -> str:
    """The text of a source's syntax tree. Equal texts compute the same.

    messages: whether texts for a user count with their wording. A source that is not Python is returned unchanged.
    """
    try:
        return "".join(_text(ast.parse(source), blank=None if messages else False))
    except SyntaxError:
        return source


def cell_tree(source: str) -> str:
    """`code_tree` of a notebook cell without IPython's % and ! lines.

    Texts count with their wording, because a prompt is a sentence, too.
    """
    tree = code_tree(python := re.sub(r"^[%!].*$", "", source, flags=re.MULTILINE), messages=True)
    return source if tree == python else tree


def _text(node: object, blank: bool | None) -> Iterator[str]:
    """The pieces of a tree's text.

    blank: True where texts are for a user and are left out, False where they are not, None where all texts are kept.
    This is written by hand because ast.dump gives different texts for the same code in different Python versions.
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
    """The fields of a node that affect the result: no empty ones, no function annotations, no docstring."""
    for name, value in ast.iter_fields(node):
        if value is None or value == [] or name in ("type_comment", "kind", "returns", "ctx"):
            continue
        if name == "annotation" and isinstance(node, ast.arg):
            continue
        if name == "body" and isinstance(node, (ast.Module, ast.ClassDef, *FUNCTION)) and _is_text(value[0]):
            value = value[1:]
        yield name, value


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is only a text: a docstring, if it comes first."""
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
    """Whether a text reads as a sentence: words with a blank between them, and a punctuation mark at its end."""
    return text.endswith((".", "?", "!", ":", ";")) and re.search(r"\w[,;:)]? \w", text) is not None
