"""What a practice notebook runs: `begin` reads the chapter's solutions, `%%check` tries the student's own, `standing`
sums up.

A check cell runs with what the student wrote. Where that fails, one sentence says so and names the function, the
chapter's own version takes its place, and the cell runs again: nobody is stuck.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.notebook_files import find_chapters
from stlm_kit.practice.namespace import Snapshot
from stlm_kit.practice.turns import RAISES, Turn, definitions, groups, turn_of

YES, NO = "✓", "✗"


@dataclass
class Practice:
    """One chapter in one kernel."""

    shell: Any
    name: str
    cells: list[dict]
    turns: dict[str, Turn] = field(default_factory=dict)  # by each name that a turn defines
    written: dict[str, bool] = field(default_factory=dict)  # by label: whether the student's own version stands

    def __post_init__(self) -> None:
        self._by_cell, self._groups = [turn_of(cell) for cell in self.cells], groups(self.cells)
        found = [turn for turn in self._by_cell if turn]
        self.turns = {name: turn for turn in found for name in turn.names}
        self.written = {turn.label: False for turn in found}

    # --- one check cell ---

    def check(self, line: str, cell: str) -> None:
        """`%%check NAME ...`: run a cell with the student's versions, and with the chapter's where those fail."""
        turns = self._asked(line)
        mine = {turn.label: self._last_written(turn) for turn in turns}
        empty = [turn for turn in turns if _unwritten(mine[turn.label])]
        before = Snapshot(self.shell.user_ns)
        versions = {turn.label: turn.solution if turn in empty else mine[turn.label] for turn in turns}
        result = self._run(cell, versions if empty else {}, turns, before)
        wrong: dict[str, BaseException] = {}
        if result.error is not None and len(empty) < len(turns):
            theirs = [turn for turn in turns if turn not in empty]
            wrong = self._wrong(cell, theirs, turns, mine, before) or {theirs[0].label: result.error}
            versions = {turn.label: mine[turn.label] for turn in theirs if turn.label not in wrong}
            versions |= {turn.label: turn.solution for turn in turns if turn.label not in versions}
            result = self._run(cell, versions, turns, before)
        for turn in turns:
            self.written[turn.label] = turn not in empty and turn.label not in wrong
            print(self._told(turn, turn in empty, wrong.get(turn.label)))
        if result.error is not None:
            print("The cell fails with the chapter's own version too: run the cells above again, in order.")
            print(f"{NO} {_sentence(result.error)}")
            return
        result.captured.show()

    def _asked(self, line: str) -> list[Turn]:
        turns: list[Turn] = []
        for name in line.replace(",", " ").split():
            if name not in self.turns:
                raise UsageError(f"{self.name} has no {name!r} to write.{near(name, list(self.turns))}")
            if self.turns[name] not in turns:
                turns.append(self.turns[name])
        return turns

    def _wrong(
        self, cell: str, theirs: list[Turn], turns: list[Turn], mine: Mapping[str, str], before: Snapshot
    ) -> dict[str, BaseException]:
        """{label: what it raises} of the student's versions that fail beside the chapter's own of all others."""
        found = {}
        for turn in theirs:
            versions = {each.label: each.solution for each in turns} | {turn.label: mine[turn.label]}
            if error := self._run(cell, versions, turns, before).error:
                found[turn.label] = error
        return found

    def _told(self, turn: Turn, empty: bool, error: BaseException | None) -> str:
        budget = f"about {turn.n_lines} line{'s' if turn.n_lines != 1 else ''}"
        if empty:
            return f"{NO} {turn.label}: still to write, {budget}. The chapter goes on with its own version."
        if error is not None:
            return f"{NO} {turn.label}: {_sentence(error)} The chapter goes on with its own version."
        return f"{YES} {turn.label} is yours."

    # --- what runs ---

    def _run(self, cell: str, versions: Mapping[str, str], turns: list[Turn], before: Snapshot) -> Ran:
        """Run the cell from the state before it, with these versions of the turns (none: with what stands there)."""
        from IPython.utils.capture import capture_output

        before.restore()
        with capture_output() as captured, self._without_tracebacks():
            for source in self._definitions(versions, turns) if versions else ():
                done = self.shell.run_cell(source, store_history=False)
                if error := done.error_before_exec or done.error_in_exec:
                    return Ran(error, captured)
            done = self.shell.run_cell(cell, store_history=False)
        return Ran(done.error_before_exec or done.error_in_exec, captured)

    def _without_tracebacks(self) -> AbstractContextManager:
        """No traceback is shown: a kernel sends one past `capture_output`, and a sentence says what is wrong."""
        shows = ("showtraceback", "showsyntaxerror", "showindentationerror")
        return mock.patch.multiple(self.shell, **dict.fromkeys(shows, lambda *_, **__: None))

    def _definitions(self, versions: Mapping[str, str], turns: list[Turn]) -> list[str]:
        """The cells from the first turn up to the check, in their order: a class may build on one before it."""
        first = next(i for i, turn in enumerate(self._by_cell) if turn in turns)
        end = next(i for i, group in self._groups.items() if group[0] in turns)
        sources = []
        for cell, turn in zip(self.cells[first:end], self._by_cell[first:end], strict=True):
            if cell["cell_type"] == "code":
                sources.append(versions[turn.label] if turn else cell["source"])
        return sources

    def _last_written(self, turn: Turn) -> str:
        """The latest cells that the student ran which define the turn's names; its stub where one was never defined."""
        found: dict[str, str] = {}
        for source in self.shell.user_ns.get("In", []):
            if not source.startswith("get_ipython().run_cell_magic"):
                found |= dict.fromkeys(_defined(source) & set(turn.names), source)
        if len(found) < len(turn.names):
            return turn.stub
        return "\n\n".join(dict.fromkeys(found.values()))  # each cell once


@dataclass(frozen=True)
class Ran:
    """How a cell ended: what it raised, if anything, and what it printed and drew."""

    error: BaseException | None
    captured: Any


def _defined(source: str) -> set[str]:
    try:
        return set(definitions(source))
    except (SyntaxError, ValueError):
        return set()


def _unwritten(source: str) -> bool:
    return RAISES in source


def _sentence(error: BaseException) -> str:
    """What an error says, as one sentence."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    text = first if isinstance(error, (AssertionError, KitError)) and first else f"{type(error).__name__}: {first}"
    return text.rstrip(".: ") + "."


_current: Practice | None = None


def begin(chapter: str) -> None:
    """Make this kernel the practice of a chapter ("02", or its file's name), and bring `%%check`.

    Raises UsageError for a chapter that does not exist, KitError outside of a notebook.
    """
    global _current
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        raise KitError("Practice runs in a notebook; open this chapter in JupyterLab (make lab).")
    [found] = find_chapters([chapter])
    _current = Practice(shell, found.name, found.cells)
    shell.register_magic_function(_current.check, magic_kind="cell", magic_name="check")
    n = len(_current.written)
    print(f"{found.title}: {n} function{'s' if n != 1 else ''} to write, each with a check behind it.")


def standing() -> None:
    """Print how much of the chapter is the student's own. Raises UsageError before `begin`."""
    if _current is None:
        raise UsageError("Nothing has begun; run the first cells of this notebook.")
    done = [label for label, own in _current.written.items() if own]
    print(f"{len(done)} of {len(_current.written)} are yours.")
    if left := [label for label, own in _current.written.items() if not own]:
        print(f"Still to write: {'; '.join(left)}.")
