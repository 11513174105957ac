"""`stlm results`: on the laptop grid, on recorded rows, on a study of one's own, and its forms."""

import csv
import io
import json
import re

import pytest
import yaml

from stlm_kit.cli import main
from stlm_kit.reproduce import results
from stlm_kit.reproduce.results import configuration_hash, write_rows
from stlm_kit.reproduce.study_file import load_study
from stlm_kit.reproduce.study_runs import run_parameters

RATES = (0.001, 0.003)


@pytest.fixture
def study(tmp_path):
    """A study file of one's own: two learning rates."""
    path = tmp_path / "rates.yaml"
    grid = {
        "name": "lr-{learning_rate}",
        "grid": {"learning_rate": list(RATES)},
        "parameters": {"corpus": "sotu", "steps": 3},
        "profiles": {"laptop": {}},
    }
    about = {"source": "rates", "title": "Rates", "citation": "nobody, 2026", "claims": []}
    path.write_text(yaml.safe_dump({**about, "runs": [grid]}))
    return path


def row(study, name, seed=0, status="done", score=2.0, **changes):
    """A result row as the runner writes it, of a run that nobody made."""
    loaded = load_study(study)
    cell = loaded.cells("laptop")[name]
    given = run_parameters(cell.parameters, "laptop", {"seed": seed, **changes})
    from stlm_kit.options import settings_from

    asked = {"notebook": "1" * 64, "parameters": given, "contents": {}}
    made = {
        "study": loaded.name,
        "name": name,
        "profile": "laptop",
        "status": status,
        "labels": cell.labels,
        "seed": seed,
        "asked": asked,
    }
    made |= {"configuration": settings_from(given["settings"]).model_dump(mode="json"), "source": "2" * 64}
    made |= {"versions": {"torch": "2"}, "device": "cpu", "machine": {"processor": "one"}}
    made |= {"date": f"2026-01-0{1 + seed}T00:00:00+00:00"}
    made |= {"metrics": {"bits_per_byte": score, "perplexity": 2**score} if status == "done" else {}}
    made["hash"] = configuration_hash({"source": made["source"], **asked, "versions": made["versions"]})
    results.ResultRow.model_validate(made)
    return made


@pytest.fixture
def rows(study, runs):
    """Two rates by three seeds, of the slower rate one seed without memory; one run with other steps."""
    low = [row(study, "lr-0.001", seed, score=2.0 + seed / 10) for seed in range(3)]
    high = [row(study, "lr-0.003", seed, score=1.9 + seed / 10) for seed in range(2)]
    lost = [row(study, "lr-0.003", 2, "out_of_memory")]
    other = [row(study, "lr-0.001", steps=4)]
    folder = runs / load_study(study).name
    folder.mkdir(parents=True)
    write_rows(folder / "rows.jsonl", [*low, *high, *lost, *other])
    return folder / "rows.jsonl"


def test_the_committed_laptop_grid(capsys):
    assert main(["results", "memory"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert re.split(r"\s\s+", shown[0]) == ["technique", "batch_size", "n", "bits_per_byte ± 95 %", "perplexity ± 95 %"]
    known = {recorded["name"]: recorded for recorded in results.recorded("memory") if recorded.get("profile")}
    assert len([line for line in shown if line.startswith(("fp32", "bf16", "flash", "window", "checkpoint"))]) == 18
    score = known["fp32-b8"]["metrics"]["bits_per_byte"]
    assert shown[2].split() == ["fp32", "8", "1", f"{score:.3f}", f"{known['fp32-b8']['metrics']['perplexity']:,.0f}"]
    assert "A mean of one run has no interval." in shown
    assert any("20 rows left out (20 no run of its grid)" in line for line in shown)


def test_recorded_rows_without_a_study_file(capsys):
    assert main(["results", "chapter-03", "--by", "learning_rate", "--json"]) == 0
    shown = capsys.readouterr()
    (score, perplexity) = json.loads(shown.out)
    assert (score["learning_rate"], score["n"], perplexity["metric"]) == (0.005, 50, "perplexity")
    assert "differ in steps, warmup_steps, schedule" in shown.err


def test_a_study_of_ones_own(study, rows, capsys):
    assert main(["results", str(study), "--against", "0.001"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[:3] for line in shown.splitlines()[1:3]] == [["0.001", "3", "2.10"], ["0.003", "2", "1.95"]]
    assert "Out of memory, in no mean: 0.003 (1)." in shown
    assert "0.003 against 0.001: without a partner and left out: seed 2." in shown
    assert "1 row left out (1 with another steps); --all takes them in." in shown
    assert "missing" not in shown
    assert main(["results", str(study), "--all", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    found = {(each["learning_rate"], each["steps"], each["n"]) for each in both}
    assert found == {(0.001, 3, 3), (0.001, 4, 1), (0.003, 3, 2)}


def test_runs_that_were_given_parameters_are_asked_for_by_them(study, rows, capsys):
    assert main(["results", str(study), "-p", "steps=4", "--metric", "bits_per_byte", "--json"]) == 0
    shown = capsys.readouterr()
    assert [(each["name"], each["n"]) for each in json.loads(shown.out)] == [("lr-0.001", 1)]
    assert "missing 1 of 2 runs: lr-0.003; `stlm reproduce" in shown.err and "-p steps=4`" in shown.err
    assert "6 rows left out (6 with another steps)" in shown.err


def test_missing_and_failed_runs_are_named(study, runs, capsys):
    name = load_study(study).name
    failed = {"study": name, "name": "lr-0.003", "status": "failed", "profile": "laptop", "sentence": "It broke."}
    (runs / name / "lr-0.003-abc").mkdir(parents=True)
    (runs / name / "lr-0.003-abc" / "run.json").write_text(json.dumps(failed))
    assert main(["results", str(study)]) == 1
    assert "1 of 2 runs of rates failed and none is done; lr-0.003: It broke." in capsys.readouterr().err
    write_rows(runs / name / "rows.jsonl", [row(study, "lr-0.001")])
    assert main(["results", str(study)]) == 0
    assert "missing 1 of 2 runs: lr-0.003 (failed); `stlm reproduce" in capsys.readouterr().out


def test_one_run_in_two_places_counts_once(study, rows, runs, capsys):
    (runs / "imported").mkdir()
    (runs / "imported" / "rates.jsonl").write_text(rows.read_text())
    assert main(["results", str(study), "--csv", "--metric", "bits_per_byte"]) == 0
    shown = capsys.readouterr()
    assert [line["n"] for line in csv.DictReader(io.StringIO(shown.out, newline=""))] == ["3", "2"]
    assert "made again" not in shown.err


def test_files_and_studies_side_by_side(study, rows, tmp_path, capsys):
    (tmp_path / "theirs.jsonl").write_text(rows.read_text())
    names = [str(study), str(tmp_path / "theirs.jsonl")]
    assert main(["results", *names, "--metric", "bits_per_byte", "--json", "--against", "from=rates"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["from"] for each in found} == {"rates", names[1]}
    paired = [each for each in found if each["from"] != "rates" and each["pairs"]]
    assert [(each["against"], each["pairs"], each["difference"]) for each in paired] == [
        ("rates, 0.001, 3", 3, 0.0),
        ("rates, 0.003, 3", 2, 0.0),
    ]


def test_names_under_which_runs_lie_need_no_study_file(rows, capsys):
    assert main(["results", "rates", "--metric", "bits_per_byte", "--latex"]) == 0
    assert r"\begin{tabular}{llrr}" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_picture(rows, tmp_path, suffix, capsys):
    path = tmp_path / "new" / f"rates.{suffix}"
    assert main(["results", str(rows), "--figure", str(path)]) == 0
    assert path.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")


@pytest.mark.parametrize(
    "arguments, status, told",
    [
        (["memroy"], 2, "no study 'memroy', and no row is recorded under this name. Did you mean 'memory'"),
        (["memory", "--profile", "mig20"], 1, "no finished run at the profile mig20; it has rows at --profile laptop;"),
        (["memory", "--profile", "mig2"], 2, "no profile 'mig2'"),
        (["memory", "--metric", "bits"], 2, "No row has a metric named 'bits'"),
        (["memory", "--against", "fp31"], 2, "Did you mean 'fp32'"),
        (["layerdrop"], 2, "so far it only holds claims"),
        (["chapter-03", "--profile", "laptop"], 1, "its rows state none, so leave --profile out"),
        (["memory", "--figure", "x.gif"], 2, "let the name end in .png"),
        (["none.jsonl"], 1, "There is no file none.jsonl"),
        (["none.yaml"], 1, "cannot be read"),
    ],
)
def test_one_sentence_for_what_a_user_gets_wrong(arguments, status, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["results", *arguments]) == status
    shown = capsys.readouterr()
    assert told in shown.err and shown.err.count("\n") == 1 and not shown.out


@pytest.mark.parametrize(
    "content, told",
    [
        (b"", "holds no rows"),
        (b"\xff\xfe", "cannot be read as text"),
        (b"[1]\n", "Line 1 of"),
        (b'{"study": "a"\n', "it is not JSON"),
        (b'{"study": 3}\n', "Line 1 of"),
    ],
)
def test_damaged_files_are_named(content, told, tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    assert main(["results", str(path)]) == 1
    assert told in capsys.readouterr().err
