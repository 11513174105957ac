"""`stlm ledger import`: a real run at the published size turns claims; what is not that run is refused and named."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from stlm_kit import cli, ledger
from stlm_kit.commands.reproduce import reproduce
from stlm_kit.errors import KitError
from stlm_kit.ledger import full_size, import_rows
from stlm_kit.ledger.full_size import imported_file, measured
from stlm_kit.ledger.import_rows import import_runs
from stlm_kit.ledger.survey import survey as take_survey
from stlm_kit.reproduce import study_file
from stlm_kit.reproduce.request import Request
from stlm_kit.reproduce.results import configuration_hash

# Claims of the real ledger, answered by a study small enough for a test.
ANSWERS = {
    "stlm.goal.48h": {"metric": "seconds", "divide_by": 3600},
    "stlm.data.words": {"metric": "tokens"},
    "stlm.config.gpu_hours": {"metric": "seconds", "divide_by": 3600, "device": "H100"},
    "stlm.t2.baseline.mmlu": {"metric": "mmlu"},
}
PARAMETERS = {"preset": "laptop-gpt2", "n_layers": 1, "context_length": 32, "batch_size": 4, "steps": 3, "window": 8}
PARAMETERS |= {"device": "cpu"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(study file, folder of its run): a study of ours at the published size, executed in a real kernel."""
    folder = tmp_path_factory.mktemp("made")
    corpus = folder / "a corpus.txt"
    corpus.write_text("\n\n".join(f"The {word} said number {i}." for i in range(40) for word in ("cat", "dog")))
    path = folder / "stlm.yaml"
    run = {"name": "base", "parameters": {**PARAMETERS, "corpus": str(corpus)}, "answers": ANSWERS}
    run["profiles"] = {"mig20": {}}
    about = {"source": "stlm", "title": "Ours", "citation": "nobody", "claims": [{"id": claim} for claim in ANSWERS]}
    path.write_text(yaml.safe_dump({**about, "runs": [run]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STLM_RUNS", str(folder / "runs"))
        patch.setenv("STLM_CACHE", str(folder / "cache"))
        patch.setenv("STLM_ALLOW_CPU", "1")
        [end] = reproduce(Request([str(path)], profile="mig20"), figures=folder / "figures")
        return path, end.run.folder  # it depends on STLM_RUNS


@pytest.fixture
def mine(made, tmp_path, monkeypatch):
    """A copy of the full-size run's folder as if it were the kit's own study's, and what it was asked to be stood
    there."""
    path, folder = made
    asked = Path(shutil.copy(path, tmp_path / "asked.yaml"))
    for module in (full_size, import_rows):
        monkeypatch.setattr(module, "load_study", lambda name: study_file.load_study(asked))
    copied = shutil.copytree(folder, tmp_path / "copied" / "base-1")
    assert json.loads((copied / "run.json").read_text())["study"] == "my-stlm"  # no hash holds it
    change(copied / "run.json", study="stlm")
    return copied


def change(path, **changes):
    """Set fields of a JSON file, one named a__b inside a; None takes a field away."""
    content = json.loads(path.read_text())
    for name, value in changes.items():
        *outer, last = name.split("__")
        place = content
        for key in outer:
            place = place[key]
        place[last] = value
    path.write_text(json.dumps(content))


def with_parameter(folder, name, value):
    """The folder as if the run had been started with `-p name=value`."""
    record = json.loads((folder / "run.json").read_text())
    record["parameters"]["settings"][name] = record["identity"]["parameters"]["settings"][name] = value
    record["identity"]["contents"].pop(name, None)
    record["hash"] = configuration_hash(record["identity"])
    (folder / "run.json").write_text(json.dumps(record))
    config = json.loads((folder / "config.json").read_text())
    part = "training" if name in config["training"] else "run"
    change(folder / "config.json", **{f"{part}__{name}": value})


def verdicts():
    """Those of the claims that only a run answers; the rows of a GPU's benchmark answer the hours already."""
    waiting = set(ANSWERS) - {"stlm.config.gpu_hours"}
    return {row["id"]: row["verdict"] for row in ledger.rows("stlm") if row["id"] in waiting}


def test_a_run_turns_the_claims_it_answers(mine, runs, capsys):
    assert set(verdicts().values()) == {"needs_gpu"}
    assert cli.main(["ledger", "import", str(mine), "--dry-run"]) == 0
    assert "would be imported" in capsys.readouterr().out and not runs.exists()
    assert cli.main(["ledger", "import", str(mine)]) == 0
    said = capsys.readouterr().out
    assert "stlm.goal.48h: published at most 48 hours, found 0 hours: measured" in said
    assert "stlm.config.gpu_hours: not answered: it holds on H100, and this run had cpu" in said
    assert "stlm.t2.baseline.mmlu: not answered: the run measured no 'mmlu'" in said
    found = {row["id"]: row for row in ledger.rows("stlm")}
    assert found["stlm.goal.48h"]["verdict"] == "measured" and found["stlm.data.words"]["verdict"] == "contradicted"
    assert found["stlm.data.words"]["found"] == json.loads((mine / "row.json").read_text())["tokens"]
    date = json.loads((mine / "run.json").read_text())["ended"][:10]
    assert f"seed 0, on cpu, {date}" in found["stlm.goal.48h"]["how"]
    assert found["stlm.t2.baseline.mmlu"]["verdict"] == "needs_gpu"
    assert ledger.latest_answers()["stlm.goal.48h"]["found"] == found["stlm.goal.48h"]["found"]


def test_a_run_imported_twice_changes_nothing(mine, capsys):
    import_runs(mine)
    before = imported_file("stlm").read_bytes()
    assert cli.main(["ledger", "import", str(mine)]) == 0
    assert "known already" in capsys.readouterr().out
    assert imported_file("stlm").read_bytes() == before


@pytest.mark.parametrize(
    ("file", "changes", "sentence"),
    [
        ("run.json", {"profile": "laptop"}, "laptop's row never answers a full-scale claim"),
        ("run.json", {"study": "chapters"}, "a chapter's run"),
        ("run.json", {"status": "interrupted"}, "not finished"),
        ("run.json", {"status": "out_of_memory"}, "out of memory"),
        ("run.json", {"parameters__settings__steps": 4}, "run.json was changed"),
        ("run.json", {"identity__parameters__settings__steps": 4}, "run.json was changed"),
        ("run.json", {"name": "bas"}, "no run 'bas'. Did you mean 'base'"),
        ("run.json", {"ended": None}, "date"),
        ("config.json", {"training__steps": 4}, "its steps is 3 in run.json and 4 in config.json"),
        ("config.json", {"training__beta_2": 0.9}, "its beta_2 is 0.9, and the study asks for 0.95"),
        ("config.json", {"run__eval_documents": 2}, "its eval_documents is 2, and the study asks for None"),
        ("config.json", {"run__overrides__window": 9}, "decoder has window = 8, and the preset 'laptop-gpt2' says 9"),
        ("config.json", {"model__d_ff": 4}, "its decoder has d_ff = 4"),
        ("config.json", {"made_by__rooms": "0"}, "other code"),
        ("row.json", {"perplexity": 1.5}, "its perplexity is 1.5 in row.json"),
        ("row.json", {"tokens": 1}, "its tokens is 1 in row.json"),
    ],
)
def test_a_folder_that_is_not_that_run_is_refused(mine, runs, capsys, file, changes, sentence):
    change(mine / file, **changes)
    assert cli.main(["ledger", "import", str(mine)]) == 1
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and not said.out
    assert not imported_file("stlm").exists()


@pytest.mark.parametrize("name", ["config.json", "result.json", "row.json"])
def test_a_folder_that_lacks_a_file_is_refused(mine, name):
    (mine / name).unlink()
    with pytest.raises(KitError, match=f"no {name}"):
        raise KitError(import_runs(mine)[0].refusal)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("steps", 4, "its steps is 4, and the study asks for 3"),
        ("preset", "laptop-llama", "decoder has"),
        ("recipe", "bf16", "its recipe is 'bf16', and the study asks for 'fp32'"),
        ("corpus", "sotu", "its corpus is 'sotu', and the study asks for"),
        ("seed", 7, ""),
        ("checkpoint_every", 50, ""),
    ],
)
def test_another_configuration_is_refused_and_another_seed_is_not(mine, name, value, sentence):
    with_parameter(mine, name, value)
    [done] = import_runs(mine)
    assert sentence in done.refusal and bool(sentence) == bool(done.refusal)


def test_of_a_folder_with_many_each_is_looked_at(mine, capsys):
    runs = mine.parent
    change(shutil.copytree(mine, runs / "base-2") / "run.json", profile="laptop")
    assert cli.main(["ledger", "import", str(runs)]) == 1
    said = capsys.readouterr()
    assert "base-2: not imported: it ran at the profile laptop" in said.out and ": imported" in said.out
    assert "1 of 2 runs were not imported" in said.err
    assert len(imported_file("stlm").read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_no_run_at_all(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(KitError, match="no folder" if name == "missing" else "no run"):
        import_runs(tmp_path / name)


def test_two_rows_that_disagree_are_told(mine, capsys):
    import_runs(mine)
    with_parameter(mine, "seed", 1)
    for name in ("row.json", "result.json"):
        change(mine / name, seconds=1e6)
    import_runs(mine)
    assert cli.main(["ledger", "--source", "stlm", "--verdict", "contradicted", "--json"]) == 0
    said = capsys.readouterr()
    assert "Two answers to stlm.goal.48h disagree: measured by the run base-" in said.err
    assert "stlm.goal.48h" in {row["id"] for row in json.loads(said.out)}  # the later one counts


def test_a_run_of_ones_own_study_answers_nothing(made):
    _, folder = made
    [refused] = import_runs(folder)
    assert "my-stlm is a study of your own, and its runs answer no published claim" in refused.refusal


def test_a_row_answers_only_while_the_study_asks_for_it(mine, tmp_path):
    import_runs(mine)
    path = tmp_path / "asked.yaml"
    path.write_text(path.read_text().replace("steps: 3", "steps: 5"))
    survey = take_survey("stlm")
    assert any("its steps is 3, and the study asks for 5" in sentence for sentence in survey.warnings)
    assert set(verdicts().values()) == {"needs_gpu"}


def test_a_laptop_row_among_the_imported_answers_nothing(mine):
    import_runs(mine)
    path = imported_file("stlm")
    row = json.loads(path.read_text())
    row["profile"] = "laptop"
    path.write_text(json.dumps(row) + "\n")
    assert measured().answers == {}


def test_a_damaged_line_is_named_with_its_file(mine, capsys):
    import_runs(mine)
    path = imported_file("stlm")
    path.write_text(path.read_text() + path.read_text().replace('"steps": 3', '"steps": 9'))
    assert cli.main(["ledger"]) == 1
    said = capsys.readouterr().err
    assert f"Line 2 of {path} is no result row" in said and said.count("\n") == 1
