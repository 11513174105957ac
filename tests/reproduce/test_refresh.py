"""`stlm notebooks`: outputs stored in place, the same ones twice, nothing lost on a failure."""

import nbformat
import pytest

from stlm_kit.errors import KitError, UsageError
from stlm_kit.reproduce.refresh import refresh_notebooks, stored


def test_outputs_are_stored_and_do_not_change_again(course, runs):
    path = course.chapter("00_a", "import sys\nprint('steps', steps); 6 * 7", course.prose("## after"))
    untouched = course.chapter("01_b", "1")
    before = untouched.read_bytes()
    assert refresh_notebooks(["00"], course.folder) == 0
    first = path.read_bytes()
    notebook = nbformat.read(path, as_version=4)
    assert [output.output_type for output in notebook.cells[2].outputs] == ["stream", "execute_result"]
    assert len(notebook.cells) == 4  # no cell of parameters was put in
    assert refresh_notebooks(["00"], course.folder) == 0
    assert path.read_bytes() == first
    assert untouched.read_bytes() == before
    assert not runs.exists()
    for volatile in (b"papermill", b"duration", b"start_time", b"iopub", str(course.folder).encode()):
        assert volatile not in first


def test_a_failing_one_stays_as_it_was(course, capsys):
    bad, good = course.chapter("00_bad", "1/0"), course.chapter("01_good", "print(1)")
    before = bad.read_bytes()
    with pytest.raises(KitError, match="1 of 2 notebooks failed and stay as they were: 00_bad"):
        refresh_notebooks([], course.folder)
    assert bad.read_bytes() == before
    assert b'"1\\n"' in good.read_bytes()
    assert "failed in cell 3 (1/0): ZeroDivisionError" in capsys.readouterr().out


def test_unknown_chapters(course):
    course.chapter("00_a")
    with pytest.raises(UsageError, match="There is no chapter '07'"):
        refresh_notebooks(["07"], course.folder)


def test_widgets_without_a_kernel_are_not_stored(course):
    cell = course.code("widget")
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "VBox()"}
    cell.outputs = [nbformat.v4.new_output("display_data", view)]
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    kept = stored(notebook)
    assert "widgets" not in kept.metadata and kept.cells[0].outputs == []


def test_what_was_printed_is_one_piece_however_it_came(course):
    cell = course.code("print")
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in ("one\ntw", "o\n")]
    cell.outputs.insert(1, nbformat.v4.new_output("stream", name="stderr", text="aside\n"))
    cell.outputs.append(nbformat.v4.new_output("stream", name="stdout", text="three\n"))
    kept = stored(nbformat.v4.new_notebook(cells=[cell])).cells[0].outputs
    assert [output.text for output in kept] == ["one\ntw", "aside\n", "o\nthree\n"]
