"""Right submissions, mangled at random: they keep their marks, or a sentence names the cell that lost them.

STLM_FUZZ=200 mangles 200 of them from a fresh seed, which a failure names; by default 20 from a fixed one.
STLM_FUZZ_SEED repeats a run. Each is repaired as the grader does it and its cells are run in order, in one process,
since their code is ours; a few go the whole way, through the sandbox and nbgrader.
"""

import contextlib
import io
import json
import os
import random
import re
import time
from functools import cache

import pytest

from stlm_kit.course.assignment import folders, is_test, read
from stlm_kit.course.grade import grade
from stlm_kit.course.plain_values import guarded
from stlm_kit.course.rules import violations
from stlm_kit.course.stated_type import stated_type

from .grading import Class, Desk, needs_bubblewrap
from .mangling import mangled

N = int(os.environ.get("STLM_FUZZ", 20))
SEED = int(os.environ.get("STLM_FUZZ_SEED", time.time_ns() % 2**31 if "STLM_FUZZ" in os.environ else 0))
NAMES = [folder.name for folder in folders()]
HELPED = {  # right answers that lean on helpers in cells of their own
    "causal_mask": (
        "def _back(length):\n    position = torch.arange(length)\n    return position[:, None] - position",
        "def causal_mask(length, window=None):\n    back = _back(length)\n"
        "    seen = (back >= 0) & (back <= (length if window is None else window))\n    return seen == True",
    ),
    "cosine_schedule": (
        "from math import cos, pi\n\n\ndef _fallen(done):\n    return (1 + cos(pi * min(done, 1))) / 2",
        "def cosine_schedule(step, steps, warmup, peak):\n    if step <= warmup:\n        return peak * step / warmup\n"
        "    return peak * (0.1 + 0.9 * _fallen((step - warmup) / (steps - warmup)))",
    ),
}


@cache
def desk(name):
    return Desk(read(folders([name])[0]))


@cache
def written(name):
    """A right submission as plain content: the references, some of them with a helper in a cell before."""
    made = desk(name).notebook(**{each: code for each, (_, code) in HELPED.items()})
    content = json.loads(json.dumps(made))
    for exercise, (helper, _) in HELPED.items():
        at = next((at for at, cell in enumerate(content["cells"]) if cell["id"] == exercise), None)
        if at is not None:
            cell = {"cell_type": "code", "id": "helper", "metadata": {}, "source": helper, "outputs": []}
            content["cells"].insert(at, cell)
    return content


def lost(of, repaired):
    """{test cell: why} for each test that does not pass when the repaired notebook's cells are run in order."""
    import torch

    torch.manual_seed(0)
    namespace, found = {"__name__": "__main__", "In": []}, {}
    students = of.assignment.students_cells(repaired.notebook)
    broken = {each.id: violations(students, each.id, each) for each in of.assignment.exercises}
    for cell in (each for each in repaired.notebook.cells if each.cell_type == "code"):
        owner = next((each.id for each in of.assignment.exercises if each.owns(cell.id)), "")
        kept = namespace.get(owner)
        if is_test(cell) and broken[owner]:
            found[cell.id] = broken[owner][0]
            continue
        if is_test(cell) and callable(kept):
            namespace[owner] = guarded(kept, owner, stated_type(of.assignment, owner))
        namespace["In"].append(cell.source)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(cell.source, cell.id, "exec"), namespace)
        except Exception as error:
            if is_test(cell):
                found[cell.id] = f"{type(error).__name__}: {error}"
        if is_test(cell) and callable(kept):
            namespace[owner] = kept
    return found


def draw(number, name=None):
    rng = random.Random(f"{SEED} mangled {number}")
    name = name or NAMES[number % len(NAMES)]
    of = desk(name)
    ids = [each.id for each in of.assignment.exercises]
    stubs = {cell.id: cell.source for cell in of.release.cells if cell.id in ids}
    notebook, ways = mangled(rng, written(name), stubs)
    return of, notebook, f"STLM_FUZZ_SEED={SEED}, number {number}, {name}: {', '.join(ways)}"


@pytest.mark.parametrize("number", range(N))
def test_a_mangled_submission_keeps_its_marks_or_is_told_which_cell_lost_them(number):
    of, notebook, told = draw(number)
    repaired = of.of_text(json.dumps(notebook))
    ids = [cell.id for cell in repaired.notebook.cells if not cell.id.startswith("added-")]
    assert ids == [cell.id for cell in of.source.cells], told
    for cell in repaired.notebook.cells:
        if is_test(cell):
            assert cell.source == next(each.source for each in of.source.cells if each.id == cell.id), told
    found = lost(of, repaired)
    named = [remark for remark in repaired.remarks if re.match(r"Cells? \d|The cell \w+ is missing", remark)]
    assert not found or named, f"{told}: {found}; {repaired.remarks}"
    if found and "STLM_FUZZ" in os.environ:
        print(told, found, repaired.remarks)


@pytest.fixture(scope="module")
def class_(tmp_path_factory):
    """Five manglings of one real assignment, handed in and graded by the command's own way."""
    needs_bubblewrap()
    tmp_path = tmp_path_factory.mktemp("class")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STLM_COURSE", str(tmp_path / "course"))
        class_ = Class(tmp_path, "", ["02"])
        for number in range(5):
            _, notebook, _ = draw(number, "02_building_the_decoder")
            (class_.folder / f"s{number}").mkdir()
            (class_.folder / f"s{number}" / "answer.ipynb").write_text(json.dumps(notebook))
        class_.reports = {each.name: each for each in grade(class_.folder, class_.course, say=lambda line: None)}
        yield class_


def test_a_handful_goes_the_whole_way(class_):
    for number in range(5):
        of, notebook, told = draw(number, "02_building_the_decoder")
        report = class_.reports[f"s{number}"]
        short = {name: mark.sentence for name, mark in report.marks.items() if mark.earned < mark.points}
        expected = lost(of, of.of_text(json.dumps(notebook)))
        assert report.problem == "" and set(short) <= set(expected), f"{told}: {short}; {report.remarks}"
