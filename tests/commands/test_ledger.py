"""`stlm ledger CLAIM`: one claim whole, with the place of its answer and the command that gives it again."""

import json

import pytest

from stlm_kit import cli


@pytest.mark.parametrize(
    ("claim", "texts"),
    [
        (
            "mem.params.total",
            ["28,941,393", "parameters in stlm_kit/studies/memory/model.py", "stlm ledger"],
        ),
        ("mem.base.bs128.val_ppl", ["14.96", "stlm reproduce memory --profile mig20 --run fp32-b128"]),
        ("mem.exp.count", ["18"]),
        ("ld.cite.arxiv", ["1909.11556"]),
        ("stlm.params.50M", ["read", "key-value heads"]),
    ],
)
def test_one_claim_whole(claim, texts, capsys):
    assert cli.main(["ledger", claim]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(f"{claim}: ") and all(text in said for text in [*texts, "statement", "published", "how"])


def test_one_claim_as_json(capsys):
    assert cli.main(["ledger", "mem.params.total", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["found"] == 28941393 and row["command"] == "stlm ledger mem.params.total" and row["where"]


def test_a_chapter_that_answers_is_named(capsys):
    assert cli.main(["ledger", "poster.ppl.pretrain_end"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "00_start_here" in said or "stlm reproduce" in said


def test_a_claim_that_a_gpu_answers_names_its_function(capsys):
    assert cli.main(["ledger", "mem.bf16.why_faster"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "stlm_kit/studies/memory/on_gpu.py" in said and "on NVIDIA H" in said
    assert "python benchmarks/gpu.py" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["mem.param.total"], "Did you mean 'mem.params.total'"),
        (["mem.params.total", "mem.exp.count"], "one claim at a time"),
        (["import"], "takes one RUN_DIR"),
        (["--dry-run"], "for `stlm ledger import"),
    ],
)
def test_other_words_are_one_sentence(words, sentence, capsys):
    assert cli.main(["ledger", *words]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
