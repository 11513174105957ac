"""The command line as its users run it: a process, its exit status, its one sentence."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

STLM = [sys.executable, "-m", "stlm_kit"]
SMALL = [
    "--set",
    "n_layers=1",
    "--set",
    "d_model=32",
    "--set",
    "n_heads=2",
    "--set",
    "n_kv_heads=1",
    "--set",
    "d_ff=32",
]


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "verses.txt"
    path.write_text("\n\n".join(f"Verse {n}: the {'quick ' * (n % 7)}fox number {n} jumps." for n in range(60)))
    return path


def stlm(*arguments, **options):
    return subprocess.run([*STLM, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)


def train_command(text_file, run_dir, steps=40, *extra):
    settings = ["--tokenizer", "bytes", "--batch-size", "4", "--context-length", "16", "--steps", steps]
    return ["train", "--corpus", text_file, *settings, *SMALL, "--run-dir", run_dir, "--json", *extra]


def losses(run_dir):
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


def test_train_evaluate_generate_export(text_file, tmp_path):
    run = tmp_path / "run"
    done = stlm(*train_command(text_file, run))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["steps"] == 40 and result["validation"]["bits_per_byte"] < 8
    assert done.stderr == ""  # no progress bar in a log

    scored = stlm("evaluate", "--model", run, "--text", text_file, "--json")
    assert json.loads(scored.stdout)["n_bytes"] == len(text_file.read_bytes())

    first, second = (stlm("generate", "--model", run, "--prompt", "Verse 7:", "--seed", 3).stdout for _ in range(2))
    assert first == second and first.startswith("Verse 7:")

    assert stlm("export", "--model", run, "--to", "hf", "--out", tmp_path / "hf").returncode == 0
    from transformers import AutoModelForCausalLM

    from stlm_kit import count_parameters, load_run

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert model.num_parameters() == count_parameters(load_run(run).model)


def test_killed_ten_times_the_run_still_computes_the_same_losses(text_file, tmp_path, forks):
    """kill -9 at ten random moments, the same command again each time: the losses of an unbroken run, bit for bit."""
    steps = 1200
    options = ["--set", "checkpoint_every=7"]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert forks.run(*train_command(text_file, unbroken, steps, *options)) == 0
    moments, metrics = random.Random(0), broken / "metrics.jsonl"
    for kill in range(10):
        before = metrics.stat().st_size if metrics.exists() else 0
        forks.start(*train_command(text_file, broken, steps, *options))
        deadline = time.monotonic() + 120
        # Until it has trained on; or it is killed at its start.
        while kill % 4 != 3 and not (metrics.exists() and metrics.stat().st_size > before):
            assert forks.running and time.monotonic() < deadline, forks.error.read_text()
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.15))
        assert forks.running, "the run ended before it could be killed; give it more steps"
        forks.send(signal.SIGKILL)
        assert forks.wait() == -signal.SIGKILL
    assert forks.run(*train_command(text_file, broken, steps, *options)) == 0
    assert losses(broken) == losses(unbroken)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_saves_and_exits_with_3(text_file, tmp_path, forks, name):
    run = tmp_path / "run"
    forks.start(*train_command(text_file, run, 100_000))
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").stat().st_size:
        assert forks.running
        time.sleep(0.02)
    forks.send(getattr(signal, name))
    status, error = forks.wait(), forks.error.read_text()
    assert status == 3
    assert error.startswith(f"stlm: Stopped by {name} after step") and error.count("\n") == 1
    step = int((run / "checkpoint" / "latest").read_text().removeprefix("step-"))
    assert step == len(losses(run))


def test_the_exit_status_and_sentence_of_every_mistake(text_file, tmp_path):
    """One process each would cost minutes: the dispatcher is called in turn inside one."""
    (tmp_path / "model.pt").write_bytes(b"\x80\x04.")
    (tmp_path / "latin.txt").write_bytes("drżący".encode("iso-8859-2") * 9)
    cases = [
        (["train", "--preset", "stlm-50"], 2, "stlm-50m"),
        (["train", "--steps", "0"], 2, "steps = 0 will not do"),
        (["train", "--set", "lerning_rate=1"], 2, "learning_rate"),
        (["train", "--set", "steps"], 2, "NAME=VALUE"),
        (["train", "--corpus", "nowhere.txt"], 1, "nowhere.txt"),
        (["train", "--corpus", tmp_path / "latin.txt"], 1, "byte"),
        (["train", "--corpus", text_file, "--set", "n_heads=3"], 2, "n_heads"),
        (["generate", "--model", tmp_path / "model.pt"], 1, "pickle"),
        (["generate", "--model", tmp_path / "nowhere"], 1, "no run directory"),
        (["evaluate", "--model", tmp_path / "nowhere", "--text", tmp_path / "absent.txt"], 1, "absent.txt"),
        (["reproduce", "chapter-99"], 2, "chapter-99"),
        (["reproduce", "-p", "sed=1"], 2, "seed"),
    ]
    script = (
        "import sys, json, stlm_kit.cli as cli\nfor case in json.loads(sys.argv[1]): print(cli.main(case), flush=True)"
    )
    arguments = json.dumps([list(map(str, case)) for case, _, _ in cases])
    done = subprocess.run(
        [sys.executable, "-c", script, arguments], capture_output=True, text=True, timeout=300,
        env={**os.environ, "STLM_RUNS": str(tmp_path / "runs"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    sentences = [line for line in done.stderr.splitlines() if line.startswith("stlm: ")]
    assert "Traceback" not in done.stderr
    assert [int(status) for status in done.stdout.split()] == [status for _, status, _ in cases], done.stderr
    assert len(sentences) == len(cases), done.stderr
    for (case, _, word), sentence in zip(cases, sentences, strict=True):
        assert word in sentence, f"{case}: {sentence}"


def test_wrong_use_exits_with_2():
    assert stlm("no-such-command").returncode == 2
    assert stlm("train", "--no-such-option").returncode == 2


def test_importing_the_kit_imports_nothing_heavy():
    """It may cost half a second beyond torch, and costs nothing: names are imported on first use."""
    heavy = {"torch", "datasets", "transformers", "matplotlib", "scipy", "papermill", "IPython", "pandas"}
    script = f"import sys, stlm_kit; print(sorted({heavy!r} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_corpus_and_every_tokenizer_of_the_hub_is_listed():
    from stlm_kit.data import corpus_names
    from stlm_kit.data.hub_tokenizers import TOKENIZERS

    listed = stlm("data", "list")
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert listed.returncode == 0 and names == [*corpus_names(), *TOKENIZERS]


SLOW = """
import sys, time
from stlm_kit import cli, train_from_text
train_from_text.load_corpus = lambda *_, **__: print("up", flush=True) or time.sleep(60)
sys.exit(cli.main(["train", "--corpus", "polish", "--run-dir", sys.argv[1]]))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_before_the_first_step_says_that_it_can_go_on(tmp_path, name):
    """Loading a large text takes minutes, and a batch system's warning may come then."""
    command = [sys.executable, "-c", SLOW, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        process.send_signal(getattr(signal, name))
        _, said = process.communicate(timeout=60)
    assert process.returncode == 3 and said.count("\n") == 1 and "again" in said


def test_an_export_does_not_write_over_a_run(text_file, tmp_path):
    from stlm_kit import cli

    run = tmp_path / "run"
    assert cli.main([str(part) for part in train_command(text_file, run, 2)]) == 0
    before = (run / "config.json").read_text()
    assert cli.main(["export", "--model", str(run), "--to", "hf", "--out", str(run)]) == 2
    assert cli.main(["export", "--model", str(run), "--to", "hf", "--out", str(text_file)]) == 1  # a file
    assert (run / "config.json").read_text() == before


def test_the_unforeseen_is_one_sentence_too(monkeypatch, capsys):
    from stlm_kit import cli
    from stlm_kit.data import corpora

    def fail():
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(corpora, "describe", fail)
    assert cli.main(["data", "list"]) == 1
    assert capsys.readouterr().err == "stlm: RuntimeError: two; run it with --debug to see where.\n"
    for arguments in (["data", "--debug", "list"], ["data", "list", "--debug"]):
        with pytest.raises(RuntimeError):
            cli.main(arguments)
