"""Tiny real notebooks, executed by real papermill in real kernels, in a folder whose name holds a space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from forked import Forks
from hypothesis import HealthCheck, settings

# A busy machine is no failure: neither an example that takes long nor one that is drawn slowly.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

PARAMETERS = 'profile = "laptop"  # how much\nseed = 0\nsteps = 3\ncorpus = "sotu"'


class Course:
    """A folder of chapters to be filled by a test: cells 1 and 2 are the title and the parameters."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()

    @staticmethod
    def code(source: str, *tags: str) -> nbformat.NotebookNode:
        return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})

    @staticmethod
    def prose(source: str) -> nbformat.NotebookNode:
        return nbformat.v4.new_markdown_cell(source)

    def chapter(
        self, name: str, *cells: nbformat.NotebookNode | str, title: str = "# 00 · A title\n\nA promise."
    ) -> Path:
        cells = [self.code(cell) if isinstance(cell, str) else cell for cell in cells]
        notebook = nbformat.v4.new_notebook(cells=[self.prose(title), self.code(PARAMETERS, "parameters"), *cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.folder / f"{name}.ipynb")
        return self.folder / f"{name}.ipynb"


@pytest.fixture(scope="session")
def forking(tmp_path_factory) -> Iterator[Forks]:
    forks = Forks(tmp_path_factory.mktemp("forks"))
    yield forks
    forks.close()


@pytest.fixture
def forks(forking) -> Iterator[Forks]:
    """`stlm` in forks of one process that has imported everything, a command at a time; see forked.py."""
    yield forking
    forking.end()


@pytest.fixture
def course(tmp_path) -> Course:
    return Course(tmp_path / "a course")


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """Where the runs of a test go."""
    folder = tmp_path / "the runs"
    monkeypatch.setenv("STLM_RUNS", str(folder))
    monkeypatch.delenv("STLM_RUN_DIR", raising=False)
    return folder


@pytest.fixture
def computing_node(tmp_path, monkeypatch) -> Path:
    """A cache of one's own, and no hub, whether or not this machine has a network."""
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read once, when it is imported
    return tmp_path / "cache"
