"""What the tests of grading share: the made-up assignment released, submissions put together, the sandbox or a skip."""

import os
import shutil

import nbformat
import pytest

from stlm_kit.course import sandbox
from stlm_kit.course.compose import compose
from stlm_kit.course.release import release
from stlm_kit.paths import course_dir

KEY = "a key of many characters"
LOOP = "def double(x):\n    while True:\n        pass"
CRASH = "import os\n\ndef double(x):\n    os._exit(1)"


def needs_bubblewrap():
    """Skip where bubblewrap is not there; fail instead where STLM_REQUIRE_TOOLS says that it has to be."""
    if not (reason := sandbox.missing()):
        return
    if os.environ.get("STLM_REQUIRE_TOOLS") == "1" and not shutil.which("bwrap"):
        pytest.fail(reason)
    pytest.skip(reason)


class Class:
    """A course with the made-up assignment in it, and a folder for what its students hand in."""

    def __init__(self, tmp_path, key=""):
        self.course = course_dir()
        self.folder = tmp_path / "submissions"
        self.folder.mkdir()
        self.released = release([], key, self.course)[0]
        self.name = self.released.name
        source = nbformat.read(self.course / "source" / self.name / f"{self.name}.ipynb", as_version=4)
        self.source = source
        self.right = {cell.id: cell.source for cell in source.cells if cell.id in ("double", "tail")}

    def notebook(self, **answers):
        """The release with the right answers, but for those given."""
        return compose(self.released.path, {**self.right, **answers})

    def hand_in(self, student, notebook=None, file="answer.ipynb", **answers):
        """Write a submission, by default the right one; gives its path."""
        path = self.folder / student / file
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook or self.notebook(**answers), path)
        return path

    def report(self, student):
        from stlm_kit.course import reports

        return reports.read(self.course, self.name, student)
