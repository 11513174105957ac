"""docs/cluster.md, followed from top to bottom on the real cluster: every command of its `sh` blocks, in order.

`mig20` is written as `laptop`, since no GPU is here. The corpus comes from a server on this machine that answers as the
hub does, and the slices from a stand-in for nvidia-smi.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from local_hub import local_hub

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cluster.md"
SMI = """#!/bin/sh
echo "GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)"
echo "  MIG 2g.20gb     Device  0: (UUID: MIG-41b35414-0cbf-5b26-a0a5-1a4ff4e2b7c1)"
echo "  MIG 2g.20gb     Device  1: (UUID: MIG-52c46525-1dc0-5c37-b1b6-2b500503c8d2)"
"""


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def hub(tmp_path):
    """WikiText-2 with the columns and the file names of the hub's."""
    folder = tmp_path / "hub" / "wikitext-2-raw-v1"
    folder.mkdir(parents=True)
    lines = [line for n in range(30) for line in ("", f" = Title {n} = \n", "", f" Text number {n} . \n")]
    for split in ("train", "validation", "test"):
        pq.write_table(pa.table({"text": lines}), folder / f"{split}-00000-of-00001.parquet")
    with local_hub(tmp_path / "hub") as (address, _):
        yield address


@pytest.fixture
def shell(cluster, hub, runs, tmp_path, monkeypatch):
    """Runs a line as a reader's shell would, in a folder that holds the page's study file and the notebooks."""
    folder = tmp_path / "work"
    folder.mkdir()
    [study] = blocks("yaml sweep.yaml")
    (folder / "sweep.yaml").write_text(study)
    (folder / "notebooks").symlink_to(PAGE.parents[1] / "notebooks")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {
        "nvidia-smi": SMI,
        "stlm": f'#!/bin/sh\nexec "{sys.executable}" -m stlm_kit "$@"\n',
        "papermill": f'#!/bin/sh\nexec "{sys.executable}" -m papermill "$@" --no-progress-bar\n',
    }.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    values = {"SLURM_CONF": cluster.environment["SLURM_CONF"], "HF_ENDPOINT": hub, "OMP_NUM_THREADS": "1"}
    values |= {"STLM_CACHE": str(tmp_path / "cache"), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def run(line: str) -> str:
        said = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, timeout=400)
        assert said.returncode == 0, f"{line}\n{said.stdout}{said.stderr}"
        return said.stdout

    return run


def test_every_command_of_the_page_does_what_it_says(shell, runs, tmp_path):
    lines = [line for block in blocks("sh") for line in block.replace("mig20", "laptop").splitlines() if line.strip()]
    assert len(lines) == 17
    said = {line: shell(line) for line in lines}

    def told(beginning: str) -> str:
        [found] = [text for line, text in said.items() if line.startswith(beginning)]
        return found

    assert "wikitext-2" in told("stlm data get wikitext-2")
    assert (tmp_path / "cache" / "corpora").is_dir()
    assert "lr-0.001-seed-0" in told("stlm plan")
    assert "--array=1-4" in told("stlm submit sweep.yaml --profile laptop --gres gpu:2g.20gb:1 --cpus 1 --dry-run")
    assert "4 runs: 4 done; nothing is left to compute." in told("stlm status sweep.yaml --profile laptop --watch")
    table = told("stlm results sweep.yaml --profile laptop --by learning_rate --over seed --against 0.001")
    assert re.search(r"^0\.003\s+2\s", table, re.MULTILINE)
    assert "\\begin{tabular}" in told("stlm results sweep.yaml --profile laptop --by learning_rate --latex")
    assert (tmp_path / "work" / "sweep.png").is_file()
    rows = [json.loads(line) for line in (runs / "sweep" / "rows.jsonl").open()]
    assert len(rows) == 4 and {row["status"] for row in rows} == {"done"}
    assert (tmp_path / "work" / "sweep-report" / "report.html").is_file()
    [row] = [json.loads(line) for line in (runs / "papermill" / "rows.jsonl").open()]
    assert row["configuration"]["steps"] == 20 and (tmp_path / "work" / "two.ipynb").is_file()
    assert "laptop-gpt2-sotu" in told("stlm results papermill") or "20" in told("stlm results papermill")
    assert "sweep: 4 rows" in told("stlm reproduce sweep.yaml --profile laptop --collect")
