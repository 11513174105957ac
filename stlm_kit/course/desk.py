"""The student's desk: what a public check prints about an answer, and what an answer costs.

    desk.report(rms_norm, cost=desk.cost_flops(rms_norm, x, gain))

It reads the cells of the running notebook and the rules of the exercises; hidden tests are none of its business.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from stlm_kit.course.assignment import BEHAVIOUR, Exercise, assignments_dir, read_rules
from stlm_kit.course.rules import latest, lines, violations
from stlm_kit.errors import UsageError


def report(function: Callable, cost: str = "") -> None:
    """Print "lines: 4 of about 4 · nothing forbidden · cost: 1,024 parameters" for the function of an exercise.

    Called from a notebook's cell. Raises AssertionError with the sentence for a forbidden use, which costs the
    exercise's marks, and UsageError for a function that is no exercise's.
    """
    notebook = sys._getframe(1).f_globals
    exercise = _exercise(function, notebook)
    # As the grader has it: what only a check or a test cell defines is not the student's to use.
    own = [cell for cell in notebook["In"] if "desk.report(" not in cell and not cell.startswith(BEHAVIOUR)]
    written = latest(own)
    if broken := violations(written, exercise.id, exercise):
        raise AssertionError(broken[0])
    found = lines("\n".join(written), exercise.id)
    parts = [f"lines: {found} of about {exercise.lines}", "nothing forbidden"] + [f"cost: {cost}"] * bool(cost)
    print(" · ".join(parts))


def _exercise(function: Callable, notebook: dict[str, Any]) -> Exercise:
    """The exercise whose name in the notebook stands for this function."""
    for path in sorted(assignments_dir().glob("*/exercises.yaml")):
        for exercise in read_rules(path.parent).exercises:
            if notebook.get(exercise.id) is function:
                return exercise
    raise UsageError(f"{getattr(function, '__name__', function)!r} is no exercise's function; give the one you wrote.")


def cost_parameters(what: Any) -> str:
    """ "1,024 parameters": of a module (each shared tensor once), or a number you counted."""
    if not isinstance(what, int):
        what = sum(tensor.numel() for tensor in what.parameters())
    return f"{what:,} parameters"


def cost_flops(function: Callable, *arguments: Any) -> str:
    """ "2,048 FLOPs": the floating-point operations of the matrix products in `function(*arguments)`, which is run.

    A multiplication and an addition are two; sums, roots and the like are not counted (torch's FlopCounterMode).
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function(*arguments)
    return f"{counter.get_total_flops():,} FLOPs"
