"""What the tests of grading share: the made-up assignment released, submissions put together, the sandbox or a skip."""

import copy
import json
import os
import re
import shutil
import threading

import nbformat
import pytest

from stlm_kit.course import sandbox
from stlm_kit.course.assignment import is_test
from stlm_kit.course.compose import compose
from stlm_kit.course.course_file import Limits
from stlm_kit.course.execution import execute
from stlm_kit.course.folder import UNWRITTEN
from stlm_kit.course.keyed_values import keyed
from stlm_kit.course.release import release
from stlm_kit.course.repair import repair
from stlm_kit.course.submissions import cells
from stlm_kit.paths import course_dir

SOLUTION = re.compile(r"    ### BEGIN SOLUTION.*?### END SOLUTION", re.DOTALL)
HIDDEN = re.compile(r"### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS", re.DOTALL)
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

    def __init__(self, tmp_path, key="", names=()):
        self.course = course_dir()
        self.folder = tmp_path / "submissions"
        self.folder.mkdir()
        self.released = release(list(names), key, self.course)[0]
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


class Desk:
    """An assignment as a course has it: the source, and a release cut from it as nbgrader cuts."""

    def __init__(self, assignment):
        self.assignment = assignment
        self.source = keyed(assignment)
        ids = {each.id for each in assignment.exercises}
        self.release = copy.deepcopy(self.source)
        for cell in self.release.cells:
            cell.source = HIDDEN.sub("", SOLUTION.sub(f"    {UNWRITTEN}", cell.source))
        self.right = {cell.id: cell.source for cell in self.source.cells if cell.id in ids}

    def notebook(self, **answers):
        """The release with the right answers, but for those given."""
        notebook = copy.deepcopy(self.release)
        for cell in notebook.cells:
            cell.source = {**self.right, **answers}.get(cell.id, cell.source)
        return notebook

    def repaired(self, notebook):
        return self.of_text(json.dumps(notebook))

    def of_text(self, text):
        return repair(cells(text.encode()), self.assignment, self.source, self.release)

    def executed(self, repaired, limits=None):
        """A repaired notebook run in the sandbox, without nbgrader."""
        return execute(self.assignment, repaired.notebook, limits or Limits(), not sandbox.missing(), threading.Event())

    def earned(self, executed):
        """The tests that a run passed, by id; those of optional exercises as well."""
        return {cell.id for cell in self.source.cells if is_test(cell) and cell.id not in executed.lost}
