"""A submission's way through its cells: what each earned, and one sentence for whatever it lost.

One kernel runs the notebook in order. A cell that loops is stopped and costs itself; one that takes the kernel down
costs its exercise, and a new kernel goes on with the others. Nothing a cell shows decides a mark: only whether the
kernel says that a test cell failed.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field

from nbformat import NotebookNode

from stlm_kit.course.assignment import SETUP, Assignment, is_test, region
from stlm_kit.course.course_file import Limits
from stlm_kit.course.kernel import START, Kernel, Outcome, error
from stlm_kit.course.repair import ADDED
from stlm_kit.course.rules import violations
from stlm_kit.course.trust import Trust, answer
from stlm_kit.errors import KitError

LONGEST = 300  # characters of a sentence in a report
AGAIN = 4  # once an exercise ran out of time, its other cells get this part of the time
SHORTEST = 12  # a line of hidden tests shorter than this is no secret
PLAIN = re.compile(r"#|[\w, ]+ = [^(\[]*$")  # nor is a comment, or a value such as the convention's
# What a cell outside the exercises' functions may be up to; somebody should look at it. Costs nothing by itself.
ODD = re.compile(
    r"get_ipython|_getframe|ast_transformers|input_transformers|set_custom_exc|ctypes|settrace|setprofile|linecache"
    r"|gc\.get_|\bIn\[|\b_ih\b|os\._exit|subprocess|socket|__torch_\w+__|__eq__|__class__ *=[^=]|torch\.library"
    r"|TorchFunctionMode|TorchDispatchMode|sys\.modules|builtins|threading|setattr|_subclass|plain_values|integrity"
    r"|\b(?:torch|Tensor|math|F|nn)(?:\.\w+)+ *=[^=]"
)


@dataclass
class Executed:
    """A notebook with its outputs; `lost` holds a sentence for each code cell that failed, by id."""

    notebook: NotebookNode
    lost: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    seconds: float = 0.0


def execute(
    assignment: Assignment, notebook: NotebookNode, limits: Limits, locked_in: bool, stop: threading.Event
) -> Executed:
    """Run a repaired notebook and fill in its outputs. locked_in: whether bubblewrap is used.

    Raises KitError where no kernel starts, and `kernel.Stopped` soon after `stop` is set.
    """
    begun = time.monotonic()
    way = _Way(assignment, notebook, limits, locked_in, stop)
    try:
        for cell in way.code:
            way.take(cell)
    finally:
        way.close()
    executed = Executed(notebook, way.lost, way.flags, round(time.monotonic() - begun, 1))
    executed.flags += [f"Look at the cell {name}: it uses {what}." for name, what in _odd(assignment, way.code)]
    return executed


class _Way:
    """The state on the way through the cells: the kernel, what took one down, what is lost."""

    def __init__(
        self, assignment: Assignment, notebook: NotebookNode, limits: Limits, locked_in: bool, stop: threading.Event
    ) -> None:
        self.code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        self.lost: dict[str, str] = {}
        self.flags: list[str] = []
        self._assignment, self._limits = assignment, limits
        self._locked_in, self._stop = locked_in, stop
        self._deadline = time.monotonic() + limits.total_seconds
        self._broken = _rule_breakers(assignment, notebook)  # exercise: the sentence that takes its marks
        self._dead: dict[str, str] = {}  # owner: why nothing of it is run any more
        self._slow: set[str] = set()  # cells that were stopped
        self._untrusted = ""
        self._starts = len(assignment.exercises) + 2  # kernels that may still be started: one a crash, and some
        self._trust, self._tested = Trust(assignment), False
        self._secrets = _secrets(self.code)
        self._kernel: Kernel | None = None

    def take(self, cell: NotebookNode) -> None:
        """Run one cell, or say why it is not run. The setup is part of starting a kernel."""
        if cell.id == SETUP:
            return
        owner = _owner(self._assignment, cell.id)
        if time.monotonic() > self._deadline:
            return self._lose(cell, f"Not run: the notebook had used its {self._limits.total_seconds} s before.")
        if owner in self._dead:
            return self._lose(cell, self._dead[owner])
        if is_test(cell) and (reason := self._broken.get(owner) or self._untrusted or self._distrust(cell, owner)):
            return self._lose(cell, reason)
        outcome = self._run(cell, owner)
        cell.outputs = outcome.outputs
        leaks = any(line in text for line in self._secrets for text in _texts(outcome.outputs))
        if leaks:
            self.flags.append(f"The cell {cell.id} shows hidden tests.")
        if outcome.status == "ok":
            if is_test(cell):  # nbgrader reads a mark out of what a test cell shows: it is to show nothing
                cell.outputs = []
        elif outcome.status == "error":
            sentence = "Its message showed hidden tests and was removed." if leaks else self._sentence(outcome, owner)
            self._lose(cell, sentence, keep=not is_test(cell))
        elif outcome.status == "timeout":
            self._slow.add(cell.id)
            self._lose(cell, f"The cell was {outcome.why}.")
        else:
            self._give_up(cell, owner, outcome)
            self._lose(cell, f"The code {outcome.why}.")

    def _give_up(self, cell: NotebookNode, owner: str, outcome: Outcome) -> None:
        """Run nothing more of a cell's owner, and nothing more in this kernel."""
        self._slow.add(cell.id)
        self._dead.setdefault(owner, f"Not run, since the code {outcome.why} in the cell {cell.id}.")
        self.close()

    def _run(self, cell: NotebookNode, owner: str) -> Outcome:
        if self._kernel is None:
            self._start(before=cell)
        if self._kernel is None:
            return Outcome("timeout", [], "not run: the notebook had used its time, or ended Python too often")
        seconds = self._limits.cell_seconds
        if any(_owner(self._assignment, name) == owner for name in self._slow):
            seconds = max(1, seconds // AGAIN)
        left = max(0.5, self._deadline - time.monotonic())
        if self._tested and not is_test(cell):
            self._tested = False
            self._kernel.run(self._trust.end(), seconds, remember=False)
        return self._kernel.run(cell.source, min(seconds, left), remember=not is_test(cell))

    def _start(self, before: NotebookNode) -> None:
        """A new kernel that has seen what defines things in the cells so far, without what took the last one down."""
        while self._kernel is None and self._starts and time.monotonic() < self._deadline:
            self._starts -= 1
            self._kernel = self._fresh()
            for cell in self.code:
                owner = _owner(self._assignment, cell.id)
                if cell is before:
                    break
                defines = cell.id != SETUP and (cell.id == owner or cell.id.startswith(ADDED))
                if not defines or owner in self._dead or cell.id in self._slow:
                    continue
                outcome = self._kernel.run(cell.source, self._limits.cell_seconds)
                if outcome.status in ("dead", "timeout"):
                    self._give_up(cell, owner, outcome)
                    break

    def _fresh(self) -> Kernel:
        """A kernel in which the setup has run. Both take the grader's time, none of the submission's."""
        begun = time.monotonic()
        kernel = Kernel(self._limits, self._locked_in, self._stop).__enter__()
        setup = next(cell.source for cell in self.code if cell.id == SETUP)
        try:
            outcome = kernel.run(setup, START)
            if outcome.status != "ok":
                told = (output.get("evalue") for output in outcome.outputs if "evalue" in output)
                why = outcome.why or next(told, "no reason given")
                raise KitError(f"The assignment's own setup cell does not run in the sandbox: {why}.")
            kernel.run(self._trust.begin(), START, remember=False)
        except BaseException:
            kernel.close()
            raise
        self._deadline += time.monotonic() - begun
        return kernel

    def _distrust(self, cell: NotebookNode, owner: str) -> str:
        """Make the kernel ready for a test; gives why no test can be trusted any more, or ""."""
        if self._kernel is None:
            self._start(before=cell)
        if self._kernel is None:
            return ""
        question, proof = self._trust.question(owner, cell.source)
        outcome = self._kernel.run(question, self._limits.cell_seconds, remember=False)
        trusted, odd = answer(outcome, proof)
        self._tested = True
        if outcome.status == "dead":
            return ""
        if odd and trusted:
            self._flag(f"The notebook {clean(odd)}: look for the cell.")
        if trusted:
            return ""
        self._untrusted = (
            "Not run: a cell before gives one of Python's or torch's own names (sum, max, torch.allclose, assert ...) "
            "another meaning, so that no check can be trusted."
        )
        what = f" ({clean(odd)})" if odd else ""
        self._flag(f"A name of Python's or torch's own has another meaning in the notebook{what}: look for the cell.")
        return self._untrusted

    def _flag(self, sentence: str) -> None:
        if sentence not in self.flags:
            self.flags.append(sentence)

    def _sentence(self, outcome: Outcome, owner: str) -> str:
        """Why a cell failed: its assertion's message, or the error; the student's cell's where nothing is defined."""
        last = next(output for output in reversed(outcome.outputs) if output.output_type == "error")
        if last.get("evalue") == f"name {owner!r} is not defined" and owner in self.lost:
            return f"The cell {owner} failed: {self.lost[owner]}"
        first = clean(next(iter(str(last.get("evalue", "")).strip().splitlines()), ""))
        if last.ename == "AssertionError":
            return first or "A check failed."
        if last.ename == "NotImplementedError":
            return f"{owner} is not written yet."
        return f"{clean(last.ename)}: {first}" if first else clean(last.ename)

    def _lose(self, cell: NotebookNode, sentence: str, keep: bool = False) -> None:
        self.lost[cell.id] = sentence
        if not keep:
            cell.outputs = [error("Lost", sentence)]

    def close(self) -> None:
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None


def clean(text: str) -> str:
    """A student's text made fit to print: no colours or controls, one line, not long."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _owner(assignment: Assignment, cell_id: str) -> str:
    """The exercise that a cell belongs to; a cell of no exercise stands for itself."""
    return next((each.id for each in assignment.exercises if each.owns(cell_id)), cell_id)


def _rule_breakers(assignment: Assignment, notebook: NotebookNode) -> dict[str, str]:
    cells = assignment.students_cells(notebook)
    found = {each.id: violations(cells, each.id, each) for each in assignment.exercises}
    return {name: sentences[0] for name, sentences in found.items() if sentences}


def _odd(assignment: Assignment, code: list[NotebookNode]) -> list[tuple[str, str]]:
    """(cell, what) for each of the student's cells that uses something an answer has no use for."""
    own = [cell for cell in code if cell.id.startswith(ADDED) or cell.id in {each.id for each in assignment.exercises}]
    return [(cell.id, found[0]) for cell in own if (found := ODD.search(cell.source))]


def _secrets(code: list[NotebookNode]) -> set[str]:
    """The lines of the hidden tests that say enough to be recognised."""
    lines = {line for cell in code if is_test(cell) for line in region(cell.source, "HIDDEN TESTS")}
    return {line for line in lines if len(line) >= SHORTEST and not PLAIN.match(line)}


def _texts(outputs: list[NotebookNode]) -> list[str]:
    """What outputs show, tracebacks left out: those of a test cell quote it by right."""
    printed = "".join(output.get("text", "") for output in outputs)
    shown = [str(text) for output in outputs for text in output.get("data", {}).values()]
    return [printed, *shown, *(str(output.get("evalue", "")) for output in outputs)]
