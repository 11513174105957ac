"""Rows of benchmarks/gpu.py: taken over once, newest first served; a rehearsal's and other files' are refused."""

import json

import pytest

from stlm_kit import cli
from stlm_kit.errors import KitError
from stlm_kit.ledger.gpu_rows import gpu_rows, import_gpu_rows
from stlm_kit.reproduce import results

CASE = "memory.fp32-b32"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data/results."""
    folder = tmp_path / "data" / "results"
    monkeypatch.setattr(results, "checkout_folder", lambda: folder)
    monkeypatch.setattr(results, "_folders", lambda: [folder])
    return folder


def row(name=CASE, device="NVIDIA H100 80GB HBM3", date="2026-11-27T12:00:00+00:00", **metrics):
    made = results.new_row("gpu", name, {"recipe": "fp32"}, {"ok": True, **metrics}, device, capability="9.0")
    return {**made, "date": date}


def written(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def test_rows_are_taken_over_once_and_a_newer_one_replaces_an_older(data, tmp_path):
    first, other = row(mib=1.0), row(device="NVIDIA L4")
    file = written(tmp_path / "out" / "gpu.jsonl", first, other)
    assert import_gpu_rows(file) == [first, other] and import_gpu_rows(file) == []
    newer = row(mib=2.0, date="2026-11-28T12:00:00+00:00")
    import_gpu_rows(written(file, newer))
    assert [each["metrics"]["mib"] for each in gpu_rows(CASE, "H100")] == [2.0]
    assert {each["device"] for each in gpu_rows(CASE)} == {"NVIDIA L4", "NVIDIA H100 80GB HBM3"}


def test_a_dry_run_keeps_nothing_and_what_was_not_there_is_left_out(data, tmp_path):
    file = written(tmp_path / "gpu.jsonl", row(), row(name="parity.attention.hub.bf16", unavailable="not installed"))
    assert len(import_gpu_rows(file, dry_run=True)) == 1 and not data.exists()
    import_gpu_rows(file)
    assert gpu_rows("parity.attention.hub.bf16") == [] and len(gpu_rows(CASE)) == 1


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"device": "cpu"}, "a rehearsal on a processor"),
        ({"study": "memory"}, "a row of the study memory"),
        ({"hash": "0" * 10}, "is not that of what was run"),
    ],
)
def test_what_is_no_gpus_row_is_refused_by_its_line(change, sentence, data, tmp_path):
    file = written(tmp_path / "gpu.jsonl", row(), {**row(), **change})
    with pytest.raises(KitError, match=rf"Line 2 of .*{sentence}"):
        import_gpu_rows(file)
    assert not data.exists()


def test_the_command_counts_them_and_refuses_an_empty_file(data, tmp_path, capsys):
    assert cli.main(["ledger", "import", str(written(tmp_path / "gpu.jsonl", row()))]) == 0
    assert "1 new rows of NVIDIA H100 80GB HBM3" in capsys.readouterr().out
    empty = written(tmp_path / "empty.jsonl")
    assert cli.main(["ledger", "import", str(empty)]) != 0
    assert "benchmarks/gpu.py --out" in capsys.readouterr().err
