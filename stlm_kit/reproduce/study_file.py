"""A study file: the runs that answer the claims of one source document, as a grid over parameters.

    runs:
    - name: "{technique}-b{batch_size}"          # filled from the grid and the parameters
      about: one sentence
      grid:
        technique:                               # labels, each with its settings
          fp32: {recipe: fp32}
          window-16: {recipe: bf16, window: 16}
        batch_size: [32, 64, 128]                # or plain values of the setting with that name
      parameters: {corpus: sotu, beta_1: 0.8}    # for every run: any name of `stlm train --set`, or measure_memory
      profiles:                                  # additions of a profile; its grid replaces axes of the same name
        laptop: {parameters: {preset: laptop-llama}, grid: {batch_size: [4, 8]}}
        mig20: {parameters: {preset: memory-study}}
      answers: [mem.expected.window.mem]         # the claims that these runs answer together, in a chapter

Or, where a number of one run answers a claim, so that `stlm ledger import` can convert it (ledger/full_size.py):

      answers:
        mem.base.bs128.val_ppl: {run: fp32-b128, metric: perplexity}
        mem.base.bs128.train_time_s: {run: fp32-b128, metric: training_seconds, device: RTX 5090}

Your own study is named after its file, whatever its `source` says: see study_names.py. A relative path of a corpus,
tokenizer, init_from or teacher in it is relative to the file.

Grids under `predicted:` have the same form, but their cells are predicted instead of run (predictions.py). The other
keys of the file (source, title, citation, claims) belong to the ledger.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from stlm_kit.errors import KitError, UsageError, first_sentence, near
from stlm_kit.notebook_files import suggest
from stlm_kit.paths import folder_name
from stlm_kit.reproduce.study_names import beside, name_of, studies_dir, study_names, study_path

PROFILES = ("laptop", "mig20")
FULL_SIZE = "mig20"
FREE = ("device", "checkpoint_every")  # settings that change no number of a run except its times
Axis = list[bool | int | float | str] | dict[str, dict[str, Any]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProfilePart(_Strict):
    """What one profile adds to a grid."""

    parameters: dict[str, Any] = {}
    grid: dict[str, Axis] = {}


class Measure(_Strict):
    """How one run at the published size answers a claim: which run, and which number of its result row."""

    run: str | None = Field(None, description="its name at the profile mig20; needed where the grid has several")
    metric: str = Field(min_length=1, description="a name among the row's metrics")
    divide_by: float = Field(1.0, gt=0, description="from the metric's unit to the claim's: 3600 for hours of seconds")
    device: str = Field("", description="a time holds on this device alone: part of its name, such as RTX 5090")


class KnownPadding(_Strict):
    """The share of real targets in a text, and its standard deviation between rows, for runs with this corpus,
    packing and preset.
    """

    corpus: str
    packing: str
    preset: str
    valid_fraction: float = Field(gt=0, le=1)
    valid_fraction_std: float = Field(ge=0, le=0.5)


@dataclass(frozen=True)
class Cell:
    """One run of a grid: its parameters, and its place in the grid as {axis: label or value in the file}."""

    parameters: dict[str, Any]
    labels: dict[str, Any]


class Grid(_Strict):
    """Runs that differ along the axes of `grid`: one run for each combination. The last axis changes fastest."""

    name: str
    about: str = ""
    grid: dict[str, Axis] = {}
    parameters: dict[str, Any] = {}
    profiles: dict[Literal["laptop", "mig20"], ProfilePart] = Field(min_length=1)
    answers: dict[str, Measure | None] = {}  # None: the runs answer the claim together

    @field_validator("answers", mode="before")
    @classmethod
    def _list_of_claims(cls, answers: Any) -> Any:
        return dict.fromkeys(answers) if isinstance(answers, list) else answers

    @property
    def measures(self) -> dict[str, Measure]:
        """{claim id: how} for the claims that a single run answers; each names its run. KitError for an unknown run."""
        ties = {claim_id: tie for claim_id, tie in self.answers.items() if tie}
        runs = list(self.expand("mig20")) if ties else []
        found = {}
        for claim_id, tie in ties.items():
            run = tie.run or (runs[0] if len(runs) == 1 else "")
            if run not in runs:
                raise KitError(
                    f"{claim_id} is to be answered by the run {run!r}, and at the profile mig20 the grid {self.name!r} "
                    f"has {', '.join(runs) or 'none'}.{near(run, runs)}"
                )
            found[claim_id] = tie.model_copy(update={"run": run})
        return found

    def cells(self, profile: str) -> dict[str, Cell]:
        """{run name: cell} at a profile, or {} without runs there. KitError for a name that cannot be filled."""
        if profile not in self.profiles:
            return {}
        part = self.profiles[profile]
        axes = [_steps(name, part.grid.get(name, axis)) for name, axis in {**self.grid, **part.grid}.items()]
        runs: dict[str, Cell] = {}
        for steps in itertools.product(*axes):
            values = {**self.parameters, **part.parameters}
            labels: dict[str, Any] = {}
            for label, changes in steps:
                values |= changes
                labels |= label
            name = self._fill({**values, **labels, "profile": profile})
            if name in runs:
                raise KitError(
                    f"Two runs are called {name!r}; let the name {self.name!r} mention every axis of the grid."
                )
            runs[name] = Cell(values, labels)
        return runs

    def expand(self, profile: str) -> dict[str, dict[str, Any]]:
        """{run name: parameters} at a profile; see `cells`."""
        return {name: cell.parameters for name, cell in self.cells(profile).items()}

    def _fill(self, values: dict[str, Any]) -> str:
        try:
            name = self.name.format(**values)
        except (KeyError, IndexError, ValueError) as error:
            raise KitError(f"The run name {self.name!r} cannot be filled; it may use {', '.join(values)}.") from error
        return folder_name(name)


def _steps(name: str, axis: Axis) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each place on an axis as (its part of the run's name, the parameters it sets)."""
    if isinstance(axis, dict):
        return [({name: label}, parameters) for label, parameters in axis.items()]
    return [({name: value}, {name: value}) for value in axis]


class Study(_Strict):
    """A study file. Of `claims` only the ids are used here; the ledger reads them."""

    source: str
    title: str
    citation: str
    claims: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}  # what the source states and no preset holds: optimizer, data, hardware
    runs: list[Grid] = []
    padding: KnownPadding | None = None  # of a text that is hard to get, so that its runs can be planned without it
    predicted: list[Grid] = []  # cells at full size that are only predicted; see studies/memory/predictions.py
    _file: Path | None = PrivateAttr(None)  # the file of your own study; None for a study of the kit

    @property
    def name(self) -> str:
        """The name under which its runs and rows are stored: the source for the kit's studies, else the file's name."""
        return self.source if self._file is None else name_of(self._file)

    @property
    def is_own(self) -> bool:
        """Whether it is a user's own study and not one of the kit's."""
        return self._file is not None

    @property
    def measures(self) -> dict[str, Measure]:
        """{claim id: how} for the claims of this study that a single run at the published size answers."""
        return {claim_id: tie for grid in self.runs for claim_id, tie in grid.measures.items()}

    def has_runs(self, profile: str) -> bool:
        """Whether any of the grids has runs at a profile."""
        return any(profile in grid.profiles for grid in self.runs)

    def cells(self, profile: str) -> dict[str, Cell]:
        """{run name: cell} over all grids. UsageError where the study has no runs at this profile."""
        runs: dict[str, Cell] = {}
        for grid in self.runs:
            for name, cell in grid.cells(profile).items():
                if name in runs:
                    raise KitError(f"The study {self.name} has two runs called {name!r}; rename one of the grids.")
                runs[name] = cell if self._file is None else Cell(beside(self._file, cell.parameters), cell.labels)
        if not runs:
            offered = sorted({profile for grid in self.runs for profile in grid.profiles})
            has = f"it has runs at {' and '.join(offered)}" if offered else "so far it only holds claims"
            raise UsageError(f"The study {self.name} has no runs at the profile {profile}; {has}.")
        return runs

    def expand(self, profile: str) -> dict[str, dict[str, Any]]:
        """{run name: parameters} over all grids; see `cells`."""
        return {name: cell.parameters for name, cell in self.cells(profile).items()}


Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # eight times as fast, if PyYAML was built with libyaml


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, parsed once until the file changes. Do not modify the result.

    Raises KitError with one sentence for a file that cannot be read or is not YAML.
    """
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise KitError(f"The study file {path} cannot be read: {error.strerror}; check the path.") from error


@cache
def _parsed(path: Path, modified: int) -> Any:
    try:
        return yaml.load(path.read_text("utf-8"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = f" near line {line + 1}" if line is not None else ""
        raise KitError(f"The study file {path.name} is not YAML{place}; check its indentation and colons.") from error


def labels_of(study: str, run: str, profile: str) -> dict[str, Any]:
    """{axis: label} of a run in the kit's study of that name, or {} where the study has no such run."""
    known = study in study_names() and load_study(study).has_runs(profile)
    cells = load_study(study).cells(profile) if known else {}
    return cells[run].labels if run in cells else {}


def load_study(name_or_path: str | Path) -> Study:
    """A study by name ("memory"), or your own study file by path.

    Raises UsageError for an unknown name, KitError with one sentence that names the field for a file that is not a
    study.
    """
    path = Path(name_or_path)
    if path.suffix != ".yaml":
        path = study_path(str(name_or_path))
        if not path.is_file():
            name = str(name_or_path)
            raise UsageError(f"There is no study {name!r}.{suggest(name, study_names())}")
    content = read_yaml(path.resolve())
    if not isinstance(content, dict):
        raise KitError(
            f"The study file {path.name} needs the keys source, title, citation, runs and claims at its top."
        )
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise KitError(f"{path.name}: {first_sentence(error)}") from error
    claims = {str(claim.get("id")) for claim in study.claims}
    for claim in (claim for grid in study.runs for claim in grid.answers):
        if claim not in claims:
            raise KitError(f"{path.name} has runs that answer {claim!r}, none of its claims.{near(claim, claims)}")
    try:
        told = [claim for grid in study.runs for claim in grid.measures]
    except KitError as error:
        raise KitError(f"{path.name}: {error}") from error
    if twice := sorted({claim for claim in told if told.count(claim) > 1}):
        raise KitError(f"{path.name} has two runs that each answer {twice[0]!r}; let one of them do it.")
    if not path.resolve().is_relative_to(studies_dir()):
        study._file = path.absolute()
    return study
