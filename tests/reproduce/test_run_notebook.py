"""One run of a study: its settings, its row, and real training that goes on bit for bit after a signal."""

import json
import signal
import time

import pytest

from stlm_kit import cli
from stlm_kit import provenance as machine
from stlm_kit.errors import KitError
from stlm_kit.options import settings_from
from stlm_kit.reproduce import run_notebook as one_run
from stlm_kit.reproduce.recheck import as_many_threads
from stlm_kit.reproduce.rows import is_out_of_memory, record_row
from stlm_kit.train_from_text import run_settings, train_from_text


def test_a_row_is_kept_where_there_is_a_run(tmp_path, monkeypatch):
    assert record_row(loss=1.5) == {"loss": 1.5}
    monkeypatch.setenv("STLM_RUN_DIR", str(tmp_path / "run"))
    record_row(loss=1.5)
    assert json.loads((tmp_path / "run" / "row.json").read_text()) == {"loss": 1.5}
    with pytest.raises(KitError, match="loss of this run is not finite"):
        record_row(loss=float("nan"), steps=3)


def test_what_counts_as_out_of_memory():
    import torch

    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_out_of_memory_is_a_row(tmp_path, monkeypatch):
    """A real allocation that no machine grants."""
    monkeypatch.setenv("STLM_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))
    settings = settings_from({"preset": "laptop-gpt2", "batch_size": 2, "steps": 1})
    huge = settings.model_copy(update={"overrides": {"d_ff": 2**44}})
    assert one_run.train_and_record(huge) is None
    row = json.loads((tmp_path / "run" / "row.json").read_text())
    assert row["status"] == "out_of_memory" and "memory" in row["said"]


def test_the_driver_is_asked_of_nvidia_smi(tmp_path, monkeypatch):
    """nvidia-smi itself is a stand-in here: there is none on a machine without a GPU."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 550.54.15\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    machine.driver.cache_clear()
    assert machine.driver() == "550.54.15"
    tool.write_text("#!/bin/sh\necho no devices were found\nexit 9\n")
    machine.driver.cache_clear()
    assert machine.driver() is None
    machine.driver.cache_clear()


def test_a_full_size_run_of_the_memory_study_goes_its_whole_way_on_a_cpu(tmp_path, monkeypatch, capsys):
    """The real model in one step of one row: measured, trained, scored, and refused by the ledger for what it is."""
    (tmp_path / "verses.txt").write_text("\n\n".join(f"Verse {n}: the quick fox jumps." for n in range(30)))
    monkeypatch.setenv("STLM_RUNS", str(tmp_path / "runs"))
    command = ["reproduce", "memory", "--profile", "mig20", "--only", "fp32-b32", "-p", "steps=1", "-p", "batch_size=1"]
    command += ["-p", f"corpus={tmp_path / 'verses.txt'}", "-p", "device=cpu", "--figures", str(tmp_path / "figures")]
    assert cli.main(command) == 1
    assert "needs a CUDA GPU" in capsys.readouterr().err
    monkeypatch.setenv("STLM_ALLOW_CPU", "1")
    assert cli.main(command) == 0
    [row] = [json.loads(line) for line in (tmp_path / "runs" / "memory" / "rows.jsonl").open()]
    assert row["configuration"]["preset"] == "memory-study" and row["configuration"]["schedule"] == "constant"
    times = [row["metrics"][f"{part}seconds"] for part in ("training_", "evaluation_", "")]
    assert min(times) > 0 and times[0] + times[1] <= times[2]
    assert row["metrics"]["model_parameters"] == 28_941_393
    assert row["metrics"]["peak_allocated_mib"] == pytest.approx(row["metrics"]["predicted_mib"], rel=5e-3)
    assert "Predicted peaks lie within" in capsys.readouterr().out
    assert cli.main(["ledger", "import", str(tmp_path / "runs" / "memory")]) == 1
    assert "the study asks for" in capsys.readouterr().err


def test_training_interrupted_in_its_kernel_goes_on_bit_for_bit(tmp_path, monkeypatch, forks):
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STLM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    corpus = tmp_path / "a corpus.txt"
    corpus.write_text(
        "\n\n".join(f"The {word} said number {i}, and went on." for i in range(60) for word in ("cat", "dog"))
    )
    study = tmp_path / "mine.yaml"
    study.write_text(
        "{source: mine, title: Mine, citation: me, claims: [], runs: [{name: only, profiles: {laptop: {}}, parameters: "
        "{preset: laptop-gpt2, n_layers: 1, context_length: 32, batch_size: 8, steps: 200, checkpoint_every: 1000}}]}"
    )
    command = ["reproduce", study, "-p", f"corpus={corpus}", "--figures", tmp_path / "figures"]

    def metrics() -> list[dict]:
        return [json.loads(line) for path in (tmp_path / "runs").glob("mine/*/metrics.jsonl") for line in path.open()]

    def losses(rows: list[dict]) -> list[tuple]:
        return [(row["step"], row["loss"], row.get("validation")) for row in rows]

    forks.start(*command)
    end = time.monotonic() + 120
    while len(metrics()) < 5:
        assert forks.running and time.monotonic() < end, forks.error.read_text()
        time.sleep(0.02)
    forks.send(signal.SIGUSR1)
    assert forks.wait() == 3, forks.error.read_text()
    assert 5 <= len(metrics()) < 200
    assert forks.run(*command) == 0, forks.error.read_text()
    assert "resumed" in forks.out.read_text()
    [row] = [json.loads(line) for line in (tmp_path / "runs" / "mine" / "rows.jsonl").open()]
    assert row["configuration"]["steps"] == 200 and row["metrics"]["perplexity"] > 1 and row["seed"] == 0
    settings = run_settings(**row["configuration"])
    assert settings.preset == "laptop-gpt2"
    with as_many_threads(1):
        whole = train_from_text(settings, progress=False)
    assert len(whole.metrics) == 200 and losses(metrics()) == losses(whole.metrics)
