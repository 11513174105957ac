"""Predicted cells: what the study lists, kept as rows that a new prediction bears out."""

import json
import math

import pytest
import yaml

from stlm_kit import cli
from stlm_kit.errors import KitError, UsageError
from stlm_kit.ledger.answers import evidence
from stlm_kit.reproduce import results
from stlm_kit.reproduce.study_file import Study, load_study
from stlm_kit.studies.memory import predictions
from stlm_kit.studies.memory.predicted import TECHNIQUES, cell_of, crossing

STUDY = load_study("memory")
CELLS = predictions.cells(STUDY)
ROWS = {row["name"]: row for row in results.recorded("memory-predictions")}
ABOUT = {"source": "mine", "title": "Mine", "citation": "nobody", "claims": []}
GRID = {"name": "b{batch_size}", "grid": {"batch_size": [2]}, "profiles": {"mig20": {}}}
SMALL = {"preset": "laptop-gpt2", "recipe": "fp32", "n_layers": 1}


def study(**parameters) -> Study:
    return Study.model_validate({**ABOUT, "predicted": [{**GRID, "parameters": {**SMALL, **parameters}}]})


def test_every_cell_has_its_row_and_no_row_is_left_over():
    assert list(ROWS) == list(CELLS)
    assert {name: row["configuration"] for name, row in ROWS.items()} == CELLS
    assert {row["metrics"]["kind"] for row in ROWS.values()} == {"predicted"}


def test_the_18_cells_are_the_18_runs():
    runs = STUDY.expand("mig20")
    assert len(runs) == 18 and {cell_of(name) for name in evidence("memory")["runs"]} == set(runs)
    for name, run in runs.items():
        cell = CELLS[name]
        assert cell["preset"] == run["preset"] == "memory-study"
        assert (cell["recipe"], cell["batch_size"]) == (run["recipe"], run["batch_size"])
        assert cell["overrides"].get("window") == run.get("window") and cell["padded"] and not cell["whole_step"]
        assert run["context_length"] == 255 and run["steps"] == math.ceil(356_596 / run["batch_size"])
    assert set(TECHNIQUES.values()) == {name.rsplit("-b", 1)[0] for name in runs}


@pytest.mark.parametrize("run", evidence("memory")["runs"])
def test_recorded_peaks_are_met_within_a_thousandth(run):
    found, recorded = ROWS[cell_of(run)]["metrics"], evidence("memory")["runs"][run]
    assert found["peak_allocated_mib"] == pytest.approx(recorded["peak_mib"], rel=1e-3)
    assert found["after_forward_mib"] == pytest.approx(recorded["after_forward_mib"], rel=1e-3)


@pytest.mark.parametrize("name", ["fp32-b32", "window-16-b128", "chunked-sdpa-checkpoint-packed", "flash-tokens-4096"])
def test_a_row_is_what_is_predicted_today(name):
    again = predictions.predict(ROWS[name]["configuration"])
    for size in predictions.SIZES:
        assert again[size] == pytest.approx(ROWS[name]["metrics"][size], rel=1e-4)


def test_the_targets_of_all_techniques_together():
    packed = {name: row["metrics"]["peak_allocated_mib"] for name, row in ROWS.items() if name.endswith("-packed")}
    assert packed["chunked-sdpa-checkpoint-packed"] <= 1300 < packed["study-packed"]
    assert packed["chunked-sdpa-tiled-packed"] < 0.9 * packed["chunked-sdpa-checkpoint-packed"]
    leaner = [packed[f"bf16-flash{more}-packed"] for more in ("", "-chunked", "-chunked-checkpoint")]
    assert leaner == sorted(leaner, reverse=True)


def test_only_what_changed_is_predicted_again(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "project_dir", lambda: tmp_path)
    monkeypatch.setattr(predictions, "load_study", lambda name: study())
    [first] = predictions.write_predictions("mine")
    assert first["metrics"]["peak_allocated_mib"] > 0 and first["configuration"]["overrides"] == {"n_layers": 1}
    [second] = predictions.write_predictions("mine")
    assert second == first
    path = predictions.predictions_file("mine")
    assert predictions.predicted("mine") == {"b2": first["metrics"]}
    path.write_text(json.dumps({**first, "source": "0" * 64}) + "\n")
    [third] = predictions.write_predictions("mine")
    assert third["source"] == first["source"] and third["metrics"] == first["metrics"]


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"n_layer": 3}, UsageError, "'b2' has no parameter 'n_layer'.*'n_layers'"),
        ({"preset": "memory"}, UsageError, "no preset"),
        ({"recipe": "fp33"}, UsageError, "no recipe"),
    ],
)
def test_cells_that_cannot_be(changes, error, sentence):
    with pytest.raises(error, match=sentence):
        [predictions.predict(one) for one in predictions.cells(study(**changes)).values()]


def test_a_cell_predicted_twice_is_refused():
    content = yaml.safe_load(yaml.safe_dump({**ABOUT, "predicted": [{**GRID, "parameters": SMALL}] * 2}))
    with pytest.raises(KitError, match="predicts 'b2' twice"):
        predictions.cells(Study.model_validate(content))


def test_writing_is_for_a_study_that_lists_cells(capsys):
    assert cli.main(["predict", "--study", "poster", "--write"]) == 2
    assert "lists nothing under `predicted:`" in capsys.readouterr().err
    assert cli.main(["predict", "--preset", "memory-study", "--write"]) == 2
    assert "give --study as well" in capsys.readouterr().err


def test_crossing_is_read_off_the_line():
    assert crossing({4: 20.0, 8: 40.0}, 30.0) == 6 and crossing({4: 20.0, 8: 40.0}, 40.0) == 8
    with pytest.raises(KitError, match="None of the predicted cells reaches 50"):
        crossing({4: 20.0, 8: 40.0}, 50.0)
