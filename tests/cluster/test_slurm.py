"""`stlm submit` and `stlm status` on a real cluster of one node: an array of papermill runs that is stopped, requeued
and preempted, and ends with each run computed once, every row collected and the report written."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

STEPS = 1500


@pytest.fixture
def batch(cluster, runs, tmp_path, monkeypatch) -> Path:
    """A study file of three runs of some seconds each, and everything that a job needs in the cluster's environment."""
    text = tmp_path / "lines.txt"
    text.write_text("\n\n".join(f"Line {n} says {n * n}, and then it says {n * n * n}." for n in range(90)))
    parameters = {"corpus": str(text), "tokenizer": "bytes", "preset": "laptop-gpt2", "n_layers": 1, "d_model": 32}
    parameters |= {"n_heads": 2, "context_length": 32, "batch_size": 4, "steps": STEPS, "checkpoint_every": 1000}
    grid = {"name": "seed-{seed}", "grid": {"seed": [0, 1, 2]}, "parameters": parameters, "profiles": {"laptop": {}}}
    path = tmp_path / "batch.yaml"
    path.write_text(yaml.safe_dump({"source": "batch", "title": "t", "citation": "c", "runs": [grid]}))
    for name, value in {"OMP_NUM_THREADS": "1", "STLM_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    return path


def stlm(*arguments: object, cwd: Path, expect: int = 0) -> str:
    command = [sys.executable, "-m", "stlm_kit", *map(str, arguments)]
    said = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=dict(os.environ), timeout=300)
    assert said.returncode == expect, said.stdout + said.stderr
    return said.stdout


def steps_of(runs: Path, name: str) -> list[dict]:
    """The rows of a run's metrics so far."""
    [path] = [*runs.glob(f"batch/{name}-*/metrics.jsonl")] or [None]
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path else []


def test_an_array_is_stopped_requeued_and_preempted_and_each_run_is_computed_once(cluster, batch, runs, tmp_path):
    said = stlm(
        "submit", batch, "--profile", "laptop", "--gres", "gpu:2g.20gb:1", "--cpus", "1", "--json", cwd=tmp_path
    )
    submitted = json.loads(said)
    [array] = submitted["jobs"]

    def states() -> dict[str, dict]:
        found = json.loads(stlm("status", batch, "--json", cwd=tmp_path))
        return {one["name"]: one for one in found}

    first = states()
    assert all(one["state"] in ("queued", "running") and one["job"].startswith(f"{array}_") for one in first.values())

    # Two slices, so two run side by side. One is told that its time is up, the other is killed and requeued by Slurm.
    cluster.wait(lambda: all(len(steps_of(runs, f"seed-{seed}")) > 5 for seed in (0, 1)), 120)
    begun = {name: steps_of(runs, name)[:5] for name in ("seed-0", "seed-1")}
    cluster.run("scancel", "--signal=USR1", "--batch", f"{array}_1")
    cluster.run("scontrol", "requeue", f"{array}_2")
    # The third starts, and a job that is worth more takes both slices.
    cluster.wait(lambda: len(steps_of(runs, "seed-2")) > 5, 180)
    begun["seed-2"] = steps_of(runs, "seed-2")[:5]
    urgent = ["sbatch", "--parsable", "--partition=urgent", "--gres=gpu:2", "--output=/dev/null", "--wrap", "sleep 2"]
    cluster.run(*urgent)
    seen = set()
    end = time.monotonic() + 400
    while cluster.run("squeue", "--noheader", "--format=%i"):
        now = states()
        seen |= {one["state"] for one in now.values()}
        assert time.monotonic() < end, now
        time.sleep(2)
    assert {"queued", "done"} <= seen
    assert {one["state"] for one in states().values()} == {"done"}

    for name, rows in begun.items():
        whole = steps_of(runs, name)
        assert [row["step"] for row in whole] == list(range(1, STEPS + 1))
        assert whole[:5] == rows, "what was computed before the stop was not computed again"
    logs = {path.name: path.read_text() for path in runs.glob("batch/logs/*.log")}
    tasks = [logs[f"stlm-batch-laptop-{array}_{number}.log"] for number in range(1, 4)]
    assert all(len(re.findall(r"done in .*, resumed", said)) == 1 for said in tasks), logs

    report = logs[f"stlm-batch-laptop-report-{submitted['report']}.log"]
    assert "batch: 3 rows" in report and "no result" not in report
    rows = [json.loads(line) for line in (runs / "batch" / "rows.jsonl").open()]
    assert sorted(row["seed"] for row in rows) == [0, 1, 2]
    assert (tmp_path / "batch-report" / "report.html").is_file()
    assert "Nothing is left to submit" in stlm("submit", batch, "--profile", "laptop", cwd=tmp_path)


def test_a_run_that_fails_is_told_with_its_sentence_and_is_not_requeued(cluster, batch, runs, tmp_path):
    content = yaml.safe_load(batch.read_text())
    content["runs"][0]["parameters"] |= {"learning_rate": 1e30, "schedule": "constant", "warmup_steps": 0}
    content["runs"][0]["grid"] = {"seed": [0]}
    batch.write_text(yaml.safe_dump(content))
    stlm("submit", batch, "--profile", "laptop", "--gres", "gpu:1", "--time", "00:05:00", "--mem", "2", cwd=tmp_path)
    stlm("status", batch, "--watch", "2", cwd=tmp_path, expect=1)
    [one] = json.loads(stlm("status", batch, "--json", cwd=tmp_path, expect=1))
    assert one["state"] == "failed" and "is not finite" in one["sentence"] and one["job"] == ""


def test_what_slurm_refuses_is_told_in_a_sentence(cluster, batch, tmp_path):
    command = [sys.executable, "-m", "stlm_kit", "submit", str(batch), "--profile", "laptop", "--partition", "nowhere"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 1 and "sbatch refused" in said.stderr and "invalid partition" in said.stderr.lower()
