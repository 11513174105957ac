"""Runs that need another run of their study: planned before it, executed after it, and identified by its weights."""

import json

import nbformat
import papermill
import pytest

from stlm_kit.cli import main
from stlm_kit.commands.reproduce import reproduce
from stlm_kit.errors import KitError, UsageError
from stlm_kit.notebook_files import notebooks_dir
from stlm_kit.reproduce.cost import work_of
from stlm_kit.reproduce.recheck_rows import configuration
from stlm_kit.reproduce.request import Request, plan
from stlm_kit.reproduce.results import ResultRow
from stlm_kit.reproduce.study_runs import differs_in

STUDY = """
source: chain
title: A chain
citation: nobody
runs:
- name: "{run}"
  grid:
    run:
      taught: {teacher: "run:teacher", alpha: 0.5, beta: 0.5, hidden_layers: [[1, 2]]}
      started: {init_from: "run:taught"}
      teacher: {d_model: 32, n_layers: 2}
  parameters: {preset: laptop-llama, n_layers: 1, d_model: 16, n_heads: 2, n_kv_heads: 1, d_ff: 16, context_length: 16,
    tokenizer: bytes, corpus: verses.txt, steps: 2, batch_size: 2, device: cpu}
  profiles: {laptop: {}}
"""


@pytest.fixture
def chain(tmp_path, monkeypatch):
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "verses.txt").write_text("\n\n".join(f"Verse {n}: the fox number {n} jumps." for n in range(60)))
    (tmp_path / "chain.yaml").write_text(STUDY)
    return tmp_path / "chain.yaml"


def runs_of(file, **parameters):
    return {run.name: run for run in plan(Request([str(file)], parameters=parameters))}


def test_what_is_needed_runs_first_and_once(chain, capsys):
    before = runs_of(chain)
    assert work_of(before["taught"]).teacher.d_model == 32  # planned before there is a teacher
    assert work_of(before["taught"]).memory().peak_allocated_mib > 0
    with pytest.raises(KitError, match="teacher is needed first"):
        _ = before["taught"].settings
    ended = reproduce(Request([str(chain)], only="started"), report=False)
    assert [str(end.sentence)[:4] for end in ended] == ["done"]
    said = capsys.readouterr().out
    assert said.index("teacher  ") < said.index("taught  ") < said.index("started  ")
    after = runs_of(chain)
    assert all(run.finished for run in after.values())
    assert after["taught"].hash != before["teacher"].hash and before["taught"].hash == after["taught"].hash
    rows = {row["name"]: row for row in map(json.loads, (after["taught"].folder.parent / "rows.jsonl").open())}
    for row in rows.values():
        ResultRow.model_validate(row)
        assert differs_in(row["configuration"], {**after[row["name"]].parameters["settings"]}, "laptop") == ""
    assert rows["taught"]["configuration"]["teacher"] == "run:teacher"
    assert rows["taught"]["asked"]["contents"].keys() == {"corpus", "teacher"}
    assert rows["started"]["configuration"]["init_from"] == "run:taught"
    assert str(chain.parent) not in json.dumps({**rows["taught"]["configuration"], "corpus": ""})


def test_another_teacher_is_another_student(chain):
    reproduce(Request([str(chain)], only="taught"), report=False)
    first = runs_of(chain)["taught"]
    chain.write_text(STUDY.replace("n_layers: 2}", "n_layers: 2, seed: 5}"))
    second = runs_of(chain)["taught"]
    assert first.finished and not second.finished and second.hash != first.hash
    assert second.state() == "stale"


def test_who_needs_whom_is_checked(chain):
    chain.write_text(STUDY.replace("run:taught", "run:taugth"))
    with pytest.raises(UsageError, match=r"no such run at the profile laptop\. Did you mean 'taught'"):
        runs_of(chain)
    chain.write_text(STUDY.replace("{d_model: 32", '{init_from: "run:started", d_model: 32'))
    with pytest.raises(UsageError, match="needs itself"):
        runs_of(chain)


def test_a_need_that_fails_is_named(chain, capsys):
    chain.write_text(STUDY.replace("{d_model: 32", "{init_from: nowhere, d_model: 32"))
    assert main(["reproduce", str(chain), "--only", "taught", "--no-report"]) == 1
    assert "taught" in (said := capsys.readouterr().out) and "it needs teacher, which is not done" in said


def test_papermill_alone_says_what_to_run_first(chain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, given = notebooks_dir() / "run.ipynb", {"study": str(chain), "run_name": "taught"}
    with pytest.raises(papermill.PapermillExecutionError, match="teacher is needed first"):
        papermill.execute_notebook(source, tmp_path / "out.ipynb", given, kernel_name="python3", progress_bar=False)
    reproduce(Request([str(chain)], only="teacher"), report=False)
    papermill.execute_notebook(source, tmp_path / "out.ipynb", given, kernel_name="python3", progress_bar=False)
    nbformat.validate(nbformat.read(tmp_path / "out.ipynb", 4))
    assert runs_of(chain)["taught"].finished


def test_a_row_is_trained_again_with_the_teacher_that_is_here(chain, monkeypatch):
    monkeypatch.setattr(
        "stlm_kit.reproduce.recheck_rows.Request", lambda names, profile: Request([str(chain)], profile)
    )
    row = {"study": "chain", "name": "taught", "profile": "laptop", "configuration": {"teacher": "run:teacher"}}
    with pytest.raises(KitError, match="teacher is needed first"):
        configuration(row)
    reproduce(Request([str(chain)], only="teacher"), report=False)
    assert configuration(row)["teacher"] == str(runs_of(chain)["teacher"].folder)
