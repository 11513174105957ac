"""Runs and rows of other code: kept where today's code computes the same, named where it does not."""

import json
import shutil
from pathlib import Path

import pytest

import stlm_kit
from stlm_kit.cli import main
from stlm_kit.commands.reproduce import reproduce
from stlm_kit.errors import UsageError
from stlm_kit.reproduce import recheck, recheck_rows, results, run_hash
from stlm_kit.reproduce.recheck import Checked, recheck_runs
from stlm_kit.reproduce.request import Request, plan
from stlm_kit.reproduce.rows import collect
from stlm_kit.reproduce.runner import execute_runs
from stlm_kit.studies.memory import predictions
from stlm_kit.training.settings import TrainingSettings

OTHER = "f" * 64
STUDY = """
source: mine
title: Mine
citation: nobody
runs:
- name: "{technique}-b{batch_size}"
  grid: {technique: {plain: {}, window-4: {window: 4}}, batch_size: [2, 4]}
  parameters: {preset: laptop-gpt2, n_layers: 1, steps: 5, context_length: 16, device: cpu}
  profiles: {laptop: {}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(request, folder of runs): three runs of two kinds."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "verses.txt").write_text("\n\n".join(f"Verse {n}: the fox number {n} jumps." for n in range(60)))
    (folder / "mine.yaml").write_text(STUDY)
    request = Request([str(folder / "mine.yaml")], parameters={"corpus": str(folder / "verses.txt")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STLM_RUNS", str(folder / "runs"))
        patch.setenv("STLM_CACHE", str(folder / "cache"))
        ended = execute_runs([run for run in plan(request) if run.name != "window-4-b4"])
        assert [end.status for end in ended] == ["done"] * 3
    return request, folder / "runs"


@pytest.fixture
def later(made, runs, monkeypatch):
    """The request, and a copy of its runs, in a kit whose rooms have changed."""
    request, folder = made
    shutil.copytree(folder, runs)
    monkeypatch.setattr(run_hash, "rooms_hash", lambda: OTHER)
    return request


def arguments(request, *more):
    [(name, value)] = request.parameters.items()
    return ["reproduce", *request.names, "-p", f"{name}={value}", *more]


def states(request):
    return [run.state() for run in plan(request)]


def test_a_run_of_other_rooms_is_to_be_checked_and_kept(later, runs, capsys):
    before = {run.name: run.kept.name for run in plan(later)}
    assert main(arguments(later, "--list")) == 0
    assert capsys.readouterr().out.count("to be checked") == 3
    assert main(arguments(later, "--recheck")) == 0
    said = capsys.readouterr().out
    assert "plain-b2, plain-b4" in said and said.count("holds:") == 2
    assert states(later) == ["done", "done", "done", "missing"]
    for run in plan(later)[:3]:
        assert run.record["hash"] == run.hash and run.record["identity"]["source"] == OTHER
        assert before[run.name] == f"{run.name}-{run.record['checked']['was']}"
        config = json.loads((run.folder / "config.json").read_text())
        assert run.record["checked"]["trained_by"] == config["made_by"]["rooms"]
        assert not (runs / "mine" / before[run.name]).exists()
    assert {row["source"] for row in collect("mine")} == {OTHER}
    for row in collect("mine"):
        results.ResultRow.model_validate(json.loads(json.dumps(row)))
    assert main(arguments(later, "--recheck")) == 0
    assert "Nothing is to be checked" in capsys.readouterr().out


def test_two_that_check_at_once_move_a_run_once(later):
    run = plan(later)[0]
    recheck.move(run)
    weights = run.folder / "checkpoint" / "latest"
    assert weights.is_file()
    recheck.move(run)  # the other one, which had found it to be checked as well
    assert weights.is_file() and run.state() == "done"


def test_another_number_makes_its_kind_stale(later, monkeypatch, capsys):
    monkeypatch.setattr(TrainingSettings, "learning_rate_at", lambda self, step: 2 * self.learning_rate)
    assert main(arguments(later, "--recheck")) == 1
    said = capsys.readouterr().out
    assert said.count("stale: in") == 3 and "the loss of step 2 is" in said
    assert states(later) == ["stale", "stale", "stale", "missing"]
    monkeypatch.setattr(run_hash, "rooms_hash", lambda: "e" * 64)  # other code again, which may compute it after all
    assert states(later)[0] == "to be checked"


def test_one_kind_may_hold_and_another_not(later, capsys):
    path = plan(later)[2].kept / "metrics.jsonl"
    first, *rest = path.read_text().splitlines()
    row = json.loads(first)
    path.write_text("\n".join([json.dumps({**row, "loss": row["loss"] * (1 + 1e-4)}), *rest]) + "\n")
    assert [str(check.verdict) for check in recheck_runs(plan(later))] == ["holds", "stale"]
    assert states(later) == ["done", "done", "stale", "missing"]


def test_a_run_that_differs_otherwise_is_stale(later, monkeypatch):
    monkeypatch.setattr(run_hash, "versions", lambda: {"torch": "9"})
    assert states(later) == ["stale", "stale", "stale", "missing"]
    assert list(recheck_runs(plan(later))) == []


def test_a_chapter_is_left_to_be_run_anew(course, tmp_path, monkeypatch):
    course.chapter("00_a", "1")
    request = Request(notebooks=course.folder)
    reproduce(request, figures=tmp_path / "figures")
    monkeypatch.setattr(run_hash, "rooms_hash", lambda: OTHER)
    assert states(request) == ["to be checked"]
    [checked] = recheck_runs(plan(request))
    assert checked.verdict == "left" and "`stlm reproduce 00` runs it anew" in checked.sentence


def test_the_first_losses_are_those_of_the_whole_run(made):
    request, folder = made
    from stlm_kit.options import settings_from

    run = plan(request)[0]
    kept = [json.loads(line)["loss"] for line in (folder / "mine").glob("plain-b2*/metrics.jsonl").__next__().open()]
    assert recheck.first_losses(settings_from(run.parameters["settings"])) == kept[:3]


# --- rows ---

TINY = {"n_layers": 1, "d_model": 16, "n_heads": 2, "n_kv_heads": 1, "d_ff": 16}
SETTINGS = {"corpus": "polish", "tokenizer": "bytes", "steps": 4, "batch_size": 2, "context_length": 8}
SETTINGS |= {"overrides": TINY, "eval_documents": 1, "preset": "laptop-gpt2"}


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A file of two rows of one kind, and the function that changes them and checks them."""
    monkeypatch.setattr(results, "project_dir", lambda: tmp_path)
    for seed in (0, 1):
        results.record("mine", "tiny", **SETTINGS, seed=seed)
    path = tmp_path / "data" / "results" / "mine.jsonl"

    def check(change=lambda row: row) -> tuple[list[Checked], list[dict]]:
        written = [change({**row, "source": OTHER}) for row in results.read_rows(path)]
        path.write_text("".join(json.dumps(row) + "\n" for row in written))
        return list(recheck_rows.recheck_rows(["mine"], None, predictions.recheck)), results.read_rows(path)

    return check, results.read_rows(path)


def old(row):
    """As a row was before it kept its first losses."""
    return {**row, "metrics": {name: value for name, value in row["metrics"].items() if name != "first_losses"}}


def test_rows_that_hold_get_todays_source_and_nothing_else(rows):
    check, before = rows
    assert len(before[0]["metrics"]["first_losses"]) == 3
    [checked], found = check()
    assert checked.verdict == "holds" and found == before
    [checked], found = check(old)
    assert checked.verdict == "holds" and found == [old(row) for row in before]
    assert list(recheck_rows.recheck_rows(["mine"], None, predictions.recheck)) == []


def test_rows_that_do_not_hold_are_named(rows, capsys):
    check, _ = rows

    def off(row):
        return {**old(row), "metrics": {**old(row)["metrics"], "loss": row["metrics"]["loss"] * (1 + 1e-4)}}

    found, _ = check(off)
    assert [checked.verdict for checked in found] == ["stale", "stale"] and "the loss of the last step" in str(found[0])
    assert main(["reproduce", "--recheck", "--rows", "mine"]) == 1
    assert "tiny (seed 1)" in capsys.readouterr().out


def test_a_row_of_another_processor_is_left_until_the_older_kit_has_spoken(rows, tmp_path, monkeypatch):
    check, before = rows

    def elsewhere(row):
        off = {**old(row)["metrics"], "loss": row["metrics"]["loss"] * (1 + 1e-4)}
        return {**row, "metrics": off, "machine": {**row["machine"], "processor": "abacus"}}

    [checked], _ = check(elsewhere)
    assert checked.verdict == "left" and "since abacus made it" in checked.sentence
    house = tmp_path / "house"
    package = Path(stlm_kit.__file__).parent
    shutil.copytree(package, house / "stlm_kit")
    shutil.copytree(package.parent / "data", house / "data")
    [checked] = recheck_rows.recheck_rows(["mine"], house, predictions.recheck)
    assert checked.verdict == "holds", checked.sentence
    assert [row["source"] for row in results.recorded("mine")] == [row["source"] for row in before]
    schedules = house / "stlm_kit" / "training" / "schedules.py"
    schedules.write_text(schedules.read_text().replace("math.cos", "math.sin"))
    path = results.rows_file("mine")
    path.write_text("".join(json.dumps({**row, "source": OTHER}) + "\n" for row in results.read_rows(path)))
    assert {checked.verdict for checked in recheck_rows.recheck_rows(["mine"], house, predictions.recheck)} == {"stale"}
    with pytest.raises(UsageError, match="no stlm_kit in"):
        list(recheck_rows.recheck_rows(["mine"], tmp_path, predictions.recheck))


def test_rows_of_other_versions_are_stale(rows):
    found, _ = rows[0](lambda row: {**row, "versions": {**row["versions"], "torch": "1.0"}})
    assert [checked.verdict for checked in found] == ["stale", "stale"] and "torch 1.0" in found[0].sentence


def test_a_row_gets_its_labels_and_its_hash(monkeypatch):
    row = next(row for row in results.recorded("memory") if row["name"] == "window-16-b8")
    bare = {name: value for name, value in row.items() if name != "labels"}
    found = recheck_rows._stamped(bare, OTHER)
    assert found["labels"] == {"technique": "window-16", "batch_size": 8}
    assert found["hash"] != row["hash"] and found["hash"] == results.row_hash(found)
    assert {name: found[name] for name in bare if name not in ("hash", "source")} == {
        name: bare[name] for name in bare if name not in ("hash", "source")
    }
    results.ResultRow.model_validate(found)


def test_what_cannot_be_asked(capsys):
    assert main(["reproduce", "--against", "."]) == 2
    assert "give --recheck --rows" in capsys.readouterr().err
    assert main(["reproduce", "--rows"]) == 2
    assert "give --recheck as well" in capsys.readouterr().err
    with pytest.raises(UsageError, match="Did you mean 'memory'"):
        list(recheck_rows.recheck_rows(["memroy"], None, predictions.recheck))
