"""The notebook that is graded: the teacher's cells in their order, with the student's answers in them.

Whatever happened to the file (cells deleted, doubled, moved, rewritten, ids lost), the tests are the teacher's own,
each there once. The answer to an exercise is the last cell that defines its function and is not the released stub,
wherever it stands. What else the student wrote stays behind the cell it followed, but for a helper that stands behind
the tests of an answer in need of it: that comes before the answer.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from stlm_kit.course.assignment import SETUP, Assignment
from stlm_kit.course.cell_text import compiles, cut_definition, is_part_of, same
from stlm_kit.course.identify import Known, Part, identify
from stlm_kit.course.rules import names
from stlm_kit.course.submissions import Cell

ADDED = "added-"  # ids of cells that are the student's own begin with it


@dataclass
class Repaired:
    """A notebook to grade, without outputs, and what the student should know about its repair."""

    notebook: NotebookNode
    remarks: list[str] = field(default_factory=list)


@dataclass(eq=False)
class _Own:
    """A part of the student's that is no answer, and its place: behind the cell of this index, or before its answer."""

    part: Part
    index: int
    behind: bool = True

    @property
    def place(self) -> tuple[int, bool]:
        return self.index, self.behind


def repair(handed_in: list[Cell], assignment: Assignment, source: NotebookNode, release: NotebookNode) -> Repaired:
    """The source notebook of a course, each answer in it replaced by the student's.

    source: the course's own, hidden tests inside. release: what students were given; tells what they changed.
    """
    known = Known.of(assignment, source, release)
    parts, remarks = identify(handed_in, known)
    remarks = [*_put_back(parts, known), *remarks]
    order = [cell.id for cell in source.cells]
    answers: dict[str, Part | None] = {}
    for exercise in known.stubs:
        answers[exercise], said = _answer(exercise, parts, known)
        remarks += said
    own = _placed(parts, answers, order)
    for exercise in known.stubs:
        if answers[exercise] is not None:
            remarks += _bring_helpers(exercise, answers[exercise], own, order, assignment)
    remarks += [
        f"Cell {each.part.number} cannot be read as Python, so that it does nothing."
        for each in own
        if each.part.kind == "code" and not compiles(each.part.source)
    ]
    return Repaired(_built(source, answers, own), remarks)


def _built(source: NotebookNode, answers: dict[str, Part | None], own: list[_Own]) -> NotebookNode:
    """A copy of the source with the answers in their cells, and what else the student wrote between them."""
    notebook = copy.deepcopy(source)
    notebook.cells, counter = [], 0

    def add(place: tuple[int, bool]) -> None:
        nonlocal counter
        for each in own:
            if each.place == place:
                counter += 1
                make = new_code_cell if each.part.kind == "code" else new_markdown_cell
                notebook.cells.append(make(each.part.source, id=f"{ADDED}{counter}"))

    add((-1, True))
    for index, original in enumerate(source.cells):
        cell = copy.deepcopy(original)
        if cell.id in answers:
            cell.source = answers[cell.id].source if answers[cell.id] else ""
        add((index, False))
        notebook.cells.append(cell)
        add((index, True))
    return notebook


# --- the answers ---


def _answer(exercise: str, parts: list[Part], known: Known) -> tuple[Part | None, list[str]]:
    """The part that answers an exercise, None where there is none, and what has to be said about how it was found."""
    defining = [each for each in parts if each.exercise == exercise]
    code = [each for each in defining if each.kind == "code" and not each.stub]
    text = [each for each in defining if each.kind != "code" and not each.stub]
    claiming = [each for each in parts if each.claims == exercise and not each.exercise and not each.stub]
    binding = [each for each in parts if _own_code(each) and not each.exercise and exercise in names(each.source)[0]]
    stubs = [each for each in parts if each.stub and exercise in (each.exercise, each.claims)]
    # What defines nothing is taken last of all, so that its author learns what is wrong with it.
    chosen = next((some[-1] for some in (code, text, binding, claiming, stubs) if some), None)
    if chosen is None:
        return None, [f"The cell {exercise} is missing."]
    said = []
    count = len({each.number for each in [*defining, *stubs]})
    if count > 1:
        said.append(f"The cell {exercise} was there {count} times; the last one with an answer counts.")
    if chosen.stub:
        return chosen, said
    if chosen.claims != exercise:
        said.append(f"The cell {exercise} had lost its id; it was found by its function.")
    if chosen.kind != "code":
        said.append(f"Cell {chosen.number} answers {exercise}, but is no cell of code; it was read as one.")
    return chosen, said


def _own_code(part: Part) -> bool:
    return part.kind == "code" and not part.teachers and not part.stub


# --- the student's other cells ---


def _placed(parts: list[Part], answers: dict[str, Part | None], order: list[str]) -> list[_Own]:
    """Everything of the student's that is no answer, in the file's order, each with its place.

    A stub is left out. An older attempt comes before the answer that counts, without the function that does not.
    """
    own: list[_Own] = []
    chosen = {id(part): exercise for exercise, part in answers.items() if part is not None}
    last = -1
    for at, part in enumerate(parts):
        stands_for = part.teachers or chosen.get(id(part)) or part.exercise or part.claims
        index = order.index(stands_for) if stands_for else last
        if part.teachers or id(part) in chosen or part.stub:
            last = index
            continue
        each = _Own(part, last)
        if part.exercise:
            before, after = _own_after(parts, at, answers[part.exercise])
            if not any(part.exercise in names(text)[1] for text in (before, *after)):  # else somebody still calls it
                each.part = Part(part.number, part.kind, cut_definition(part.source, part.exercise))
            if each.place >= (index, False):
                each.index, each.behind = index, False
        if each.part.source.strip():
            own.append(each)
    return own


def _own_after(parts: list[Part], at: int, answer: Part | None) -> tuple[str, list[str]]:
    """What may call an older attempt: the rest of its own cell, and the student's cells from there to the answer."""
    part = parts[at]
    end = next((place for place, each in enumerate(parts) if each is answer), len(parts))
    between = [each.source for each in parts[at + 1 : end] if _own_code(each)]
    return cut_definition(part.source, part.exercise), [cut_definition(text, part.exercise) for text in between]


def _bring_helpers(exercise: str, answer: Part, own: list[_Own], order: list[str], assignment: Assignment) -> list[str]:
    """Move what an answer needs, and finds behind its tests alone, before it; gives a remark for each cell moved.

    A helper in a cell of text is read as code where nothing else defines it.
    """
    said, seen, wanted = [], set(), names(answer.source)[1]
    tested = min(order.index(cell.id) for cell in assignment.tests(exercise))
    there = names(assignment.cells[SETUP].source)[0] | names(answer.source)[0]
    use = {id(each): names(each.part.source) if _may_run(each.part) else (set(), set()) for each in own}
    while wanted:
        early = [each for each in own if each.part.kind == "code" and each.place < (tested, False)]
        bound = there.union(*(use[id(each)][0] for each in early))
        seen, more = seen | wanted, set()
        for each in own:
            binds, reads = use[id(each)]
            if each not in early:
                if not (binds & wanted) - bound:
                    continue
                kind = "" if each.part.kind == "code" else ", though it is no cell of code"
                said.append(f"Cell {each.part.number} holds what {exercise} needs; it was run before it{kind}.")
                each.part = Part(each.part.number, "code", each.part.source)
                each.index, each.behind = order.index(exercise), False
            if binds & wanted:
                more |= reads
        wanted = more - seen
    return said


def _may_run(part: Part) -> bool:
    return part.kind == "code" or compiles(part.source)


# --- the teacher's cells ---


def _put_back(parts: list[Part], known: Known) -> list[str]:
    """The remarks on locked code cells that were not as released."""
    given: dict[str, list[Part]] = {name: [] for name in known.locked}
    for part in parts:
        if part.teachers:
            given[part.teachers].append(part)
    gone = [name for name in known.locked if name in known.code and not given[name]]
    changed = [name for name, text in known.locked.items() if name in known.code and _is_edited(given[name], text)]
    remarks = [f"Deleted cells were put back: {_some(gone)}."] if gone else []
    return remarks + ([f"Changed cells were put back as they were: {_some(changed)}."] if changed else [])


def _is_edited(given: list[Part], text: str) -> bool:
    return any(not same(each.source, text) and not is_part_of(each.source, text) for each in given)


def _some(names: list[str], most: int = 4) -> str:
    """The first names, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
