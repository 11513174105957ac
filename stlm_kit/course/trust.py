"""The grader's side of `integrity`: what is run before a test cell, and whether the kernel's answer can be trusted.

Two things have to hold. What must fail fails: a check of Python's and torch's simplest functions. And the kernel's own
watch, set up before the student's code, answers a challenge that only it knows the secret for.
"""

from __future__ import annotations

import ast
import hmac
import re
import secrets

from stlm_kit.course.assignment import SETUP, Assignment
from stlm_kit.course.cell_text import tree
from stlm_kit.course.kernel import Outcome
from stlm_kit.course.stated_type import stated_type

# Each holds where Python and torch mean what they always mean. A notebook that turns one round is marked no further.
SOUND = {
    "": "not all([False]) and any([True]) and abs(-2) == 2 and max(1, 2) == 2 and min(1, 2) == 1 and len([0]) == 1",
    "types": "isinstance(1, int) and not isinstance(1, str) and sum([1, 1]) == 2 and sorted([2, 1]) == [1, 2]",
    "math": "not math.isclose(1.0, 2.0) and math is __import__('math')",
    "torch": "not torch.equal(torch.zeros(1), torch.ones(1)) and not torch.allclose(torch.zeros(1), torch.ones(1))"
    " and torch is __import__('torch')",
}
WATCH = "__import__('stlm_kit.course.integrity', fromlist=['keep'])"


class Trust:
    """The code that sets up a kernel's watch, and the questions to it."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._secret = secrets.token_hex(16)
        setup = assignment.cells[SETUP].source
        known = [name for name in SOUND if name in ("", "types") or re.search(rf"^import {name}$", setup, re.MULTILINE)]
        self._sound = " and ".join(SOUND[name] for name in known)

    def begin(self) -> str:
        """The code to run after the setup and before anything else, once in each kernel."""
        return f"{WATCH}.keep(globals(), {self._secret!r})"

    def end(self) -> str:
        """The code to run between a test and a cell of another kind: the student's names are the notebook's again."""
        return f"{WATCH}.back()"

    def question(self, exercise: str, test: str) -> tuple[str, str]:
        """(the code to run before a test of an exercise, which fails; the proof its message has to begin with)."""
        challenge = secrets.token_hex(8)
        proof = hmac.digest(self._secret.encode(), challenge.encode(), "sha256").hex()
        stated, reads = stated_type(self._assignment, exercise), _spelled(test)
        ready = f"{WATCH}.ready({exercise!r}, {stated!r}, {reads!r}, {challenge!r})"
        return f"assert not ({self._sound}), {ready}", proof


def answer(outcome: Outcome, proof: str) -> tuple[bool, str]:
    """(whether checks can be trusted, what somebody should look at in a few words) by the outcome of a question."""
    told = [str(each.get("evalue", "")) for each in outcome.outputs if each.output_type == "error"]
    first, _, rest = (told[0] if len(told) == 1 else "").partition(" ")
    if first == proof:
        return True, rest
    return False, rest if first == "changed" else ""


def _spelled(code: str) -> set[str]:
    """Every name and attribute that a cell's code spells."""
    parsed = tree(code)
    nodes = list(ast.walk(parsed)) if parsed else []
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}
