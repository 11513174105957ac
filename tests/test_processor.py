"""16-bit products on this processor: timed, told before step 1, left out of evaluation where they are slow."""

import json
import os
import platform
import subprocess
import sys

import pytest

from stlm_kit import evaluate_tokens, load_run, machine, processor, run_settings, train_from_text
from stlm_kit.provenance import describe_machine, instructions
from stlm_kit.reproduce import results
from stlm_kit.train_from_text import prepare
from stlm_kit.training.recipe import Recipe

LIMIT = {"ONEDNN_MAX_CPU_ISA": "AVX2"}  # of oneDNN, which makes the bf16 products
SIZES = {"n_layers": 1, "d_model": 16, "n_heads": 2, "n_kv_heads": 1, "d_ff": 16}
ON_A_LIMITED_PROCESSOR = """
import json, sys
from stlm_kit import machine, processor, run_settings
from stlm_kit.provenance import describe_machine
from stlm_kit.reproduce.run_notebook import train_and_record
trained = train_and_record(run_settings(**json.loads(sys.argv[1])))
facts = {"ratio": processor.slowdown("bf16"), "machine": describe_machine(), "report": machine.report(machine.look())}
print(json.dumps(facts | {"losses": trained.losses}))
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The settings of a bf16 run that takes no time."""
    text = tmp_path_factory.mktemp("text") / "verses.txt"
    text.write_text("\n\n".join(f"Verse {n}: the fox number {n} jumps." for n in range(40)))
    shape = {"steps": 2, "batch_size": 2, "context_length": 16, "overrides": SIZES}
    return {"preset": "laptop-llama", "corpus": str(text), "tokenizer": "bytes", "recipe": "bf16+eager", **shape}


@pytest.fixture(scope="module")
def limited(asked, tmp_path_factory):
    """(folder of the run, what standard error said, the facts) of a process that may use AVX2 alone."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("oneDNN's limit names instructions of x86")
    folder = tmp_path_factory.mktemp("limited")
    ran = subprocess.run(
        [sys.executable, "-c", ON_A_LIMITED_PROCESSOR, json.dumps(asked)],
        env={**os.environ, **LIMIT, "STLM_RUN_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    return folder, ran.stderr, json.loads(ran.stdout)


def test_a_slow_precision_costs_one_sentence_with_its_ratio_and_the_recipe_to_take(limited):
    _, said, facts = limited
    sentences = [line for line in said.splitlines() if "times as long in bf16" in line]
    assert len(sentences) == 1 and facts["ratio"] > processor.NOISE
    assert f"{facts['ratio']:.1f} times" in sentences[0] and 'take the recipe "fp32+eager"' in sentences[0]
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in sentences[0] and sentences[0].endswith(".")


def test_there_evaluation_runs_in_fp32_and_result_and_row_say_so(limited):
    folder, _, _ = limited
    result = json.loads((folder / "result.json").read_text())["validation"]
    assert result["evaluation_precision"] == "fp32"
    assert json.loads((folder / "row.json").read_text())["evaluation_precision"] == "fp32"
    run = load_run(folder)
    _, tokens, _ = prepare(run_settings(**json.loads((folder / "config.json").read_text())["run"]))
    plain, rounded = (
        evaluate_tokens(run.model, tokens["validation"], batch_size=2, recipe=Recipe.named(name)).perplexity
        for name in ("fp32", "bf16")
    )
    assert result["perplexity"] == pytest.approx(plain, rel=1e-6) and result["perplexity"] != rounded


def test_there_the_look_at_the_machine_advises_fp32(limited):
    _, _, facts = limited
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in facts["machine"]["instructions"]
    assert "--  bf16 on the CPU" in facts["report"] and "Recipes in fp32" in facts["report"]


def test_where_bf16_is_fast_nothing_is_said_and_evaluation_is_in_bf16(asked, capsys):
    if processor.is_slow("bf16"):
        pytest.skip(f"bf16 products take {processor.slowdown('bf16'):.1f} times as long as fp32's here")
    said = []
    trained = train_from_text(run_settings(**asked), say=said.append, progress=False)
    assert trained.result["validation"]["evaluation_precision"] == "bf16"
    assert len(said) == 1 and "bf16" not in said[0] and capsys.readouterr().err == ""
    assert "ok  bf16 on the CPU" in machine.report(machine.look())


def test_what_costs_nothing_is_not_timed(monkeypatch):
    def timed(precision):
        raise AssertionError(f"{precision} was timed")

    monkeypatch.setattr(processor, "slowdown", timed)
    assert not processor.is_slow("bf16", "cuda")
    assert processor.cost_in_words(Recipe.named("bf16+flash"), "cuda") is None
    assert processor.cost_in_words(Recipe.named("fp16"), "cpu") is None, "it is refused, with a sentence of its own"


def test_a_run_in_fp32_costs_nothing_and_says_its_precision(asked):
    said = []
    trained = train_from_text(run_settings(**asked | {"recipe": "fp32"}), say=said.append, progress=False)
    assert trained.result["validation"]["evaluation_precision"] == "fp32" and len(said) == 1
    assert processor.slowdown("fp32") == processor.slowdown("tf32") == 1


def test_in_fp32_flash_attention_gives_way():
    assert processor.in_fp32(Recipe.named("flash+chunked")).name == "fp32+chunked"
    assert processor.in_fp32(Recipe.named("bf16+eager+study")).name == "fp32+eager+study"


def test_timing_leaves_the_threads_and_the_random_numbers_as_they_were():
    import torch

    threads, state = torch.get_num_threads(), torch.get_rng_state()
    assert processor.slowdown.__wrapped__("bf16") > 0
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)


def test_a_machine_lists_its_instructions_and_no_row_is_named_by_them(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    found = instructions()
    assert found[0] in ("AVX2", "AVX512") or platform.machine() not in ("x86_64", "AMD64")
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in found and describe_machine()["instructions"]
    row = results.new_row("study", "run", {"seed": 0}, {"loss": 1.0})
    assert row["machine"]["instructions"] == describe_machine()["instructions"]
    older = {**row, "machine": {name: fact for name, fact in row["machine"].items() if name != "instructions"}}
    assert results.row_hash(older) == row["hash"]
    results.ResultRow.model_validate(older)
