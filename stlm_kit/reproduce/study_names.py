"""The name of a study: the folder's for the kit's studies, the file's for your own.

The runs of a study are in runs/<name>, so your own study never gets a name that the kit uses for something else.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

from stlm_kit.paths import folder_name

# Folders of runs/ without a study's runs: chapters, imported rows, manual runs, answers of interactive notebooks.
KEPT = {"chapters", "imported", "papermill", "train", "interactive"}


def studies_dir() -> Path:
    """The folder with the kit's studies, one folder for each source."""
    return Path(__file__).resolve().parent.parent / "studies"


def study_names() -> list[str]:
    """The names of the kit's studies: the folders with a study file."""
    return sorted(path.parent.name for path in studies_dir().glob("*/study.yaml"))


def study_path(name: str) -> Path:
    """The study file of a source."""
    return studies_dir() / name / "study.yaml"


def name_of(file: Path) -> str:
    """The name of the study in your own file: the file's name without suffix, or the folder's for a study.yaml.

    Characters that a folder's name cannot have become dashes. A name that the kit uses itself, such as a published
    study's, gets the prefix "my-", with one message about it.
    """
    stem = file.resolve().parent.name if file.name == "study.yaml" else file.stem
    name = folder_name(stem).strip("-.") or "study"
    from stlm_kit.reproduce.results import recorded_names

    if name in {*study_names(), *recorded_names(), *KEPT}:
        _tell(name)
        return f"my-{name}"
    return name


@cache
def _tell(name: str) -> None:
    print(f"The kit keeps the name {name!r} for itself; your study is called 'my-{name}'.", file=sys.stderr)


def beside(file: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters in which relative paths to texts and weights are relative to the study file's folder.

    A kernel's working folder is another one. Names (sotu, bytes) stay names.
    """
    from stlm_kit.reproduce.run_hash import is_name, names_a_file

    found = dict(parameters)
    for parameter in ("corpus", "tokenizer", "init_from", "teacher"):
        value = parameters.get(parameter)
        if isinstance(value, str) and not is_name(parameter, value):
            placed = str((file.parent / Path(value).expanduser()).resolve())
            found[parameter] = placed if names_a_file(parameter, placed) else value
    return found
