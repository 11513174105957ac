"""What each cell of a submission is: one of the teacher's, an answer, or the student's own.

The text decides, and an id only where the text says nothing: editors lose, double and rewrite ids. A cell that was
merged of several is taken apart, and one that was split is put together again, so that what comes out are the parts
the student wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from nbformat import NotebookNode

from stlm_kit.course.assignment import Assignment, is_locked
from stlm_kit.course.cell_text import compiles, defined, is_part_of, same, split, without
from stlm_kit.course.rules import new_definitions
from stlm_kit.course.submissions import Cell

HALVES = 4  # of so many pieces a function that was cut up is put together again


@dataclass(frozen=True)
class Part:
    """A cell as handed in, or a piece of one.

    number: of the cell in the file, from 1. teachers: the id of the locked cell that it stands for. claims: the
    exercise whose id it carries. exercise: the one that it defines. Each is "" for none. stub: whether it is an
    exercise's cell as released, or a piece of one.
    """

    number: int
    kind: str
    source: str
    teachers: str = ""
    claims: str = ""
    exercise: str = ""
    stub: bool = False


@dataclass
class Known:
    """An assignment's cells as they were released: texts by id, of locked cells and of the exercises' own."""

    locked: dict[str, str]
    code: set[str]  # the ids of locked cells that hold code
    stubs: dict[str, str]

    @classmethod
    def of(cls, assignment: Assignment, source: NotebookNode, release: NotebookNode) -> Known:
        """The cells of the course's source, with the texts that students were given."""
        released = {cell.id: cell.source for cell in release.cells}
        texts = {cell.id: released.get(cell.id, "") for cell in source.cells}
        exercises = [each.id for each in assignment.exercises]
        locked = {name: text for name, text in texts.items() if name not in exercises}
        code = {cell.id for cell in source.cells if cell.cell_type == "code" and is_locked(cell)}
        return cls(locked, code, {name: texts[name] for name in exercises if name in texts})


def identify(handed_in: list[Cell], known: Known) -> tuple[list[Part], list[str]]:
    """The parts of a submission in the file's order, and what the student should know about how they were read.

    Empty parts are left out, but for locked cells. Never raises.
    """
    parts: list[Part] = []
    for number, cell in enumerate(handed_in, 1):
        parts += _parts(number, cell, known, parts)
    parts, remarks = _whole_again(parts, known)
    halves = [each for each in parts if any(is_part_of(each.source, stub) for stub in known.stubs.values())]
    parts = [replace(each, stub=True) if each in halves and not each.teachers else each for each in parts]
    return _edited(parts, known), remarks


def _parts(number: int, cell: Cell, known: Known, before: list[Part]) -> list[Part]:
    """A cell as it is, or the teacher's texts in it and what is left between them."""
    claims = next((each for each in cell.ids if each in known.stubs), "")
    named = next((each for each in cell.ids if each in known.locked), "")
    part = Part(number, cell.kind, cell.source, claims=claims)
    taken = {each.teachers for each in before}
    equal = [name for name, text in known.locked.items() if text.strip() and same(cell.source, text)]
    if equal:  # of cells with the same text the one that was not there yet
        name = named if named in equal else next((each for each in equal if each not in taken), equal[0])
        return [replace(part, teachers=name, claims="")]
    if stub := next((name for name, text in known.stubs.items() if same(cell.source, text)), ""):
        return [replace(part, exercise=stub, stub=True)]
    if not cell.source.strip():
        return [replace(part, teachers=named)] if named else []
    found, left = [], cell.source
    for name, text in [*known.locked.items(), *known.stubs.items()]:
        cut = without(left, text) if text.strip() else left
        if cut != left:
            stub = name in known.stubs
            found.append(Part(number, "code", text, "" if stub else name, exercise=name if stub else "", stub=stub))
            left = cut
    if found and not left.strip():
        return found
    own = replace(part, source=left.strip("\n"), teachers="" if found else named)
    whose = next((name for name in known.code if is_part_of(left, known.locked[name])), "")
    if whose and not found and cell.kind == "code":
        return [replace(own, teachers=whose)]
    first = any(cell.source.lstrip().startswith(each.source.strip().split("\n")[0]) for each in found)
    return [*found, *_pieces(own, known)] if first else [*_pieces(own, known), *found]


def _pieces(part: Part, known: Known) -> list[Part]:
    """A part of the student's, cut so that each piece defines one exercise at most."""
    exercises = defined(part.source) & set(known.stubs) if _is_python(part) else set()
    pieces = split(part.source, exercises) if len(exercises) > 1 else [part.source]
    return [
        replace(part, source=piece.strip("\n"), exercise=next(iter(sorted(defined(piece) & exercises)), ""))
        for piece in pieces
    ]


def _is_python(part: Part) -> bool:
    """Whether a part may be code: prose is not read as code, unless it carries an exercise's id or is valid Python."""
    return part.kind == "code" or bool(part.claims) or compiles(part.source)


# --- cells that were split ---


def _whole_again(parts: list[Part], known: Known) -> tuple[list[Part], list[str]]:
    """Neighbouring parts of the student's put together where a piece makes no sense alone, but the whole does."""
    kept, remarks, at = [], [], 0
    while at < len(parts):
        piece, length = _joined(parts, at, known)
        if length > 1:
            numbers = sorted({each.number for each in parts[at : at + length]})
            remarks.append(f"The cells {_and(numbers)} were read as one: each alone is a piece of code.")
        kept.append(piece)
        at += length
    return kept, remarks


def _joined(parts: list[Part], at: int, known: Known) -> tuple[Part, int]:
    """The part at a place, with as many of those behind it as belong to it, and how many parts that are."""
    found = parts[at], 1
    if not _own_code(parts[at]):
        return found
    whole = compiles(parts[at].source)
    for length in range(2, HALVES + 1):
        more = parts[at : at + length]
        if len(more) < length or not _own_code(more[-1]):
            break
        if whole and compiles(more[-1].source):
            if not more[-1].source[:1].isspace():
                break  # the next one stands for itself
            continue  # indented: the middle of a function, if what follows is its end
        pieces = _pieces(replace(parts[at], source="\n".join(each.source for each in more)), known)
        if len(pieces) == 1 and compiles(pieces[0].source):
            claims = next((each.claims for each in more if each.claims), "")
            found, whole = (replace(pieces[0], claims=claims), length), True
    return found


def _own_code(part: Part) -> bool:
    return part.kind == "code" and not part.teachers and not part.stub


def _and(numbers: list[int]) -> str:
    return " and ".join(map(str, numbers)) if len(numbers) < 3 else f"{numbers[0]} to {numbers[-1]}"


# --- locked cells that were edited ---


def _edited(parts: list[Part], known: Known) -> list[Part]:
    """Parts that carry a locked cell's id and other text: an edit of it, or something of the student's in its place.

    It is the student's where the locked cell is there as released beside it, where it defines an exercise, or where it
    defines or imports something that the locked cell does not.
    """
    intact = {each.teachers for each in parts if each.teachers and same(each.source, known.locked[each.teachers])}
    return [replace(each, teachers="") if _is_own(each, known, intact) else each for each in parts]


def _is_own(part: Part, known: Known, intact: Iterable[str]) -> bool:
    if not part.teachers or part.kind != "code" or not part.source.strip():
        return False
    text = known.locked[part.teachers]
    if same(part.source, text) or is_part_of(part.source, text):
        return False
    if part.teachers in intact or part.exercise or new_definitions(part.source, text):
        return True
    return part.teachers not in known.code and compiles(part.source)  # code in the place of a text
