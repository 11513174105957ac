"""The run that a notebook's parameters select where papermill executes it directly (plain_papermill.py).

For a chapter it is the run of `stlm reproduce 03 -p NAME=VALUE`. run.ipynb declares `settings`, so it also accepts
every name of `stlm train --set`. There `study` and `run_name` may name a run of a study. Its settings are then the
defaults: the run of `stlm reproduce STUDY --only NAME`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stlm_kit.errors import UsageError, near
from stlm_kit.paths import folder_name
from stlm_kit.reproduce import parameters as vocabulary
from stlm_kit.reproduce.request import absolute_paths, chapter_run, study_runs
from stlm_kit.reproduce.run import CHAPTERS, PAPERMILL, Run
from stlm_kit.reproduce.study_file import Study, load_study, study_names


def asked_for(notebook: Path, declared: dict[str, Any], given: dict[str, Any]) -> tuple[dict[str, Any], Run]:
    """(the notebook's parameters, checked and resolved; the run that they select).

    declared: the values of the parameters that the notebook declares. given: those that papermill set, declared or not.
    Raises UsageError with one sentence for an unknown name, a wrong type, or a value out of range.
    """
    if "settings" in declared:
        extra = {name: value for name, value in given.items() if name not in declared}
        return _one_run(notebook, vocabulary.check(declared, where="This notebook"), extra, given)
    checked = check_given(declared, given, f"The notebook {notebook.name}")
    set_by_name = {name: checked[name] for name in given if name != "profile"}
    run = chapter_run(notebook, checked.get("profile", "laptop"), absolute_paths(set_by_name))
    return {**checked, **run.parameters}, run


def check_given(declared: dict[str, Any], given: dict[str, Any], where: str = "This notebook") -> dict[str, Any]:
    """The declared parameters, checked. UsageError for one that papermill was given but that is not declared."""
    extra = {name: value for name, value in given.items() if name not in declared}
    vocabulary.check(extra, list(declared), where=where)
    return vocabulary.check(declared, where="This notebook")


def _one_run(
    notebook: Path, checked: dict[str, Any], extra: dict[str, Any], given: dict[str, Any]
) -> tuple[dict[str, Any], Run]:
    from stlm_kit.reproduce.study_runs import OF_THE_RUN, run_parameters

    profile, settings = checked["profile"], checked["settings"]
    options = {name: checked[name] for name in OF_THE_RUN if name in (given if checked["study"] else checked)}
    study, name, file = _of_study(checked["study"], checked["run_name"], profile)
    if file is None:
        options = {name: value for name, value in options.items() if value}
        parameters = run_parameters({**absolute_paths(settings), **options}, profile, absolute_paths(extra))
        chosen = parameters["settings"]
        name = name or folder_name(f"{chosen.get('preset', '')}-{Path(str(chosen.get('corpus', 'sotu'))).stem}")
        run = Run(study, name, notebook, parameters, profile)
    else:
        over = {**(settings if "settings" in given else {}), **extra, **options}
        runs = study_runs(file, notebook, profile, absolute_paths(over))
        run = next(run for run in runs if run.name == name)
    of_the_run = {name: run.parameters.get(name, False) for name in OF_THE_RUN}
    return {**checked, **of_the_run, "study": study, "run_name": name, "settings": run.settings}, run


def _of_study(study: str, run_name: str, profile: str) -> tuple[str, str, Study | None]:
    """(the study's name, the run's name, the study). The study is None without one of that name in the kit or a file.

    UsageError where it has no such run.
    """
    if study.endswith(".yaml") or study in study_names():
        found = load_study(study)
        cells = found.cells(profile)
        if run_name not in cells:
            hint = near(run_name, cells) or f" It has {', '.join(cells)}."
            raise UsageError(f"The study {found.name} has no run {run_name!r} at the profile {profile}.{hint}")
        return found.name, run_name, found
    if study == CHAPTERS:
        raise UsageError(f"study = {study!r} is the folder of the course's own notebooks; choose another name.")
    return folder_name(study) or PAPERMILL, folder_name(run_name), None
