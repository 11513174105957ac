"""Recorded rows: whole, of one piece with their hash, and to be had again."""

import json
import shlex
from collections import Counter

import pytest

from stlm_kit import KitError, UsageError, run_settings
from stlm_kit.cli import build_parser
from stlm_kit.options import settings_from_options
from stlm_kit.reproduce import results

ROWS = results.recorded("chapter-03")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A project of its own to record into."""
    monkeypatch.setattr(results, "project_dir", lambda: tmp_path)
    return tmp_path / "data" / "results"


def test_every_row_says_what_the_contract_asks():
    for row in ROWS:
        assert {"configuration", "hash", "seed", "versions", "device", "machine", "date", "metrics"} <= row.keys()
        assert row["hash"] == results.configuration_hash(row["configuration"])
        assert row["seed"] == row["configuration"]["seed"]
        assert row["metrics"].keys() == {"loss", "perplexity", "bits_per_byte", "tokens", "seconds"}
    assert len({(row["name"], row["hash"]) for row in ROWS}) == len(ROWS)


def test_chapter_03_has_ten_seeds_of_each_setting_in_order():
    assert set(Counter(row["name"] for row in ROWS).values()) == {10}
    for name in {row["name"] for row in ROWS}:
        assert [row["seed"] for row in ROWS if row["name"] == name] == list(range(10))


@pytest.mark.parametrize("row", ROWS[::9], ids=lambda row: f"{row['name']}-{row['seed']}")
def test_the_command_line_of_a_row_is_the_run_of_the_row(row):
    options = build_parser().parse_args(shlex.split(results.command(row))[1:])
    assert settings_from_options(options) == run_settings(**row["configuration"])  # what came later has its default


@pytest.mark.parametrize("path", sorted(results._folders()[0].glob("*.jsonl")), ids=lambda path: path.stem)
def test_every_committed_line_is_a_row_of_its_file(path):
    rows = results.read_rows(path)
    assert rows and {row["study"] for row in rows} == {path.stem}


def test_a_row_can_be_had_again():
    again = results.rerun(ROWS[0])
    assert again["bits_per_byte"] == pytest.approx(ROWS[0]["metrics"]["bits_per_byte"], abs=0.003)
    assert again["tokens"] == ROWS[0]["metrics"]["tokens"]


def test_recording_appends_one_row_a_configuration(elsewhere):
    tiny = {"n_layers": 1, "d_model": 16, "n_heads": 2, "n_kv_heads": 1, "d_ff": 16}
    settings = {"corpus": "polish", "tokenizer": "bytes", "steps": 2, "batch_size": 2, "context_length": 8}
    settings |= {"overrides": tiny, "eval_documents": 1, "preset": "laptop-gpt2"}
    first = results.record("mine", "tiny", **settings)
    results.record("mine", "tiny", **settings, seed=1)
    path = elsewhere / "mine.jsonl"
    before = path.read_text()
    assert results.record("mine", "tiny", **settings) == first
    assert path.read_text() == before
    assert [row["seed"] for row in results.recorded("mine")] == [0, 1]
    assert results.rerun(first)["loss"] == first["metrics"]["loss"]


def test_an_unknown_study_names_the_near_ones():
    with pytest.raises(UsageError, match="Did you mean 'chapter-03'"):
        results.recorded("chapter-3")


def changed(**changes):
    return json.dumps(ROWS[0] | changes)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "not JSON"),
        ("[]", "will not do"),
        ("{}", "'study' is missing"),
        (changed(configuration={}), "configuration"),
        (changed(configuration=ROWS[0]["configuration"] | {"steps": 151}), "is not that of what was run"),
        (changed(seed=5), "The seed 5"),
        (changed(hash="0123"), "hash"),
        (changed(date="2026-11-22"), "no moment"),
        (changed(metrics={}), "no metrics"),
        (changed(metrics={"loss": float("nan")}), "metrics"),
        (changed(source="me"), "source"),
        (changed(opinion="good"), "'opinion'"),
        (changed(asked={"notebook": "0" * 64, "parameters": {}, "contents": {}}), "is not that of what was run"),
    ],
)
def test_a_line_that_is_no_row_is_named(elsewhere, line, sentence):
    elsewhere.mkdir(parents=True)
    path = elsewhere / "bad.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    with pytest.raises(KitError, match=sentence) as raised:
        results.recorded("bad")
    assert f"Line 2 of {path} is no result row" in str(raised.value) and "\n" not in str(raised.value)


def test_an_unknown_setting_is_refused_and_nothing_is_written(elsewhere):
    with pytest.raises(UsageError, match="stepz"):
        results.record("mine", "tiny", stepz=2)
    assert not elsewhere.exists()
