"""Kept answers: the second question is read, not traced; what changed or was damaged is asked anew."""

import json
import os
import subprocess
import sys

import pytest

from stlm_kit.cli import main
from stlm_kit.ledger import answers
from stlm_kit.ledger.survey import survey
from stlm_kit.memory import operations, predict, predict_peak
from stlm_kit.memory.operations import StepOperations, step_operations
from stlm_kit.memory.report import MemoryReport
from stlm_kit.model import kinds
from stlm_kit.presets import PRESETS, preset
from stlm_kit.reproduce import trace_cache
from stlm_kit.reproduce.trace_cache import kept, traces_dir
from stlm_kit.training.recipe import Recipe

TINY = preset("laptop-gpt2", vocab_size=17, context_length=8, n_layers=1, d_model=16, n_heads=2, d_ff=32)
STEP = (TINY, Recipe.named("bf16+chunked"), 2, 8)


class Asked(AssertionError):
    """Something was computed."""


def refuse(*_, **__):
    raise Asked


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def forbidden(monkeypatch):
    """forbidden(): from now on nothing is traced, counted or built."""

    def forbid():
        predict.trace_subject.cache_clear()
        operations.step_operations.cache_clear()
        for module, name in ((predict, "trace"), (operations, "_counted"), (kinds, "build_model")):
            monkeypatch.setattr(module, name, refuse)

    return forbid


def report():
    return kept(MemoryReport, predict_peak, *STEP, 0.5, span="step")


def test_the_second_report_is_the_first_one_and_nothing_is_traced(forbidden):
    first, counted = report(), kept(StepOperations, step_operations, *STEP)
    assert first == predict_peak(*STEP, 0.5, span="step") and first.to_json(timeline=True)
    forbidden()
    assert report() == first and report().to_json(timeline=True) == first.to_json(timeline=True)
    assert kept(StepOperations, step_operations, *STEP) == counted
    for other in ({"span": "forward_backward"}, {"accumulation_steps": 2}, {"trainable": ("head",)}):
        with pytest.raises(Asked):
            kept(MemoryReport, predict_peak, *STEP, **{"span": "step", **other, "valid_fraction": 0.75})


@pytest.mark.parametrize("what", ["source_hash", "versions", "hardware", "besides", "instructions"])
def test_a_change_of_what_it_depends_on_asks_anew(forbidden, monkeypatch, what):
    report()
    forbidden()
    if what == "besides":
        with pytest.raises(Asked):
            kept(MemoryReport, predict_peak, *STEP, 0.5, besides="another file", span="step")
        return
    if what == "instructions":
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    else:
        changed = {"source_hash": "0" * 64, "versions": {"torch": "9.9"}, "hardware": {"gpus": ["another"]}}
        monkeypatch.setattr(trace_cache, what, lambda: changed[what])
    with pytest.raises(Asked):
        report()


def halved(text):
    return text[: len(text) // 2]


def another_number(text):
    entry = json.loads(text)
    entry["answer"]["peak_allocated_mib"] += 1
    return json.dumps(entry)


def another_shape(text):
    entry = json.loads(text)
    entry["answer"] = [1, 2]
    return json.dumps({**entry, "sha256": trace_cache._hash([1, 2])})


@pytest.mark.parametrize(
    "damage",
    [halved, another_number, another_shape, lambda text: "", lambda text: "[1]", lambda text: "\x00"],
    ids=["halved", "another number", "another shape", "empty", "a list", "bytes"],
)
def test_a_damaged_entry_is_made_anew(damage):
    first = report()
    [path] = traces_dir().iterdir()
    whole = path.read_text()
    path.write_text(damage(whole))
    assert report() == first and path.read_text() == whole


def test_a_folder_that_cannot_be_written_keeps_nothing_and_the_answer_is_had(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder would be")
    assert report() == report()


def test_a_model_of_ones_own_is_not_kept():
    """Its code is in no hash of the kit's."""
    from two_bytes import TwoBytesConfig

    step = (TwoBytesConfig(vocab_size=257, context_length=8), Recipe.named("fp32"), 2, 8)
    assert kept(MemoryReport, predict_peak, *step).peak_allocated_mib > 0
    assert not traces_dir().exists()


def test_what_was_asked_the_longest_ago_goes_first(monkeypatch):
    def size_of(n):
        return kept(list[int], numbers, n)

    def count():
        return sum(path.stat().st_size for path in traces_dir().iterdir())

    for n in range(4):
        size_of(n)
        for age, path in enumerate(sorted(traces_dir().iterdir(), key=lambda path: -path.stat().st_mtime)):
            os.utime(path, (1e9 - age, 1e9 - age))
    size_of(0)  # read again: now the youngest
    monkeypatch.setattr(trace_cache, "LARGEST_MIB", (count() + 10) / 2**20)
    size_of(4)
    assert count() <= trace_cache.LARGEST_MIB * 2**20
    held = [json.loads(path.read_text())["asked"]["arguments"][0] for path in traces_dir().iterdir()]
    assert sorted(held) == [0, 2, 3, 4]


def numbers(n: int) -> list[int]:
    return [n] * 100


def test_two_processes_at_once(tmp_path):
    command = [sys.executable, "-m", "stlm_kit", "predict", "--preset", "laptop-gpt2", "--batch-size", "1", "--json"]
    command += ["--sequence-length", "8", "--set", "n_layers=1", "--budget", "30"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert said[0] == said[1] and json.loads(said[0])["largest_batch"] > 0
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(path.suffix for path in traces_dir().iterdir()) == [".json", ".json"]


PREDICT = ["predict", "--preset", "laptop-gpt2", "--batch-size", "1", "--sequence-length", "8", "--set", "n_layers=1"]


@pytest.mark.parametrize("command", [[*PREDICT, "--budget", "30"], ["plan"]], ids=["predict", "plan"])
def test_a_command_says_the_same_the_second_time_without_tracing(command, forbidden, runs, tmp_path, capsys):
    if command == ["plan"]:
        (tmp_path / "lines.txt").write_text("\n\n".join(f"Line {n} says {n * n}." for n in range(90)))
        (tmp_path / "mine.yaml").write_text(
            "{source: mine, title: t, citation: c, claims: [], "
            "runs: [{name: 'b{batch_size}', grid: {batch_size: [2, 4]}, "
            f"parameters: {{corpus: {tmp_path / 'lines.txt'}, tokenizer: bytes, preset: laptop-gpt2, steps: 3, "
            "context_length: 16, n_layers: 1}, profiles: {mig20: {}}}]}"
        )
        command = ["plan", str(tmp_path / "mine.yaml"), "--profile", "mig20"]
    assert main([*command, "--json"]) == 0
    first = capsys.readouterr().out
    forbidden()
    assert main([*command, "--json"]) == 0
    assert capsys.readouterr().out == first and len(first) > 100


def test_presets_are_counted_once(forbidden, monkeypatch, capsys):
    for name in [name for name, entry in PRESETS.items() if not type(entry.config).__module__.startswith("stlm_kit")]:
        monkeypatch.delitem(PRESETS, name)  # another test's, which is never kept
    assert main(["presets"]) == 0
    first = capsys.readouterr().out
    assert all(name in first for name in PRESETS)
    forbidden()
    assert main(["presets"]) == 0
    assert capsys.readouterr().out == first


def test_the_ledger_computes_once_and_says_what_it_would_without_a_cache(runs, monkeypatch, capsys):
    plain = survey().rows
    assert main(["ledger", "--json"]) == 0
    first = capsys.readouterr().out
    assert json.loads(first) == json.loads(json.dumps(plain))
    monkeypatch.setattr(answers, "computed", refuse)
    assert main(["ledger", "--json"]) == 0
    assert capsys.readouterr().out == first
    with pytest.raises(Asked):
        answers.computed_answers("memory")
