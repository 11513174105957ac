"""The student's desk, in a kernel as students have it: the verdict on an answer, and what it costs."""

import subprocess
import sys

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from stlm_kit.course import desk
from stlm_kit.course.assignment import cell_id
from stlm_kit.errors import UsageError


def run(made_up, **answers):
    """Execute the made-up notebook up to its public checks; the text that each printed, by cell."""
    shown = ("setup", "double", "double-check", "tail", "tail-check")
    notebook = nbformat.v4.new_notebook(cells=[cell for cell in made_up.notebook.cells if cell.id in shown])
    for cell in notebook.cells:
        cell.source = answers.get(cell.id.replace("-", "_"), cell.source)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return {cell_id(cell): "".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells}


def test_a_fair_answer_sees_lines_verdict_and_cost(made_up):
    printed = run(made_up)
    assert printed["double-check"] == "lines: 2 of about 2 · nothing forbidden · cost: 0 parameters\n"
    assert printed["tail-check"] == "lines: 2 of about 1 · nothing forbidden\n"


def test_a_forbidden_use_is_an_assertion_with_the_sentence(made_up):
    code = "helper = torch.mul\n\ndef double(x):\n    return helper(x, 2) + 1"
    with pytest.raises(CellExecutionError, match=r"double uses mul, which this exercise forbids\. Build it") as caught:
        run(made_up, double=code)
    assert caught.value.ename == "AssertionError"


@pytest.fixture
def enter(folder):
    """Runs a cell in one notebook's namespace, as a kernel would; quicker than a kernel."""
    namespace = {"In": [""], "desk": desk}

    def run(source):
        namespace["In"].append(source)
        exec(source, namespace)

    return run


def test_what_only_a_check_defines_is_not_the_students(enter):
    """It would run here, and not where the answer is marked."""
    enter("def double(x):\n    return 2 * x + offset")
    enter("# Mark: every number is doubled.\noffset = 1")
    with pytest.raises(AssertionError, match="double uses offset, which none of your cells defines"):
        enter("offset = 1\nassert double(1) == 3\ndesk.report(double)")
    enter("offset = 1")
    enter("desk.report(double)")


def test_what_was_mended_is_forgiven(enter):
    """The first try calls the ready-made; the second, in the same notebook, does not."""
    enter("import torch\n\ndef double(x):\n    return torch.mul(x, 2)")
    with pytest.raises(AssertionError, match="double uses mul"):
        enter("desk.report(double)")
    enter("def double(x):\n    return 2 * x")
    enter("desk.report(double)")


def test_a_function_of_no_exercise_is_one_sentence(folder):
    def duoble(x):
        return x

    with pytest.raises(UsageError, match="'duoble' is no exercise's function"):
        desk.report(duoble)


def test_costs():
    layer = torch.nn.Linear(32, 31)
    layer.twice = layer.weight
    assert desk.cost_parameters(layer) == "1,023 parameters" and desk.cost_parameters(1024) == "1,024 parameters"
    assert desk.cost_flops(torch.matmul, torch.ones(2, 3), torch.ones(3, 5)) == "60 FLOPs"
    assert desk.cost_flops(lambda: torch.ones(3).sum()) == "0 FLOPs"


def test_a_students_kernel_does_not_wait_for_what_reads_notebooks():
    script = (
        "import sys; from stlm_kit.course import desk; print(sorted({'nbformat', 'nbgrader'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"
