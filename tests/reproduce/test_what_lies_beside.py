"""What papermill or a neighbour has to say disturbs no run: damaged notebooks beside it, annotated parameters."""

from stlm_kit.cli import main
from stlm_kit.reproduce import parameters
from stlm_kit.reproduce.request import Request, plan
from stlm_kit.reproduce.run_record import WRITTEN, begin


def test_a_damaged_notebook_beside_the_wanted_one_is_named_and_the_run_goes_on(course, tmp_path, capsys):
    course.chapter("01_whole", "print(6 * 7)")
    (course.folder / "02_damaged.ipynb").write_text('{"cells": [')
    command = ["reproduce", "01", "--notebooks", str(course.folder), "--figures", str(tmp_path / "figures")]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "01_whole" in said.out and "leaves out 02_damaged" in said.err and said.err.count("\n") == 1
    assert "42" in (tmp_path / "figures" / "report.html").read_text() or "01" in said.out
    assert main(["reproduce", "02", *command[2:]]) == 1  # the one that was asked for


def test_an_annotated_parameter_is_set_without_a_word_of_papermills(course, tmp_path, capfd):
    path = course.chapter("01_annotated", "print(seed, prompt)")
    text = path.read_text()
    told = 'from typing import Literal\\nprofile: Literal[\\"laptop\\", \\"mig20\\"] = \\"laptop\\"\\nprompt = \\"\\"'
    path.write_text(text.replace('profile = \\"laptop\\"  # how much', told))
    command = ["reproduce", "01", "--notebooks", str(course.folder), "--figures", str(tmp_path / "figures")]
    assert main([*command, "-p", "prompt=  two blanks "]) == 0
    said = capfd.readouterr()
    assert "unknown parameter" not in said.err + said.out
    executed = next((tmp_path / "the runs" / "chapters").glob("*/01_annotated.ipynb")).read_text()
    assert "0   two blanks " in executed


def test_values_keep_their_blanks_and_numbers_need_none():
    assert parameters.check({"prompt": "  x ", "seed": " 3 "}) == {"prompt": "  x ", "seed": 3}


def test_what_a_killed_writer_left_half_written_goes_when_the_run_begins_again(course):
    course.chapter("01_whole", "print(6 * 7)")
    [run] = plan(Request(notebooks=course.folder))
    begin(run)
    halves = [run.folder / f"{name}.part-0123456789ab" for name in WRITTEN]
    for half in halves:
        half.write_text("{")
    begin(run)
    assert not any(half.exists() for half in halves) and run.record["status"] == "running"
