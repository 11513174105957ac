"""From a request to a list of runs: names are resolved and every parameter is validated; nothing is started."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stlm_kit.errors import KitError, UsageError
from stlm_kit.notebook_files import Chapter, chapters, find_chapter, find_chapters, notebooks_dir, suggest
from stlm_kit.reproduce import parameters as vocabulary
from stlm_kit.reproduce.needed_runs import tied
from stlm_kit.reproduce.run import CHAPTERS, Run
from stlm_kit.reproduce.run_hash import names_a_file
from stlm_kit.reproduce.study_file import PROFILES, Study, load_study, study_names

RUN_NOTEBOOK = "run.ipynb"  # the notebook that papermill executes for each run of a study


@dataclass(frozen=True)
class Request:
    """The request to `stlm reproduce`. Without names: every chapter."""

    names: list[str] = field(default_factory=list)
    profile: str = "laptop"
    parameters: dict[str, Any] = field(default_factory=dict)  # values, or texts from the command line
    only: str | None = None  # a run's name, or for a study its place in the grid, from 1
    shard: tuple[int, int] | None = None  # (i, n), i from 1: every n-th run, beginning with the i-th
    notebooks: Path | None = None  # a folder with your own chapters


def plan(request: Request) -> list[Run]:
    """The requested runs, in order. Each is validated, except finished ones, which were validated before.

    Raises UsageError with one sentence for an unknown chapter, study, run or parameter, a wrong type or a value out of
    range; KitError for a notebook that cannot be read.
    """
    if request.profile not in PROFILES:
        raise UsageError(f"There is no profile {request.profile!r}.{suggest(request.profile, list(PROFILES))}")
    if request.notebooks is not None and not request.notebooks.is_dir():
        raise KitError(f"There is no folder {request.notebooks}; give the one that holds your chapters.")
    if "profile" in request.parameters:
        raise UsageError("Give the profile as --profile, not as a parameter.")
    runs = [run for name in request.names or [CHAPTERS] for run in _runs(name, request)]
    runs = list(dict.fromkeys(runs))  # "02 02" is one run
    if request.only is not None:
        runs = _only(request.only, runs)
    if request.shard is not None:
        index, count = request.shard
        runs = runs[index - 1 :: count]
    validate(runs)
    return runs


def _runs(name: str, request: Request) -> list[Run]:
    """The runs of one name: a chapter, all chapters, or a study."""
    folder = request.notebooks or notebooks_dir()
    course = chapters(folder)
    if name == CHAPTERS:
        found = find_chapters([], folder)
    elif chapter := find_chapter(name, course):
        found = [chapter]
    elif name.endswith(".yaml") or name in study_names():
        return _study_runs(name, request)
    else:
        options = [*(chapter.name for chapter in course), *study_names()]
        raise UsageError(f"There is no chapter or study {name!r}.{suggest(name, options)}")
    given = absolute_paths(vocabulary.check(request.parameters)) if request.parameters else {}
    return [chapter_run(chapter.path, request.profile, given) for chapter in found]


def chapter_run(notebook: Path, profile: str = "laptop", given: dict[str, Any] | None = None) -> Run:
    """The run of one chapter at a profile. A notebook without a declared profile runs as a laptop's."""
    asked = {"profile": profile} if profile != "laptop" or Chapter(notebook).declares("profile") else {}
    return Run(CHAPTERS, notebook.stem, notebook.resolve(), {**asked, **(given or {})}, profile)


def _study_runs(name: str, request: Request) -> list[Run]:
    notebook = ((request.notebooks or notebooks_dir()) / RUN_NOTEBOOK).resolve()
    if not notebook.is_file():
        raise KitError(f"There is no {RUN_NOTEBOOK} in {notebook.parent}; a study's runs need it.")
    return study_runs(load_study(name), notebook, request.profile, absolute_paths(request.parameters))


def study_runs(study: Study, notebook: Path, profile: str, given: dict[str, Any]) -> list[Run]:
    """A study's runs at a profile, each with the runs that it needs. `given` overrides the parameters of all of them.

    UsageError for parameters that are wrong.
    """
    from stlm_kit.reproduce.study_runs import run_parameters

    runs = []
    for run, cell in study.cells(profile).items():
        parameters = run_parameters(cell.parameters, profile, given)
        runs.append(Run(study.name, run, notebook, parameters, profile, cell.labels))
    return tied(runs)


def _only(name: str, runs: list[Run]) -> list[Run]:
    """The run of this name. A chapter may be given by its number, a study's run by its place, from 1."""
    found = [run for run in runs if name in (run.name, run.name.split("_")[0] if run.is_chapter else run.name)]
    if not found and name.isdecimal() and not any(run.is_chapter for run in runs):
        if not 1 <= int(name) <= len(runs):
            raise UsageError(
                f"There is no run {name} among these {len(runs)}; they count from 1, as `stlm plan` lists them."
            )
        found = [runs[int(name) - 1]]
    if not found:
        raise UsageError(f"None of these runs is called {name!r}.{suggest(name, [run.name for run in runs])}")
    return found


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) of "i/n", with i from 1 to n. UsageError for anything else."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text!r} will not do; write i/n with i from 1 to n, such as 1/4.")
    return int(match[1]), int(match[2])


def absolute_paths(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters with absolute paths, because a kernel has another working folder than the user."""
    return {
        name: str(Path(value).expanduser().resolve()) if names_a_file(name, value) else value
        for name, value in parameters.items()
    }


_declared: dict[Path, list[str]] = {}


def declared(notebook: Path) -> list[str]:
    """`parameters.declared`, read once for each notebook."""
    if notebook not in _declared:
        _declared[notebook] = vocabulary.declared(notebook)
    return _declared[notebook]


def validate(runs: list[Run]) -> None:
    """Check the parameters of every unfinished chapter against its declared ones.

    A study's runs are checked already.
    """
    for run in runs:
        if run.is_chapter and run.parameters and not run.finished:
            vocabulary.check(run.parameters, declared(run.notebook), where=f"The notebook {run.notebook.name}")


def need_gpu(runs: list[Run]) -> None:
    """Refuse mig20 on a machine without a GPU before anything starts, because it would take days on a CPU.

    STLM_ALLOW_CPU=1 allows it. Raises KitError.
    """
    if os.environ.get("STLM_ALLOW_CPU") or not any(run.profile == "mig20" and not run.finished for run in runs):
        return
    import torch

    if not torch.cuda.is_available():
        raise KitError(
            "The profile mig20 is the published size and needs a CUDA GPU, which torch does not find here; "
            "use --profile laptop, or set STLM_ALLOW_CPU=1 to let it take days on the CPU."
        )
