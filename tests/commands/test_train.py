"""`stlm train`: where runs go, finished runs extended, help that can be followed, output that any console can show."""

import json
import os
import subprocess
import sys

import pytest

import stlm_kit as kit
from stlm_kit import cli

VERSE = "The sea is never twice the same, they say, and yet it is the sea.\n\n"


@pytest.fixture
def train(tmp_path, capsys):
    """train(*options) -> (exit status, standard output, standard error), on a small text with a small model."""
    (tmp_path / "verse.txt").write_text(VERSE * 30)

    def run(*options, base=True):
        small = [
            "--preset", "laptop-gpt2", "--corpus", str(tmp_path / "verse.txt"), "--batch-size", "2",
            "--context-length", "16", "--set", "n_layers=1", "--set", "d_model=16", "--set", "n_heads=2",
            "--set", "d_ff=16",
        ]  # fmt: skip
        status = cli.main(["train", *(small if base else []), "--json", *map(str, options)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_changed_settings_go_to_a_folder_of_their_own(train, runs):
    folders = []
    for options in (("--steps", 2), ("--steps", 3), ("--steps", 2), ("--steps", 3), ("--steps", 2, "--seed", 4)):
        status, out, err = train(*options)
        assert status == 0
        folders.append(json.loads(out)["run_dir"])
        assert ("holds a run with other settings" in err) == (len(set(folders)) > 1 and folders[-1] != folders[0])
    assert folders[0] == str(runs / "train" / "laptop-gpt2-verse")
    assert folders[2] == folders[0] and folders[3] == folders[1] and len(set(folders)) == 3


def test_a_changed_text_goes_to_a_folder_of_its_own_and_a_named_folder_is_refused(train, tmp_path):
    first = json.loads(train("--steps", 2)[1])["run_dir"]
    (tmp_path / "verse.txt").write_text(VERSE.upper() * 30)
    others = {json.loads(train("--steps", 2)[1])["run_dir"] for _ in range(2)}
    assert len(others) == 1 and first not in others
    status, _, err = train("--steps", 2, "--run-dir", first)
    assert status == 1 and "holds another run" in err


def test_a_finished_run_is_extended(train, tmp_path, capsys):
    ran = tmp_path / "ran"
    assert train("--steps", 6, "--run-dir", ran, "--set", "dropout=0.1")[0] == 0
    before = (ran / "metrics.jsonl").read_text()
    assert cli.main(["train", "--continue-from", str(ran), "--steps", "10"]) == 0
    said = capsys.readouterr().out
    assert "Continues from step 6 to 10: the learning rate ended at 0.0001" in said and "jumps up again" in said
    longer = tmp_path / "ran-to-10"
    rows = [json.loads(line) for line in (longer / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert (longer / "metrics.jsonl").read_text().startswith(before) and (ran / "metrics.jsonl").read_text() == before
    assert kit.load_run(longer).step == 10 and kit.load_run(ran).step == 6
    assert cli.main(["train", "--continue-from", str(ran), "--steps", "10"]) == 0  # finished: nothing changes
    assert len((longer / "metrics.jsonl").read_text().splitlines()) == 10


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--steps", 6], "has 6 steps already"),
        ([], "needs --steps"),
        (["--steps", 9, "--seed", 3], "leave out --seed"),
        (["--steps", 9, "--set", "clip=2"], "leave out --set"),
        (["--steps", 9, "--run-dir", "SAME"], "stays as it is"),
    ],
)
def test_what_cannot_be_continued_is_one_sentence(train, tmp_path, options, sentence):
    ran = tmp_path / "ran"
    assert train("--steps", 6, "--run-dir", ran)[0] == 0
    options = [ran if option == "SAME" else option for option in options]
    status, _, err = train("--continue-from", ran, *options, base=False)
    assert status == 2 and sentence in err and err.count("\n") == 1


def test_only_a_finished_run_is_continued(train, tmp_path):
    status, _, err = train("--continue-from", tmp_path / "nowhere", "--steps", 5, base=False)
    assert status == 1 and "holds no run" in err
    ran = tmp_path / "ran"
    assert train("--steps", 2, "--run-dir", ran)[0] == 0
    (ran / "result.json").unlink()
    status, _, err = train("--continue-from", ran, "--steps", 5, base=False)
    assert status == 1 and "is not finished" in err


def test_help_lists_defaults_presets_and_parts_of_recipes(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    for text in ("steps = 1000", "text_field = text", "stlm-50m", "loss = chunked", "init_from = None"):
        assert text in said
    assert all(name in said for name in kit.run_settings().model_dump() if name != "overrides")


def test_the_version_says_what_a_report_needs(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    import torch

    said = capsys.readouterr().out
    assert stop.value.code == 0 and kit.__version__ in said and torch.__version__ in said


def test_what_a_console_cannot_show_is_replaced_and_nothing_is_lost(train, tmp_path):
    ran = tmp_path / "ran"
    assert train("--steps", 2, "--run-dir", ran)[0] == 0
    command = [sys.executable, "-m", "stlm_kit", "generate", "--model", ran, "--prompt", "a ł 漢 z"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    said = subprocess.run([*command, "--max-new-tokens", "2"], capture_output=True, env=environment, check=False)
    assert said.returncode == 0 and said.stdout.startswith(b"a ? ? z") and not said.stderr


def test_hints_name_each_setting_once(train):
    status, _, err = train("--set", "droput=0.1")
    assert status == 2 and err.count("'dropout'") == 1
