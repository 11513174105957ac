"""`stlm submit` and `stlm status` where no cluster is needed: what would be submitted, and where runs stand."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from stlm_kit import cli
from stlm_kit.cluster import slurm
from stlm_kit.cluster.standing import Standing, in_words, progress, standings
from stlm_kit.reproduce.request import Request, plan


@pytest.fixture
def study(tmp_path, runs, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines.txt").write_text("\n\n".join(f"Line {n} says {n * n}." for n in range(60)))
    parameters = {"corpus": str(tmp_path / "lines.txt"), "tokenizer": "bytes", "preset": "laptop-gpt2", "batch_size": 2}
    axes = {"size": {"short": {"steps": 10}, "long": {"steps": 2_000_000}}, "seed": [0, 1]}
    grid = {"name": "{size}-{seed}", "grid": axes, "parameters": parameters, "profiles": {"laptop": {}}}
    path = tmp_path / "batch.yaml"
    path.write_text(yaml.safe_dump({"source": "batch", "title": "t", "citation": "c", "runs": [grid]}, sort_keys=False))
    return path


def test_runs_of_one_limit_and_one_size_are_one_array():
    found = slurm.batches([(4, "02:00:00", 8), (1, "00:15:00", 8), (2, "00:15:00", 8), (3, "00:15:00", 12)])
    assert [(batch.indices, batch.time_limit, batch.memory_gib) for batch in found] == [
        ((1, 2), "00:15:00", 8),
        ((3,), "00:15:00", 12),
        ((4,), "02:00:00", 8),
    ]
    assert [batch.warning for batch in found] == [225, 225, 600]
    assert slurm.ranges([1, 2, 3, 5, 8, 9]) == "1-3,5,8-9"


def test_runs_that_need_another_wait_for_it_alone(study, capsys, monkeypatch):
    written = yaml.safe_load(study.read_text())
    [grid] = written["runs"]
    small = {"preset": "laptop-llama", "n_layers": 1, "d_model": 16, "n_heads": 2, "n_kv_heads": 1, "d_ff": 16}
    grid["grid"] = {"size": {"alone": {}, "taught": {"teacher": "run:wide-0"}, "wide": {"d_model": 32}}, "seed": [0]}
    grid["parameters"] |= {**small, "context_length": 16, "steps": 10}
    study.write_text(yaml.safe_dump(written, sort_keys=False))
    command = ["submit", str(study), "--profile", "laptop", "--dry-run", "--json"]

    def arrays():
        assert cli.main(command) == 0
        *found, report = json.loads(capsys.readouterr().out)["commands"]
        waits = [word.partition(":")[2] for words in found for word in words if word.startswith("--dependency")]
        places = [next(word for word in words if word.startswith("--array")) for words in found]
        return places, waits, report

    places, waits, report = arrays()
    assert places == ["--array=3", "--array=1", "--array=2"] and waits == ["JOB1"]
    assert "--dependency=afterany:JOB1:JOB2:JOB3" in report
    monkeypatch.setattr(slurm, "queue_if_any", lambda _: {3: slurm.Queued("4711_3", "running", "")})
    assert arrays()[:2] == (["--array=1", "--array=2"], ["4711"])


def test_a_dry_run_prints_whole_commands_with_each_run_s_own_limit(study, capsys):
    command = ["submit", str(study), "--profile", "laptop", "--dry-run", "--json", "-p", "learning_rate=2e-3"]
    assert cli.main([*command, "--sbatch", "--account=mine --mail-type=END", "--at-once", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    *arrays, report = told["commands"]
    assert told["jobs"] == [] and told["report"] is None
    assert [next(word for word in words if word.startswith("--array")) for words in arrays] == [
        "--array=1-2%2",
        "--array=3-4%2",
    ]
    limits = [next(word for word in words if word.startswith("--time")) for words in arrays]
    assert limits[0] == "--time=00:15:00" and limits[1] > limits[0]
    for words in arrays:
        assert words[-5:] == [str(slurm.SCRIPT), str(study), "laptop", "-p", "learning_rate=2e-3"]
        assert {"--gres=none", "--requeue", "--account=mine", "--mail-type=END"} <= set(words)
    assert Path(arrays[0][-5]).is_absolute() and Path(arrays[0][-5]).is_file()
    assert "--dependency=afterany:JOB1:JOB2" in report
    collecting = shlex.split(report[-1])[3:]
    options = cli.build_parser().parse_args(collecting)
    assert options.collect and options.names == [str(study)] and options.parameters == ["learning_rate=2e-3"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["memory", "--dry-run"], "`stlm data get speakleash-forum`"),  # no text of it is on this machine
        (["03", "--dry-run"], "'03' is a chapter, which takes minutes; stlm submit takes a study."),
        (["memory", "--time", "2 h"], "--time '2 h' will not do; write hours, minutes and seconds, as 02:30:00."),
        (["memory", "--at-once", "0"], "--at-once 0 will not do; give at least 1."),
    ],
)
def test_what_cannot_be_queued_is_refused_before_it_is(words, sentence, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))
    assert cli.main(["submit", *words]) in (1, 2)
    assert sentence in capsys.readouterr().err


def test_where_no_sbatch_is_a_submission_says_where_to_go(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["submit", str(study), "--profile", "laptop"]) == 1
    assert "There is no sbatch on this machine; run this on a login node" in capsys.readouterr().err


def test_where_a_run_stands_is_read_off_its_files_and_the_queue(study, capsys):
    runs = plan(Request([str(study)]))
    run = runs[2]
    run.folder.mkdir(parents=True)
    rows = [{"step": step, "training_seconds": 0.2, "evaluation_seconds": 0.1 * (step == 4)} for step in range(1, 5)]
    half = '{"step": 5, "train'
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + half)
    run.write_record(name=run.name, status="running", parameters=run.parameters)  # and nobody holds it
    assert progress(run.folder) == (4, pytest.approx(0.225))
    waiting = {4: slurm.Queued("17_4", "pending", "Priority"), 3: slurm.Queued("17_3", "requeued", "")}
    found = standings(runs, waiting, {1: 0.5, 2: None})
    assert [(one.state, one.job, one.step) for one in found] == [
        ("missing", "", 0),
        ("missing", "", 0),
        ("requeued", "17_3", 4),
        ("queued", "17_4", 0),
    ]
    assert found[2].hours_left == pytest.approx((2_000_000 - 4) * 0.225 / 3600)
    assert found[3].sentence == "Priority" and found[1].hours_left is None
    assert cli.main(["status", str(study), "--json"]) == 0
    assert [one["state"] for one in json.loads(capsys.readouterr().out)] == [
        "missing",
        "missing",
        "interrupted",
        "missing",
    ]


def test_the_summary_adds_up_what_is_left():
    def one(state, hours):
        return Standing(1, "a", state, "", 0, 10, hours, "")

    assert in_words([one("done", 0.0)] * 2) == "2 runs: 2 done; nothing is left to compute."
    found = [one("running", 1.0), one("running", 2.0), one("queued", 3.0), one("missing", None), one("failed", 0.5)]
    assert in_words(found) == (
        "5 runs: 2 running, 1 queued, 1 missing, 1 failed; about 6 h 30 min of computing left and 1 of unknown length, "
        "3 h 15 min with 2 side by side."
    )
