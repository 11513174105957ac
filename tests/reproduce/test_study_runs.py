"""Whatever can be set can be set in a study's file, and a run by hand has the notebook's own settings."""

import json

import nbformat
import papermill
import pytest

from stlm_kit.commands.reproduce import reproduce
from stlm_kit.errors import UsageError
from stlm_kit.notebook_files import notebooks_dir
from stlm_kit.options import settable, settings_from
from stlm_kit.reproduce.request import Request
from stlm_kit.reproduce.study_runs import ASSUMED, run_parameters

STUDY = """
source: mine
title: Mine
citation: nobody
runs:
- name: "{technique}-s{seed}"
  grid: {technique: {flat: {window: 4}, plain: {}}, seed: [3]}
  parameters: {preset: laptop-gpt2, norm_epsilon: 1e-4, beta_1: 0.8, eval_documents: 2, steps: 2, batch_size: 2,
    context_length: 16, tokenizer: preset, device: auto}
  profiles: {laptop: {}}
"""


def test_a_study_file_reaches_the_preset_the_training_and_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "verses.txt").write_text("\n\n".join(f"Verse {n}: the fox number {n} jumps." for n in range(60)))
    (tmp_path / "mine.yaml").write_text(STUDY)
    given = {"corpus": str(tmp_path / "verses.txt"), "beta_2": "0.9", "n_layers": "1", "device": "cpu"}
    asked = Request([str(tmp_path / "mine.yaml")], parameters=given, only="flat-s3")
    [end] = reproduce(asked, figures=tmp_path / "figures")
    config = json.loads((end.run.folder / "config.json").read_text())
    assert (config["model"]["norm_epsilon"], config["model"]["n_layers"], config["model"]["window"]) == (1e-4, 1, 4)
    assert (config["training"]["beta_1"], config["training"]["beta_2"], config["training"]["seed"]) == (0.8, 0.9, 3)
    assert (config["run"]["eval_documents"], config["run"]["tokenizer"], config["run"]["device"]) == (2, None, "cpu")
    record = json.loads((end.run.folder / "run.json").read_text())
    assert record["labels"] == {"technique": "flat", "seed": 3}
    [row] = [json.loads(line) for line in (end.run.folder.parent / "rows.jsonl").open()]
    assert row["labels"] == record["labels"] and len(row["metrics"]["first_losses"]) == 2


def test_what_a_study_does_not_say():
    laptop, full = (run_parameters({"steps": 3}, profile)["settings"] for profile in ("laptop", "mig20"))
    assert laptop == {**ASSUMED["laptop"], "steps": 3} and "eval_documents" not in full
    assert settings_from(laptop).device in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", sorted(settable().keys() - {"device", "tokenizer"}))
def test_every_setting_can_be_asked_for(name):
    """Each at the value that it has by default, or in the preset."""
    plain = settings_from({})
    from stlm_kit import preset

    value = getattr(plain, name) if hasattr(plain, name) else getattr(preset(plain.preset), name)
    assert run_parameters({name: value}, "laptop")["settings"][name] == value


def test_the_notebook_by_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STLM_RUN_DIR", raising=False)
    source = notebooks_dir() / "run.ipynb"
    executed = papermill.execute_notebook(source, tmp_path / "out.ipynb", kernel_name="python3", progress_bar=False)
    said = "".join(out.get("text", "") for cell in executed.cells for out in cell.get("outputs", []))
    assert "perplexity" in said and "bits a byte" in said
    nbformat.validate(executed)


def test_in_the_notebook_a_number_in_quotes_is_a_slip():
    with pytest.raises(UsageError, match="steps = '100' will not do"):
        settings_from({"steps": "100"})
