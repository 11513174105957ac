"""The notebook parameters: one name, one type and one range for all notebooks of the course.

papermill only warns of a name that a notebook does not declare, and it checks no types. A misspelt parameter would run
for hours with the default. Here each such mistake raises one sentence before anything runs. A name that is also a
setting of a run or a field of a decoder has the same type and bounds as there.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from stlm_kit.errors import KitError, UsageError, first_sentence, near
from stlm_kit.notebook_files import read_cells, tags


class Parameters(BaseModel):
    """Parameters that a notebook may declare beside the settings of a run.

    The defaults here are never used; the notebook's own are.
    """

    profile: Literal["laptop", "mig20"] = Field("laptop", description="90 s on a CPU, or the published size")
    n_seeds: int = Field(1, ge=1, le=1000, description="how many seeds a comparison repeats")

    # A study's run.
    study: str = Field("", description="the study a run belongs to")
    run_name: str = Field("", description="the run's name within its study")
    settings: dict[str, Any] = Field({}, description="whatever `stlm train --set` reaches; see options.py")
    measure_memory: bool = Field(False, description="measure and predict what a step takes")

    # Generation.
    max_new_tokens: int = Field(100, ge=1, le=2**20)
    temperature: float = Field(0.0, ge=0, le=100, description="0 always takes the likeliest token")


STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@cache
def vocabulary() -> dict[str, FieldInfo]:
    """{name: field} of everything that a notebook may declare."""
    from stlm_kit.options import settable  # it imports torch, which most commands do not need

    return {**Parameters.model_fields, **settable()}


@cache
def _alone(name: str) -> type[BaseModel]:
    """A model with one parameter, so that it can be checked without the others."""
    field = vocabulary()[name]
    return create_model("One", __config__=STRICT, **{name: (field.annotation, field)})


def check(given: dict[str, Any], names: list[str] | None = None, where: str = "The kit") -> dict[str, Any]:
    """`given` with every value of the right type and range.

    A string for a parameter that is not a text is parsed ("3", "1e-3", "true", "none"), as the command line needs. Any
    other value must already have its type. names: the declared ones (default: all). where: the notebook's name, for the
    sentence. Raises UsageError with one sentence for an unknown name, a wrong type, or a value out of range.
    """
    names = list(vocabulary()) if names is None else names
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in names:
            hint = near(name, names) or f" It has {', '.join(names) or 'none'}."
            raise UsageError(f"{where} has no parameter {name!r}.{hint}")
        try:
            if isinstance(value, str) and value.lower() == "none" and optional(name):
                result = _alone(name).model_validate({name: None})
            elif isinstance(value, str):
                text = value if takes_text(name) else value.strip()  # blanks around a prompt are part of it
                result = _alone(name).model_validate_strings({name: text})
            else:
                result = _alone(name).model_validate({name: value})
        except ValidationError as error:
            raise UsageError(f"{first_sentence(error)[:-1]}{meaning(name)}.") from error
        checked[name] = getattr(result, name)
    return checked


def optional(name: str) -> bool:
    """Whether a parameter may be None."""
    field = vocabulary().get(name)
    return field is not None and type(None) in get_args(field.annotation)


def takes_text(name: str) -> bool:
    """Whether a parameter is a text or one of a few words. True also for an unknown name, which `check` refuses."""
    field = vocabulary().get(name)
    if field is None or field.annotation is str or get_origin(field.annotation) is Literal:
        return True
    return str in get_args(field.annotation)


def meaning(name: str) -> str:
    """What a parameter is, in brackets after an error; empty where its name is enough."""
    field = vocabulary().get(name)
    return f" ({field.description})" if field is not None and field.description else ""


def declared(notebook: Path | str) -> list[str]:
    """The names in the notebook's cell tagged `parameters`, in order; [] without such a cell.

    Raises KitError for a file that is not a notebook, or whose parameters cell holds an unknown name.
    """
    return list(_assigned(Path(notebook)))


def defaults(notebook: Path | str) -> dict[str, Any]:
    """{name: value} of the notebook's parameters as committed, from the syntax tree; see `declared`.

    Raises KitError for a value that is not a literal.
    """
    try:
        return {name: ast.literal_eval(value) for name, value in _assigned(Path(notebook)).items()}
    except ValueError as error:
        raise KitError(f"{Path(notebook).name} declares a parameter that is no plain value; write one.") from error


def _assigned(notebook: Path) -> dict[str, ast.expr]:
    """{name: assigned expression} of the cell tagged `parameters`, for any kernel."""
    if not notebook.is_file():
        raise KitError(f"There is no notebook {notebook}; check the path.")
    source = next((cell["source"] for cell in read_cells(notebook) if "parameters" in tags(cell)), "")
    try:
        lines = ast.parse(re.sub(r"^[%!].*$", "", source, flags=re.MULTILINE)).body  # IPython's lines are not Python
    except SyntaxError as error:
        raise KitError(f"The cell tagged `parameters` of {notebook.name} is no Python; mend it.") from error
    found: dict[str, ast.expr] = {}
    for line in lines:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        value = getattr(line, "value", None)
        found |= {target.id: value for target in targets if isinstance(target, ast.Name) and value is not None}
    for name in found:
        if name not in Parameters.model_fields and name not in vocabulary():
            raise KitError(
                f"{notebook.name} declares a parameter {name!r} that the vocabulary of parameters lacks; "
                f"add it to stlm_kit/reproduce/parameters.py.{near(name, vocabulary())}"
            )
    return found
