"""The marks in a chapter's build cells: what the student writes there, and what stands there until then.

A mark is the comment `# Your turn: TASK` inside a function. What follows is the student's, to the end of the block: to
the next line that is indented less than the mark, or to the end of the cell.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

from stlm_kit.errors import KitError

WORDS = "# Your turn"
MARK = re.compile(rf"^(?P<indent> +){WORDS}: ")
CHECKS = re.compile(r"^ *checks\.(same|within|shows)\(", re.MULTILINE)
RAISES = "raise NotImplementedError"
STUB = f"{RAISES}  # your lines take the place of this one"


@dataclass(frozen=True)
class Turn:
    """One marked cell. names: what it defines that the student writes; lines: how many lines each mark takes."""

    names: tuple[str, ...]
    solution: str
    stub: str
    lines: tuple[int, ...]
    hint: str = ""

    @property
    def n_lines(self) -> int:
        """How many lines the student writes in this cell."""
        return sum(self.lines)

    @property
    def label(self) -> str:
        """What the student calls it: "LayerNorm, FeedForward"."""
        return ", ".join(self.names)


def turn_of(cell: dict) -> Turn | None:
    """The turn that a code cell holds, None where it has no mark. Raises KitError for a mark that cannot be used."""
    source = cell["source"]
    if cell["cell_type"] != "code" or WORDS not in source:
        return None
    stub, lines = _stubbed(source)
    marks = {name: text.count(WORDS) for name, text in definitions(source).items() if WORDS in text}
    if not len(lines) == sum(marks.values()) == source.count(WORDS):
        raise KitError(f"A mark is `{WORDS}: TASK`, inside a function of the cell that begins {source[:60]!r}.")
    return Turn(tuple(marks), source, stub, tuple(lines), cell.get("metadata", {}).get("hint", ""))


def groups(cells: Sequence[dict]) -> dict[int, list[Turn]]:
    """{index of a check cell: the turns that it checks}: those since the check cell before it.

    Raises KitError for turns that no cell checks, and for a marked cell that calls a check itself.
    """
    found: dict[int, list[Turn]] = {}
    waiting: list[Turn] = []
    for index, cell in enumerate(cells):
        turn = turn_of(cell)
        checks = cell["cell_type"] == "code" and CHECKS.search(cell["source"])
        if turn and checks:
            raise KitError(f"{turn.label} and its check share a cell; put the check into the next one.")
        if turn:
            waiting.append(turn)
        elif checks and waiting:
            found[index], waiting = waiting, []
    if waiting:
        raise KitError(f"No cell behind {', '.join(turn.label for turn in waiting)} checks it.")
    return found


def definitions(source: str) -> dict[str, str]:
    """The top-level functions and classes of a cell, with their text. Raises SyntaxError for what is no Python."""
    lines = source.splitlines()
    return {
        node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno])
        for node in ast.parse(source).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }


def _stubbed(source: str) -> tuple[str, list[int]]:
    """A cell with each marked region as its task and a line that raises; and how many lines of code each has."""
    lines, kept, counts, at = source.splitlines(), [], [], 0
    while at < len(lines):
        mark = MARK.match(lines[at])
        if not mark:
            kept.append(lines[at])
            at += 1
            continue
        indent, end = mark["indent"], at
        while end < len(lines) and (not lines[end].strip() or lines[end].startswith(indent)):
            end += 1
        region = lines[at:end]
        while not region[-1].strip():
            region.pop()
        n_task = next((i for i, line in enumerate(region) if not line.strip().startswith("#")), len(region))
        count = sum(bool(line.strip()) and not line.strip().startswith("#") for line in region)
        about = f"{WORDS} (about {count} line{'s' if count != 1 else ''}): "
        kept += [region[0].replace(f"{WORDS}: ", about), *region[1:n_task], indent + STUB]
        kept += lines[at + len(region) : end]  # the blank lines behind it
        counts.append(count)
        at = end
    return "\n".join(kept), counts
