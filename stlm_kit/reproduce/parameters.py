"""The vocabulary of notebook parameters: one name, one type and one range for every notebook of the course.

papermill only warns of a name that a notebook does not declare and enforces no types, so a misspelt parameter would
run for hours with the default. Here each such mistake is one sentence before anything runs.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stlm_kit.errors import KitError, UsageError, first_sentence, near
from stlm_kit.notebook_files import read_cells, tags


class Parameters(BaseModel):
    """Every parameter a notebook may declare. The defaults only make partial checks possible: a notebook's own hold."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    # How much work, and where.
    profile: Literal["laptop", "mig20"] = Field("laptop", description="90 s on a CPU, or the published size")
    seed: int = Field(0, ge=0, lt=2**32, description="seeds everything random")
    n_seeds: int = Field(1, ge=1, le=1000, description="how many seeds a comparison repeats")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto takes a GPU where there is one")
    study: str = Field("", description="the study a run belongs to")
    run_name: str = Field("", description="the run's name within its study")

    # Text.
    corpus: str = Field("sotu", min_length=1, description="a corpus by name, or a path")
    tokenizer: str = Field("bytes", min_length=1, description="bytes, bpe-N, gpt2, or a path to a tokenizer.json")
    packing: Literal["packed", "documents"] = Field("packed", description="rows full of text, or a document a row")
    attend_across_documents: bool = Field(True, description="whether a packed row attends across its documents")
    split_seed: int = Field(0, ge=0, lt=2**32, description="seeds the split of the corpus")
    max_documents: int | None = Field(None, ge=1, description="at most this many documents")

    # The model.
    preset: str = Field("laptop-llama", min_length=1, description="a named DecoderConfig")
    n_layers: int = Field(4, ge=1, le=1000)
    d_model: int = Field(128, ge=1, le=2**20)
    n_heads: int = Field(4, ge=1, le=4096)
    n_kv_heads: int | None = Field(None, ge=1, le=4096)
    d_ff: int = Field(512, ge=1, le=2**22)
    vocab_size: int = Field(256, ge=2, le=2**24)
    context_length: int = Field(128, ge=1, le=2**22, description="input positions")
    window: int | None = Field(None, ge=1, description="attention window: a token itself and this many before it")
    dropout: float = Field(0.0, ge=0, lt=1)

    # Training.
    steps: int = Field(100, ge=1, le=10**9, description="optimizer steps")
    batch_size: int = Field(16, ge=1, le=2**20, description="rows in a batch")
    accumulation_steps: int = Field(1, ge=1, le=2**20)
    learning_rate: float = Field(1e-3, gt=0, le=10)
    min_learning_rate: float = Field(0.0, ge=0, le=10)
    schedule: Literal["cosine", "constant"] = Field("cosine", description="the learning rate after its warm-up")
    warmup_steps: int | None = Field(None, ge=0, le=10**9, description="none: a tenth of the steps, at most 1,000")
    beta_2: float = Field(0.95, ge=0, lt=1, description="AdamW's memory of squared gradients")
    weight_decay: float = Field(0.1, ge=0, le=10)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    recipe: str = Field("fp32", min_length=1, description="how a step is computed; Recipe.NAMES lists them")
    measure_memory: bool = Field(False, description="measure and predict what a step takes")
    target_perplexity: float | None = Field(None, gt=1, description="stop once the validation perplexity is below")
    eval_every: int = Field(100, ge=1, le=10**9)
    log_every: int = Field(10, ge=1, le=10**9)
    checkpoint_every: int = Field(1000, ge=1, le=10**9)

    # Generation.
    prompt: str = Field("", description="the text to go on from")
    max_new_tokens: int = Field(100, ge=1, le=2**20)
    temperature: float = Field(0.0, ge=0, le=100, description="0 always takes the likeliest token")


def check(given: dict[str, Any], names: list[str] | None = None, where: str = "The kit") -> dict[str, Any]:
    """`given` with every value of its right type and range.

    A string for a parameter that is no text is parsed ("3", "1e-3", "true", "none"), as the command line needs; any
    other value must already have its type. names: what is declared (default: the whole vocabulary); where: who declares
    it, for the sentence. Raises UsageError: one sentence for an unknown name, a wrong type, or a value out of range.
    """
    names = list(Parameters.model_fields) if names is None else names
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in names:
            hint = near(name, names) or f" It has {', '.join(names) or 'none'}."
            raise UsageError(f"{where} has no parameter {name!r}.{hint}")
        try:
            if isinstance(value, str) and value.lower() == "none" and optional(name):
                result = Parameters.model_validate({name: None})
            elif isinstance(value, str):
                result = Parameters.model_validate_strings({name: value.strip()})
            else:
                result = Parameters.model_validate({name: value})
        except ValidationError as error:
            raise UsageError(f"{first_sentence(error)[:-1]}{meaning(name)}.") from error
        checked[name] = getattr(result, name)
    return checked


def optional(name: str) -> bool:
    """Whether a parameter may be None."""
    field = Parameters.model_fields.get(name)
    return field is not None and type(None) in get_args(field.annotation)


def takes_text(name: str) -> bool:
    """Whether a parameter is a text or one of a few words (so is an unknown name, which `check` then refuses)."""
    field = Parameters.model_fields.get(name)
    return field is None or field.annotation is str or get_origin(field.annotation) is Literal


def meaning(name: str) -> str:
    """What a parameter is, in brackets after a complaint; empty where its name says it all."""
    field = Parameters.model_fields.get(name)
    return f" ({field.description})" if field is not None and field.description else ""


def declared(notebook: Path | str) -> list[str]:
    """The names in the notebook's cell tagged `parameters`, in order; [] where it has no such cell.

    Raises KitError for a file that is not a notebook, or whose parameters cell holds a name outside the vocabulary.
    """
    return list(_assigned(Path(notebook)))


def defaults(notebook: Path | str) -> dict[str, Any]:
    """{name: value} of the notebook's parameters as committed, read off its syntax tree; see `declared`."""
    try:
        return {name: ast.literal_eval(value) for name, value in _assigned(Path(notebook)).items()}
    except ValueError as error:
        raise KitError(f"{Path(notebook).name} declares a parameter that is no plain value; write one.") from error


def _assigned(notebook: Path) -> dict[str, ast.expr]:
    """{name: what it is set to} of the cell tagged `parameters`, whatever kernel the notebook asks for."""
    if not notebook.is_file():
        raise KitError(f"There is no notebook {notebook}; check the path.")
    source = next((cell["source"] for cell in read_cells(notebook) if "parameters" in tags(cell)), "")
    try:
        lines = ast.parse(re.sub(r"^[%!].*$", "", source, flags=re.MULTILINE)).body  # IPython's lines are no Python
    except SyntaxError as error:
        raise KitError(f"The cell tagged `parameters` of {notebook.name} is no Python; mend it.") from error
    found: dict[str, ast.expr] = {}
    for line in lines:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        value = getattr(line, "value", None)
        found |= {target.id: value for target in targets if isinstance(target, ast.Name) and value is not None}
    for name in found:
        if name not in Parameters.model_fields:
            raise KitError(
                f"{notebook.name} declares a parameter {name!r} that the vocabulary of parameters lacks; "
                f"add it to studies/parameters.py.{near(name, Parameters.model_fields)}"
            )
    return found


def validate(notebook: Path | str, given: dict[str, Any]) -> dict[str, Any]:
    """`given` (strings from `-p name=value`, or values) checked against what the notebook declares; see `check`."""
    return check(given, declared(notebook), where=f"The notebook {Path(notebook).name}")
