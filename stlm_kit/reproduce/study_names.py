"""What a study is called: the kit's by their folder, a study file of one's own by its file.

The runs of a study lie in runs/<name>, so a file of one's own never takes a name under which the kit keeps something.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

from stlm_kit.paths import folder_name

# Folders of runs/ that hold no study's runs: chapters, rows taken over, runs by hand, answers of a notebook by hand.
KEPT = {"chapters", "imported", "papermill", "train", "interactive"}


def studies_dir() -> Path:
    """Where the kit's studies lie, one folder a source."""
    return Path(__file__).resolve().parent.parent / "studies"


def study_names() -> list[str]:
    """The names of the kit's studies: the folders that hold a study file."""
    return sorted(path.parent.name for path in studies_dir().glob("*/study.yaml"))


def study_path(name: str) -> Path:
    """The study file of a source."""
    return studies_dir() / name / "study.yaml"


def name_of(file: Path) -> str:
    """The name of the study in a file of one's own: the file's without its suffix, of a study.yaml its folder's.

    What no folder may be called is replaced by dashes. A name that the kit keeps for itself, a published study's say,
    gets "my-" before it, which is said once.
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
    """Parameters with the relative paths to texts and weights among them read from the study file's folder.

    A kernel works in another folder than the file. What is a name (sotu, bytes) stays one.
    """
    from stlm_kit.reproduce.run_hash import is_name, names_a_file

    found = dict(parameters)
    for parameter in ("corpus", "tokenizer", "init_from"):
        value = parameters.get(parameter)
        if isinstance(value, str) and not is_name(parameter, value):
            placed = str((file.parent / Path(value).expanduser()).resolve())
            found[parameter] = placed if names_a_file(parameter, placed) else value
    return found
