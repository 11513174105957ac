"""A submission put together from a released notebook and answers: for tests, benchmarks and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from stlm_kit.course.assignment import cell_id
from stlm_kit.errors import UsageError
from stlm_kit.notebook_files import suggest


def compose(released: Path, answers: Mapping[str, str]) -> NotebookNode:
    """The released notebook with each answer in its exercise's cell, as a student would hand it in.

    answers: {exercise: code}; the other exercises stay as released. Raises UsageError for an exercise it has not.
    """
    notebook = nbformat.read(released, as_version=4)
    cells = {cell_id(cell): cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")}
    for exercise, code in answers.items():
        if exercise not in cells:
            raise UsageError(f"{released} has no exercise {exercise!r}.{suggest(exercise, list(cells))}")
        cells[exercise].source = code
    return notebook
