"""benchmarks/gpu.py rehearses every section on a processor, with what it says it needs and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stlm_kit.errors import KitError
from stlm_kit.ledger.gpu_rows import import_gpu_rows
from stlm_kit.reproduce import results

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "benchmarks" / "gpu.py"
NEEDED = ["torch", "numpy", "pydantic", "safetensors", "jaxtyping", "filelock", "tokenizers", "tqdm"]
# A machine with a GPU may lack all of these: the rehearsal runs as if they were not installed.
NOT_NEEDED = """IPython ipywidgets jupyter_client matplotlib datasets pandas pyarrow papermill nbformat nbval nbgrader
    rich scipy yaml flash_attn pytest transformers""".split()  # noqa: SIM905
HIDE = f"""
from importlib.machinery import PathFinder

find = PathFinder.find_spec

def find_the_others(name, path=None, target=None):
    return None if name.split(".")[0] in {NOT_NEEDED} else find(name, path, target)

PathFinder.find_spec = staticmethod(find_the_others)
"""


def rehearsal(folder, *options, python=sys.executable):
    """Run the script on the processor; gives (exit code, what it printed, rows by name)."""
    (folder / "sitecustomize.py").write_text(HIDE)
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "STLM_RUNS": str(folder / "runs")}
    command = [python, SCRIPT, "--device", "cpu", "--out", folder / "out", *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, cwd=folder)
    path = folder / "out" / "gpu.jsonl"
    rows = {row["name"]: row for row in results.read_rows(path)} if path.is_file() else {}
    return done.returncode, done.stdout + done.stderr, rows


def test_every_section_rehearses_with_little_installed(tmp_path):
    code, said, rows = rehearsal(tmp_path, "--minutes", "8")
    assert code == 0, said
    metrics = {name: row["metrics"] for name, row in rows.items()}
    assert not [name for name, each in metrics.items() if each.get("ok") is False]
    assert {name.split(".")[0] for name in metrics} == {"parity", "memory", "speed", "learning"}
    # Each section found out something, and its finding is a number.
    assert metrics["parity.resumed.deterministic"]["equal"] is True
    assert 0 < metrics["parity.recipe.bf16"]["gradient"] < 2**-7
    assert abs(metrics["memory.fp32-b32"]["error_peak_allocated_mib"]) < 1e-3
    assert metrics["memory.largest.fp32"]["found"] > 1
    assert metrics["speed.stlm-50m.fp32"]["steps_per_second"] > 0
    assert metrics["learning.killed"]["held_out_best"] < metrics["learning.killed"]["first_loss"] - 1
    assert "transformers is not installed" in said
    with pytest.raises(KitError, match="a rehearsal on a processor"):
        import_gpu_rows(tmp_path / "out" / "gpu.jsonl")


def test_time_that_runs_out_ends_it_with_the_rows_that_there_are(tmp_path):
    code, said, rows = rehearsal(tmp_path, "--only", "speed", "--minutes", "0.00001")
    assert code == 0 and "time ran out before: rates" in said and not rows


@pytest.mark.parametrize(
    "options, words", [(["--only", "heat"], "invalid choice: 'heat'"), (["--minutes", "0"], "a time above 0")]
)
def test_a_wrong_option_is_told(options, words, tmp_path):
    code, said, _ = rehearsal(tmp_path, *options)
    assert code == 2 and words in said


def test_a_gpu_that_is_not_there_is_told(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--device", "cuda", "--out", tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 2 and "torch finds no CUDA GPU here" in done.stderr


@pytest.mark.skipif("STLM_FUZZ" not in os.environ, reason="make fuzz: it installs torch 2.11, some gigabytes")
def test_it_rehearses_under_the_oldest_torch_that_it_names(tmp_path):
    """In an environment of its own, with the packages that the script's help names."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", *NEEDED, "torch==2.11.0"], check=True)
    code, said, rows = rehearsal(tmp_path, "--minutes", "8", python=python)
    assert code == 0, said
    assert all(row["versions"]["torch"].startswith("2.11.0") for row in rows.values()) and len(rows) > 40


def test_help_names_what_is_needed():
    said = SCRIPT.read_text().split('"""')[1]
    assert all(name in said for name in NEEDED)
