"""The comparison of a memory study: cells are what rows say, and what may not be compared is not."""

import copy
import json

import pytest

from stlm_kit import cli
from stlm_kit.commands.reproduce import reproduce
from stlm_kit.errors import KitError, UsageError
from stlm_kit.ledger.answers import evidence
from stlm_kit.processor import is_slow
from stlm_kit.reproduce.request import Request
from stlm_kit.studies.memory import comparison

STUDY = """
source: memory-in-small
title: In small
citation: nobody
claims: []
runs:
- name: "{technique}-b{batch_size}"
  grid:
    technique: {fp32: {recipe: fp32+eager+study}, flash: {recipe: bf16+sdpa+study}}
    batch_size: [2]
  parameters: {preset: laptop-gpt2, packing: documents, context_length: 32, steps: 2, measure_memory: true}
  profiles: {laptop: {}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder of runs, report page): two runs of a study of ours, measured for real by papermill."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "verses.txt").write_text("\n\n".join(f"Verse {n}: {'the quick fox ' * (n % 5)}jumps." for n in range(60)))
    (folder / "memory-in-small.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STLM_RUNS", str(folder / "runs"))
        patch.setenv("STLM_CACHE", str(folder / "cache"))
        reproduce(
            Request(
                [str(folder / "memory-in-small.yaml")],
                parameters={"corpus": str(folder / "verses.txt"), "device": "cpu"},
            ),
            figures=folder / "figures",
        )
    return folder / "runs", folder / "figures" / "report.html"


@pytest.fixture
def rows(made, monkeypatch):
    monkeypatch.setenv("STLM_RUNS", str(made[0]))
    return [json.loads(line) for line in (made[0] / "memory-in-small" / "rows.jsonl").open()]


def test_a_run_measures_its_memory_and_predicts_it(rows):
    assert [row["name"] for row in rows] == ["fp32-b2", "flash-b2"]
    for row in rows:
        numbers = row["metrics"]
        assert numbers["peak_allocated_mib"] == pytest.approx(numbers["predicted_mib"], rel=5e-3)
        assert numbers["after_backward_mib"] < numbers["peak_allocated_mib"]
        assert 0 < numbers["valid_fraction"] < 1
        if is_slow(row["configuration"]["recipe"].split("+")[0]):
            assert numbers["slowdown"] > 1 and not any(name.startswith("step_s") for name in numbers)
        else:
            assert 0 < numbers["step_s_least"] <= numbers["step_s_median"] <= numbers["step_s_most"]
        assert 0 < numbers["training_seconds"] + numbers["evaluation_seconds"] <= numbers["seconds"]
        assert numbers["tokens_per_second"] == pytest.approx(numbers["tokens"] / numbers["training_seconds"], rel=0.01)
        assert row["device"] == "cpu" and numbers["threads"] >= 1


def test_the_report_says_what_the_lines_say(made, rows):
    found = comparison.compare("memory-in-small")
    text = "\n".join(found.lines())
    assert f"{rows[0]['metrics']['peak_allocated_mib']:,.1f}" in text and "(sdpa for flash-attn)" in text
    page = made[1].read_text()
    for sentence in found.sentences():
        assert sentence in page
    assert "bits per byte ± 95 %" in page  # the results of the runs with the corpus that they were given
    assert "all runs: trade-off" in page and "all runs: windows" not in page


def test_cells_are_what_the_row_says(rows):
    measured, predicted = comparison.cells_of(rows[0])
    numbers = rows[0]["metrics"]
    assert (measured["technique"], measured["batch_size"], measured["found"]) == ("fp32", 2, "measured")
    assert measured["rows_per_second"] == pytest.approx(2 / numbers["step_s_median"])
    assert measured["slowest"] <= measured["rows_per_second"] <= measured["fastest"]
    assert predicted["peak_mib"] == numbers["predicted_mib"] and "rows_per_second" not in predicted
    at_full_size = {**rows[0], "profile": "mig20"}
    assert comparison.cells_of(at_full_size)[0]["rows_per_second"] == pytest.approx(2 * 2 / numbers["training_seconds"])
    assert comparison.cells_of({**rows[0], "metrics": {"loss": 1.0}}) == []


def test_a_technique_is_a_label_and_no_part_of_a_name(rows):
    renamed = {**rows[0], "name": "x-b9", "labels": {"technique": "window-b-16", "batch_size": 2}}
    assert comparison.cells_of(renamed)[0]["technique"] == "window-b-16"
    assert (
        comparison.cells_of({**renamed, "labels": {"heads": 2, "norm": "rms", "batch_size": 2}})[0]["technique"]
        == "2-rms"
    )
    recorded = {row["name"]: row for row in comparison.results.recorded("memory")}["window-16-b8"]
    bare = {name: value for name, value in recorded.items() if name != "labels"}
    assert comparison.cells_of(bare)[0]["technique"] == "window-16"  # as its study's file has it
    nobodys = {name: value for name, value in rows[0].items() if name != "labels"}
    assert comparison.cells_of(nobodys)[0]["technique"] == "fp32-b2"


def test_where_16_bits_are_slow_memory_is_compared_and_no_speed(rows, monkeypatch):
    fp32, flash = copy.deepcopy(rows)
    kept = {name: number for name, number in flash["metrics"].items() if not name.startswith("step_s")}
    flash["metrics"] = kept | {"slowdown": 8.9}
    monkeypatch.setattr(comparison, "known_rows", lambda study, profile: [fp32, flash])
    found = comparison.compare("memory-in-small")
    assert "rows_per_second" not in comparison.cells_of(flash)[0]
    [said] = [sentence for sentence in found.sentences() if "No claim on the speed" in sentence]
    assert "of flash is made" in said and "8.9 times" in said
    assert "saved" in found.lines()[0] and len(found.figures()) == 5
    monkeypatch.setattr(comparison, "known_rows", lambda study, profile: [fp32])
    assert "No claim" not in " ".join(comparison.compare("memory-in-small").sentences())


def test_of_a_run_made_twice_the_later_row_counts(rows):
    older = {**copy.deepcopy(rows[0]), "date": "2020-01-01T00:00:00+00:00"}
    assert comparison.latest([rows[0], older, rows[1]]) == rows


def test_rows_of_two_places_are_not_compared(made, rows, monkeypatch, capsys):
    other = copy.deepcopy(rows[1])
    other |= {"device": "NVIDIA A100 MIG 1g.20gb", "metrics": copy.deepcopy(rows[0]["metrics"])}  # timed in any case
    other["metrics"] |= {"multiprocessors": 14, "driver": "550.1", "cuda": "12.8"}
    monkeypatch.setattr(comparison, "known_rows", lambda study, profile: [rows[0], other])
    with pytest.raises(KitError, match=r"2 places \(.*NVIDIA A100 MIG 1g.20gb, 14 SMs, driver 550.1, CUDA 12.8"):
        comparison.compare("memory-in-small")
    found, said = comparison.compare_or_why_not("memory-in-small", "laptop")
    assert found is None and said[0].startswith("No comparison: Times were taken in 2 places")
    only = comparison.compare("memory-in-small", device="a100")
    assert {cell["technique"] for cell in only.cells} == {"flash"}
    with pytest.raises(UsageError, match="timed on 'H100'; there are laptop"):
        comparison.compare("memory-in-small", device="H100")


def test_the_published_size_without_any_run(runs, capsys, tmp_path):
    assert cli.main(["compare", "memory", "--profile", "mig20", "--figures", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "of the 18 recorded ones" in said and "A window changes nothing" in said and "RTX 5090" in said
    assert len(list(tmp_path.glob("memory-mig20-*.png"))) == 6
    assert cli.main(["compare", "memory", "--profile", "mig20", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)
    assert len(cells) == 36 and {cell["found"] for cell in cells} == {"predicted", "recorded"}


def test_recorded_speed_is_that_of_the_epoch_and_not_of_its_steps():
    [cell] = [
        cell for cell in comparison.recorded_cells("memory") if (cell["technique"], cell["batch_size"]) == ("fp32", 128)
    ]
    run = evidence("memory")["runs"]["baseline_bs128"]
    assert 128 / cell["rows_per_second"] == pytest.approx(run["epoch_s"] / 2786)
    assert 128 / cell["rows_per_second"] > 1.9 * run["mean_step_s"]  # read without waiting: half of the epoch
    assert not any("rows_per_second" in cell for cell in comparison.recorded_cells("memory", timed=False))


def test_nothing_to_compare_is_said(runs, capsys):
    assert cli.main(["compare", "poster"]) == 1
    assert "no row with measured memory at the profile laptop" in capsys.readouterr().err
    assert cli.main(["compare", "memroy"]) == 2
    assert comparison.compare_or_why_not("poster", "laptop") == (None, [])
