"""What kind of value an exercise's signature states, read off the teacher's own and written as plain tuples.

"tensor", "int", "float", "bool", "str", "none", ("list", of what), ("tuple", first, second, ...), ("either", one,
other); "any" for what is none of these. `plain_values` takes a returned value apart by it, in another process.
"""

from __future__ import annotations

import ast

from stlm_kit.course.assignment import Assignment
from stlm_kit.course.cell_text import tree

Stated = str | tuple
NAMES = {"int": "int", "float": "float", "bool": "bool", "str": "str", "Tensor": "tensor", "None": "none"}


def stated_type(assignment: Assignment, exercise_id: str) -> Stated:
    """What the function of an exercise gives, by the signature in the course's source; "any" where it states nothing.

    Raises UsageError for an exercise that is not there.
    """
    parsed = tree(assignment.solution(assignment.exercise(exercise_id).id))
    functions = [node for node in parsed.body if isinstance(node, ast.FunctionDef)] if parsed else []
    found = next((node.returns for node in functions if node.name == exercise_id), None)
    return "any" if found is None else _stated(found)


def _stated(node: ast.expr) -> Stated:
    """One annotation: `Float[Tensor, "batch seq"]` is a tensor, whatever its shape."""
    if isinstance(node, ast.Constant) and node.value is None:
        return "none"
    if isinstance(node, ast.Name):
        return NAMES.get(node.id, "any")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return ("either", _stated(node.left), _stated(node.right))
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
        return "any"
    inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if node.value.id == "list":
        return ("list", _stated(inside[0]))
    if node.value.id == "tuple" and not any(isinstance(each, ast.Constant) and each.value is ... for each in inside):
        return ("tuple", *map(_stated, inside))
    if isinstance(inside[0], ast.Name) and inside[0].id == "Tensor":
        return "tensor"
    return "any"
