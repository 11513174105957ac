"""A new source is a new folder and nothing else: a copy of the package with one more study answers its claim."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import stlm_kit
from stlm_kit.notebook_files import notebooks_dir

STUDY = """
source: example
title: An example
citation: nobody, 2026
claims:
- id: example.tokens_per_step
  where: "Table 1"
  kind: arithmetic
  statement: one step processes this many tokens
  published: "512"
  unit: tokens
  how: rows of a batch times context length
  setting: {rows: 8, positions: 64}
runs:
- name: "b{batch_size}"
  grid: {batch_size: [8]}
  parameters: {corpus: sotu, preset: laptop-llama, context_length: 64, steps: 2}
  profiles: {laptop: {}}
"""
ANSWERS = """
from stlm_kit.ledger.answers import answers


@answers("example.tokens_per_step")
def tokens(setting):
    return setting["rows"] * setting["positions"]
"""


@pytest.fixture
def stlm(tmp_path):
    """`stlm` of a copy of the kit with one more folder in studies/; gives what it prints."""
    house = tmp_path / "house"
    shutil.copytree(Path(stlm_kit.__file__).parent, house / "stlm_kit", ignore=shutil.ignore_patterns("__pycache__"))
    (house / "notebooks").mkdir()
    shutil.copy(notebooks_dir() / "run.ipynb", house / "notebooks")
    folder = house / "stlm_kit" / "studies" / "example"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    (folder / "answers.py").write_text(ANSWERS)
    environment = {**os.environ, "PYTHONPATH": str(house), "STLM_RUNS": str(tmp_path / "runs")}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "stlm_kit", *arguments]
        done = subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_claim_and_a_run_of_a_new_folder(stlm):
    [row] = json.loads(stlm("ledger", "--source", "example", "--json"))
    assert (row["id"], row["verdict"], row["found"]) == ("example.tokens_per_step", "exact", 512)
    listed = stlm("reproduce", "example", "--list")
    assert "b8" in listed and "missing" in listed
