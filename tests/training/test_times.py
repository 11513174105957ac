"""Times that mean something: steps, evaluations and the whole stand apart, and add up over a run's processes."""

import io
import json
import sys
import time

import pytest

from stlm_kit import cli, progress
from stlm_kit.commands.train import in_words
from stlm_kit.evaluation.perplexity import evaluate_text
from stlm_kit.training import train

PAUSE = 0.05


class Stopped(BaseException):
    """Stands for the process ending between two lines."""


class Slow:
    """Batches that take their time, and end the process where step `last` would begin."""

    description = "random tokens"

    def __init__(self, batches, last=None):
        self.batches, self.last = batches, last

    def __call__(self, seed, index):
        if index == self.last:
            raise Stopped
        time.sleep(PAUSE / 5)
        return self.batches(seed, index)


def slow(value):
    """An evaluation or a sample that takes a while."""

    def look(model):
        time.sleep(PAUSE)
        return value

    return look


LOOKS = {"evaluate": slow({"perplexity": 9.0, "bits_per_byte": 2.0}), "sample": slow("once")}


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def check(result, rows, n_steps=12, n_looks=3):
    """The parts are there, counted once each, and are what the rows say."""
    training, evaluation = result["training_seconds"], result["evaluation_seconds"]
    assert training >= n_steps * PAUSE / 5 and evaluation >= n_looks * PAUSE
    assert training + evaluation + n_looks * PAUSE <= result["seconds"]  # samples are neither
    assert training == pytest.approx(sum(row["training_seconds"] for row in rows), abs=1e-3)
    assert evaluation == pytest.approx(sum(row.get("evaluation_seconds", 0) for row in rows), abs=1e-3)
    assert result["tokens_per_second"] == pytest.approx(result["tokens"] / training, rel=1e-2)
    for row in rows:
        assert row["tokens_per_second"] == pytest.approx(row["tokens"] / row["training_seconds"], rel=1e-2)
        assert ("evaluation_seconds" in row) == ("validation" in row)


def test_steps_evaluations_and_the_whole_stand_apart(batches, make_model, settings):
    settings = settings.model_copy(update={"sample_every": 4})
    trained = train(make_model(), Slow(batches), settings, **LOOKS)
    check(trained.result, trained.metrics)


def test_a_resumed_run_adds_its_parts_up(tmp_path, batches, make_model, settings):
    settings = settings.model_copy(update={"sample_every": 4})
    with pytest.raises(Stopped):
        train(make_model(), Slow(batches, last=9), settings, run_dir=tmp_path, **LOOKS)
    before = rows_of(tmp_path)[:8]  # step 9 is lost, its checkpoint was that of step 8
    trained = train(make_model(), Slow(batches), settings, run_dir=tmp_path, **LOOKS)
    assert rows_of(tmp_path)[:8] == before
    check(trained.result, rows_of(tmp_path))
    assert json.loads((tmp_path / "result.json").read_text()) == trained.result


def test_a_run_begun_before_times_stood_apart_goes_on_without_them(tmp_path, batches, make_model, settings):
    with pytest.raises(Stopped):
        train(make_model(), Slow(batches, last=9), settings, run_dir=tmp_path, **LOOKS)
    kept = [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in rows_of(tmp_path)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    trained = train(make_model(), Slow(batches), settings, run_dir=tmp_path, **LOOKS)
    assert [trained.result[f"{part}_seconds"] for part in ("training", "evaluation")] == [None, None]
    assert trained.result["tokens_per_second"] is None and trained.result["seconds"] > 0
    assert in_words(trained.result) == in_words({"seconds": trained.result["seconds"]})


def test_a_run_without_evaluations_spends_nothing_on_them(batches, make_model, settings):
    assert train(make_model(), batches, settings).result["evaluation_seconds"] == 0


def test_stlm_train_says_what_took_how_long(tmp_path, runs, capsys):
    """Thirty documents to score for two steps: a rate over the whole would be too low."""
    (tmp_path / "verses.txt").write_text("\n\n".join(f"Verse {n}: {'the quick fox jumps. ' * 9}" for n in range(400)))
    command = ["train", "--preset", "laptop-gpt2", "--corpus", str(tmp_path / "verses.txt"), "--tokenizer", "bytes"]
    command += ["--steps", "2", "--batch-size", "2", "--context-length", "16", "--run-dir", str(tmp_path / "run")]
    for field in ("n_layers=1", "d_model=16", "n_heads=2", "d_ff=16"):
        command += ["--set", field]
    assert cli.main([*command, "--eval-documents", "30"]) == 0
    said = capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["training_seconds"] + result["evaluation_seconds"] <= result["seconds"]
    assert result["tokens_per_second"] == pytest.approx(result["tokens"] / result["training_seconds"], rel=1e-2)
    assert f"2 steps, {result['tokens']:,} tokens in {in_words(result)}: {tmp_path / 'run'}" in said
    assert f"({result['tokens_per_second']:,.0f} tokens/s), evaluated in " in said
    assert json.loads((tmp_path / "run" / "config.json").read_text())["run"]["eval_documents"] == 30
    assert "--eval-documents N" in cli.build_parser()._subparsers._group_actions[0].choices["train"].format_help()


class Terminal(io.StringIO):
    """Standard error that somebody watches."""

    def isatty(self):
        return True


@pytest.mark.parametrize("shown", [True, False])
def test_an_evaluation_that_takes_long_shows_how_far_it_is(monkeypatch, make_model, shown):
    from stlm_kit.data.tokenizers import load_tokenizer

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "SHOWN_AFTER", 0.0)
    evaluate_text(make_model(vocab_size=257), load_tokenizer("bytes"), ["a text", "and another"] * 4, progress=shown)
    assert ("evaluating" in sys.stderr.getvalue()) == shown
    assert ("/8 [" in sys.stderr.getvalue()) == shown


def test_one_that_is_quick_shows_nothing(monkeypatch, make_model):
    from stlm_kit.data.tokenizers import load_tokenizer

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "SHOWN_AFTER", 3600.0)
    evaluate_text(make_model(vocab_size=257), load_tokenizer("bytes"), ["a text", "and another"] * 4, progress=True)
    assert "evaluating" not in sys.stderr.getvalue()
