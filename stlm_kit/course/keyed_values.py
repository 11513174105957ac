"""Drawn lines: what a course's key decides in an assignment, and nothing else does.

This repository shows every solution, so a course can have a key of its own. A line that ends in one of the comments

    seed = 3  # drawn: seed
    batch, seq = 2, 5  # drawn from [2, 3, 4], [5, 7, 9]
    epsilon = 1e-6  # convention

is then given another value: a seed, one of the choices, or the exercise's drawn convention, never the published one.
A line that ends in `# planted: OTHER CODE` is one that a fault may replace, for students to find: a release has either
the line or the other code. A key chooses which of a cell's faults are planted, at least one; without a key all are.

Values follow from HMAC-SHA256 of the key and the place, so that the same key makes the same release. Without a key the
values stay as published; the comment goes in every release.
"""

from __future__ import annotations

import ast
import copy
import hmac
import itertools
import re
from typing import Any

from nbformat import NotebookNode

from stlm_kit.course.assignment import Assignment, Exercise, Scalar
from stlm_kit.errors import KitError

LINE = re.compile(
    r"^(?P<indent>[ \t]*)(?P<names>\w+(?:, *\w+)*) = (?P<value>.+?)  # "
    r"(?P<how>convention|drawn: seed|drawn from (?P<choices>.+))$",
    re.MULTILINE,
)
PLANTED = re.compile(r"^(?P<indent>[ \t]*)(?P<right>\S.*?)  # planted: (?P<wrong>\S.*)$", re.MULTILINE)
MARKER = re.compile(r"# *(convention|drawn|planted)\b", re.IGNORECASE)  # what an author may have meant for a drawn line
TOLD = re.compile(r"^\*\*Convention\.\*\*.*$", re.MULTILINE)


def convention(assignment: Assignment, exercise: Exercise, key: str) -> Scalar:
    """The value of the exercise's convention in a course with this key; the published one without a key."""
    if not key:
        return exercise.convention.published
    return _pick(exercise.convention.choices, key, f"{assignment.name}/{exercise.id}")


def keyed(assignment: Assignment, key: str = "") -> NotebookNode:
    """A copy of the source notebook, solutions included, with every drawn line and stated convention as the key has it.

    Raises KitError with one sentence for a drawn line that is not well formed.
    """
    notebook = copy.deepcopy(assignment.notebook)
    for cell in notebook.cells:
        owner = next((exercise for exercise in assignment.exercises if exercise.owns(cell.id)), None)
        if cell.cell_type == "code":
            cell.source = rewrite(cell.source, assignment, cell.id, owner, key)
        elif owner and cell.id == f"{owner.id}-text":
            told = f"**Convention.** {owner.convention.told(convention(assignment, owner, key))}"
            cell.source, times = TOLD.subn(lambda _, told=told: told, cell.source)
            if times != 1:
                raise KitError(f"{assignment.name}, cell {cell.id}: give it one line that starts **Convention.**")
    return notebook


def rewrite(source: str, assignment: Assignment, cell_id: str, owner: Exercise | None, key: str) -> str:
    """A cell's source with its drawn lines rewritten and their comments gone; all other text stays as it is.

    owner: the exercise the cell belongs to, if any. Raises KitError for a line that is not well formed.
    """
    seen: dict[str, int] = {}

    def line(match: re.Match) -> str:
        names = [name.strip() for name in match["names"].split(",")]
        places = []
        for name in names:  # a name drawn twice in one cell has two places
            seen[name] = seen.get(name, 0) + 1
            places.append(f"{assignment.name}/{cell_id}/{name}" + (f"/{seen[name]}" if seen[name] > 1 else ""))
        try:
            value = _value(match, names, places, assignment, owner, key)
        except (ValueError, SyntaxError, TypeError) as error:
            raise KitError(f"{assignment.name}, cell {cell_id}: `{match[0].strip()}` will not do: {error}.") from error
        return f"{match['indent']}{match['names']} = {value}"

    written = _plant(LINE.sub(line, source), key, f"{assignment.name}/{cell_id}/planted")
    if left := MARKER.search(written):
        text = written[written.rfind("\n", 0, left.start()) + 1 :].split("\n")[0].strip()
        raise KitError(
            f"{assignment.name}, cell {cell_id}: `{text}` is no drawn line; write `name = value  # drawn: seed`, "
            "`# drawn from [...]`, `# convention` or `# planted: other code`, or choose other words."
        )
    return written


def _plant(source: str, key: str, place: str) -> str:
    """A cell's source with the faults that the key plants in it, at least one of them; all without a key."""
    n_faults = len(PLANTED.findall(source))
    if not n_faults:
        return source
    every = 2**n_faults - 1
    chosen = 1 + _draw(key, place) % every if key else every  # fault i is planted where bit i is 1
    faults = itertools.count()
    return PLANTED.sub(
        lambda match: match["indent"] + (match["wrong"] if chosen >> next(faults) & 1 else match["right"]), source
    )


def _value(
    line: re.Match, names: list[str], places: list[str], assignment: Assignment, owner: Exercise | None, key: str
) -> str:
    """The text that stands for the value of a drawn line. Raises ValueError for what does not fit."""
    published = ast.literal_eval(line["value"])
    if line["how"] == "convention":
        if owner is None or names != [owner.convention.name]:
            raise ValueError("its name is not that of a convention of the cell's exercise")
        if published != owner.convention.published:
            raise ValueError(f"exercises.yaml publishes {owner.convention.published!r}")
        return repr(convention(assignment, owner, key)) if key else line["value"]
    if line["how"] == "drawn: seed":
        values = [_draw(key, place) % 2**31 for place in places]
    else:
        choices = ast.literal_eval(f"[{line['choices']}]")
        if len(choices) != len(names) or not all(isinstance(each, list) and each for each in choices):
            raise ValueError("each name needs a list of choices")
        values = [_pick(each, key, place) for each, place in zip(choices, places, strict=True)]
    return ", ".join(map(repr, values)) if key else line["value"]


def _pick(choices: list[Any], key: str, place: str) -> Any:
    return choices[_draw(key, place) % len(choices)]


def _draw(key: str, place: str) -> int:
    """A number of 256 bits that nobody without the key can tell."""
    return int.from_bytes(hmac.digest(key.encode(), place.encode(), "sha256"))
