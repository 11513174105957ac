"""An assignment as its author wrote it: one folder with a source notebook, the exercises' rules, and wrong solutions.

The source notebook holds solutions and hidden tests; `exercises.yaml` says what each exercise asks for. A cell belongs
to the exercise whose id its own id begins with: `rms_norm-text`, `rms_norm` (the student's cell), `rms_norm-check`
(public) and two to four more, `rms_norm-scale` say, each a mark for one behaviour.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from stlm_kit.errors import KitError, UsageError, first_sentence
from stlm_kit.notebook_files import Chapter, find_chapter, notebooks_dir, suggest

if TYPE_CHECKING:
    from nbformat import NotebookNode

SETUP = "setup"  # the id of the locked cell that imports what every exercise may use
MARKS_OF_AN_EXERCISE = range(2, 5)
BEHAVIOUR = ("# Mark: ", "# Self-check: ")  # how a test cell begins: what it looks at, for the student


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-6, without a point, as a text."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", value) else value


Scalar = Annotated[bool | int | float | str, BeforeValidator(_number)]
Strict = ConfigDict(extra="forbid", frozen=True, strict=True)


class Convention(BaseModel):
    """A choice the exercise states, on which the tests depend: a course with a key draws another than the published."""

    model_config = Strict

    name: str = Field(description="the variable that holds it on drawn lines")
    published: Scalar = Field(description="what the repository's own solution does")
    choices: list[Scalar] = Field(min_length=1, description="what a course with a key draws from")
    sentence: str = Field("", description="told to the student; {value} stands for the value")
    sentences: dict[Scalar, str] = Field({}, description="instead of `sentence`: one for each value")

    @model_validator(mode="after")
    def _complete(self) -> Convention:
        if self.published in self.choices:
            raise ValueError(f"The convention {self.name!r} must not draw the published {self.published!r}.")
        if bool(self.sentence) == bool(self.sentences):
            raise ValueError(f"The convention {self.name!r} needs either `sentence` or `sentences`, not both.")
        told = set(self.sentences) or {self.published, *self.choices}
        if missing := {self.published, *self.choices} - told:
            raise ValueError(f"The convention {self.name!r} has no sentence for {missing.pop()!r}.")
        return self

    def told(self, value: Scalar) -> str:
        """The sentence that tells the student this value."""
        return self.sentences[value] if self.sentences else self.sentence.replace("{value}", repr(value))


class Exercise(BaseModel):
    """What one exercise asks for; the tests themselves lie in the notebook."""

    model_config = Strict

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="the name of the function the student writes")
    title: str
    graded: bool = True
    difficulty: Literal["easy", "medium", "hard"]
    minutes: int = Field(gt=0, description="how long a student who read the chapter needs, in whole minutes")
    chapter: str = Field(description='where a chapter teaches it: "chapter 01, stanza 2"')
    lines: int = Field(gt=0, description="how many lines of code the body needs; shown, never graded")
    forbidden: list[str] = Field([], description="identifiers that take the exercise's marks")
    forbidden_modules: list[str] = Field(["stlm_kit"], description="modules that take the exercise's marks")
    instead: str = Field(description="what to build from, said with each forbidden use")
    convention: Convention

    @field_validator("chapter")
    @classmethod
    def _a_place_in_a_chapter(cls, place: str) -> str:
        if not re.fullmatch(r"chapter \d\d, (introduction|stanza [1-9])", place):
            raise ValueError(f'chapter: {place!r} names no place; write it like "chapter 01, stanza 2".')
        return place

    @model_validator(mode="after")
    def _own_name_is_free(self) -> Exercise:
        if self.id in self.forbidden:
            raise ValueError(f"{self.id!r} cannot be forbidden: it is the student's own function.")
        return self

    @property
    def effort(self) -> str:
        """The line under the exercise's heading: "easy · 15 minutes · chapter 01, stanza 2"."""
        return f"{self.difficulty} · {self.minutes} minutes · {self.chapter}"

    def owns(self, cell_id: str) -> bool:
        """Whether the cell of this id belongs to the exercise."""
        return cell_id == self.id or cell_id.startswith(f"{self.id}-")


class Rules(BaseModel):
    """The content of exercises.yaml."""

    model_config = Strict

    title: str
    exercises: list[Exercise] = Field(min_length=1)

    @model_validator(mode="after")
    def _ids_differ(self) -> Rules:
        ids = [exercise.id for exercise in self.exercises]
        if doubled := next((each for each in ids if ids.count(each) > 1), None):
            raise ValueError(f"There are two exercises {doubled!r}; give each its own id.")
        return self


@dataclass(frozen=True)
class Assignment:
    """One assignment, checked: every exercise has its cells, every mark its exercise."""

    folder: Path
    title: str
    exercises: tuple[Exercise, ...]
    notebook: NotebookNode

    @property
    def name(self) -> str:
        """The folder's name, "02_building_the_decoder": nbgrader's name of assignment and notebook alike."""
        return self.folder.name

    @cached_property
    def cells(self) -> dict[str, NotebookNode]:
        """Every cell by its id, in the notebook's order."""
        return {cell.id: cell for cell in self.notebook.cells}

    def exercise(self, exercise_id: str) -> Exercise:
        """The exercise of this id. Raises UsageError with the near ones."""
        for exercise in self.exercises:
            if exercise.id == exercise_id:
                return exercise
        ids = [exercise.id for exercise in self.exercises]
        raise UsageError(f"{self.name} has no exercise {exercise_id!r}.{suggest(exercise_id, ids)}")

    def solution(self, exercise_id: str) -> str:
        """The published solution: the source of the student's cell with the solution in it."""
        return self.cells[exercise_id].source

    def tests(self, exercise_id: str) -> list[NotebookNode]:
        """The cells that give the exercise's marks, one behaviour each."""
        exercise = self.exercise(exercise_id)
        return [cell for cell in self.notebook.cells if is_test(cell) and exercise.owns(cell.id)]

    def students_cells(self, notebook: NotebookNode) -> list[str]:
        """What a student's function may take names from: the setup, and every code cell that is not one of ours.

        notebook: a submission. Told by id, not by metadata, which a student can write too; what carries the id of a
        locked cell is put back by the grader before it runs.
        """
        ours = {cell.id for cell in self.notebook.cells if is_locked(cell)}
        own = [cell for cell in notebook.cells if cell.cell_type == "code" and cell_id(cell) not in ours]
        return [self.cells[SETUP].source, *(cell.source for cell in own)]


def cell_id(cell: NotebookNode) -> str:
    """nbgrader's id of a cell, else the notebook's own; "" for a cell with neither."""
    return cell.metadata.get("nbgrader", {}).get("grade_id") or cell.get("id", "")


def is_test(cell: NotebookNode) -> bool:
    """Whether nbgrader takes a mark from this cell (worth 0 in an optional exercise)."""
    return cell.metadata.get("nbgrader", {}).get("grade", False)


def is_locked(cell: NotebookNode) -> bool:
    """Whether nbgrader puts this cell back as released before it grades."""
    return cell.metadata.get("nbgrader", {}).get("locked", False)


def points(cell: NotebookNode) -> float:
    """What a test cell is worth."""
    return cell.metadata.nbgrader.points


def region(source: str, name: str) -> list[str]:
    """The lines of a cell that nbgrader cuts out of a release, stripped: name is "SOLUTION" or "HIDDEN TESTS"."""
    found, inside = [], False
    for line in source.split("\n"):
        if f"END {name}" in line:
            inside = False
        elif inside and line.strip():
            found.append(line.strip())
        inside = inside or f"BEGIN {name}" in line
    return found


# --- reading ---


def assignments_dir() -> Path:
    """The folder of the assignments: $STLM_ASSIGNMENTS (your own) or notebooks/assignments."""
    return Path(os.environ.get("STLM_ASSIGNMENTS") or notebooks_dir() / "assignments")


def folders(names: list[str] | None = None) -> list[Path]:
    """The assignments' folders in order; only those named, by number or name, where names are given.

    Raises UsageError with the near names, KitError where there is no assignment at all.
    """
    where = assignments_dir()
    everything = [Chapter(path) for path in sorted(where.glob("[0-9][0-9]_*/*.ipynb")) if path.stem == path.parent.name]
    if not everything:
        raise KitError(f"There is no assignment in {where}; one is a folder such as 01_data with 01_data.ipynb in it.")
    wanted = []
    for name in names or []:
        if (found := find_chapter(name, everything)) is None:
            raise UsageError(f"There is no assignment {name!r}.{suggest(name, [each.name for each in everything])}")
        wanted.append(found)
    return [each.path.parent for each in everything if each in wanted or not names]


def load(name: str) -> Assignment:
    """The assignment of this number or name, "02" say. Raises UsageError for an unknown one, and what `read` raises."""
    return read(folders([name])[0])


def read_rules(folder: Path) -> Rules:
    """exercises.yaml of an assignment's folder. Raises KitError with one sentence for whatever is wrong in it."""
    path = folder / "exercises.yaml"
    try:
        return Rules.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except ValidationError as error:
        raise KitError(f"{path}: {first_sentence(error)}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise KitError(f"{path} cannot be read: {error}.") from error


def read(folder: Path) -> Assignment:
    """An assignment's folder, checked. Raises KitError with one sentence for whatever its author got wrong."""
    import nbformat  # it takes a second, which every student's kernel that imports the desk would wait

    folder = Path(folder)
    rules = read_rules(folder)
    path = folder / f"{folder.name}.ipynb"
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat has a class of its own for each way to be no notebook
        raise KitError(f"{path} cannot be read as a notebook; open it in JupyterLab to see why.") from error
    assignment = Assignment(folder, rules.title, tuple(rules.exercises), notebook)
    if complaint := _complaint(assignment):
        raise KitError(f"{path}: {complaint}")
    return assignment


def _complaint(assignment: Assignment) -> str | None:
    """The first thing wrong with the notebook's cells, as a sentence; None for a sound assignment."""
    if SETUP not in assignment.cells or not is_locked(assignment.cells[SETUP]):
        return f"there is no locked cell with the id {SETUP!r}."
    for cell in assignment.notebook.cells:
        if cell_id(cell) != cell.id:
            return f"cell {cell.id!r} has the grade_id {cell_id(cell)!r}; give it the same one."
        owners = [exercise for exercise in assignment.exercises if exercise.owns(cell.id)]
        if is_test(cell) and not owners:
            return f"the test cell {cell.id!r} begins with no exercise's id."
        if is_test(cell) and not cell.source.startswith(BEHAVIOUR):
            return f"the test cell {cell.id!r} does not begin with {BEHAVIOUR[0]!r} and the behaviour it looks at."
        if is_test(cell) and points(cell) != int(owners[0].graded):
            return f"the test cell {cell.id!r} is worth {points(cell)}; give it {int(owners[0].graded)}."
    return next(filter(None, (_exercise_complaint(assignment, exercise) for exercise in assignment.exercises)), None)


def _exercise_complaint(assignment: Assignment, exercise: Exercise) -> str | None:
    name = exercise.id
    for needed in (f"{name}-text", name, f"{name}-check"):
        if needed not in assignment.cells:
            return f"exercise {name} has no cell {needed!r}."
    if not assignment.cells[name].metadata.get("nbgrader", {}).get("solution"):
        return f"the cell {name!r} is not marked as a solution."
    if not re.search(rf"^def {name}\(", assignment.solution(name), re.MULTILINE):
        return f"the cell {name!r} defines no function of that name."
    if len(assignment.tests(name)) not in MARKS_OF_AN_EXERCISE:
        return f"exercise {name} has {len(assignment.tests(name))} test cells; give it 2 to 4."
    if not re.search(rf"^\s*{exercise.convention.name} = .*# convention$", assignment.solution(name), re.MULTILINE):
        return f"the cell {name!r} has no line `{exercise.convention.name} = ...  # convention`."
    return None
