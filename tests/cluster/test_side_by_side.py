"""`stlm reproduce --slices`: real workers side by side, each with its slice in CUDA_VISIBLE_DEVICES.

No GPU is here: the slices are what a stand-in for nvidia-smi lists, and the workers train on the CPU. That CUDA gives
each worker its own slice was confirmed by no GPU.
"""

import json
import signal
import time
from pathlib import Path

import nbformat
import pytest
import yaml

from stlm_kit import cli
from stlm_kit.cluster.side_by_side import run_workers, status_of
from stlm_kit.errors import Interrupted
from stlm_kit.notebook_files import notebooks_dir
from stlm_kit.slices import Slice

UUIDS = ["MIG-41b35414-aa4b-5c38-9c6f-1d8b0a7bd4a1", "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"]
LIST = f"""\
GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 2g.20gb     Device  0: (UUID: {UUIDS[0]})
  MIG 1c.2g.20gb  Device  1: (UUID: {UUIDS[1]})
"""
TWO = [Slice("NVIDIA A100 MIG 2g.20gb", "MIG-a", "2g.20gb", 0), Slice("NVIDIA A100 MIG 1g.10gb", "MIG-b", "1g.10gb", 0)]

# Before a run trains it notes its worker's slice, and the first two wait for each other: two workers, at the same time.
MEET = """
import os, time
from pathlib import Path
here = Path(os.environ["STLM_RUN_DIR"])
with (here / "slices.txt").open("a") as file:
    print(os.environ["CUDA_VISIBLE_DEVICES"], file=file)
end = time.monotonic() + 120
while len(list(here.parent.glob("*/slices.txt"))) < 2:
    assert time.monotonic() < end, "no other worker came"
    time.sleep(0.05)
"""


@pytest.fixture
def study(tmp_path, runs, monkeypatch) -> list[str]:
    """What asks for four tiny runs at mig20 on two slices."""
    (tmp_path / "lines.txt").write_text("\n\n".join(f"Line {n} says {n * n}, then {n * n * n}." for n in range(90)))
    parameters = {"corpus": str(tmp_path / "lines.txt"), "tokenizer": "bytes", "preset": "laptop-gpt2", "steps": 4}
    parameters |= {"context_length": 16, "batch_size": 2, "n_layers": 1, "d_model": 16, "n_heads": 2, "d_ff": 16}
    grid = {"name": "seed-{seed}", "grid": {"seed": [1, 2, 3, 4]}, "parameters": parameters}
    grid |= {"profiles": {"mig20": {}, "laptop": {}}}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"source": "mine", "title": "t", "citation": "c", "runs": [grid]}))
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n[ \"$1\" = -L ] && printf '%s' '{LIST}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("STLM_ALLOW_CPU", "1")
    monkeypatch.chdir(tmp_path)
    command = ["reproduce", str(path), "--profile", "mig20", "--slices", "auto", "--figures", str(tmp_path / "figs")]
    return [*command, "--unchecked"]  # predicting their memory would take longer than the runs


def wait_for(condition, seconds: float = 120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@pytest.fixture
def notebooks(tmp_path) -> Path:
    """The kit's own run.ipynb with a meeting before the training."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    notebook = nbformat.read(notebooks_dir() / "run.ipynb", as_version=4)
    at = next(n for n, cell in enumerate(notebook.cells) if "train_and_record" in cell.source)
    notebook.cells.insert(at, nbformat.v4.new_code_cell(MEET))
    nbformat.write(notebook, folder / "run.ipynb")
    return folder


def test_two_workers_share_four_runs(study, notebooks, forks, runs, tmp_path, monkeypatch):
    """Each run once, on one slice; rows, comparison and report once, by the one that started the workers."""
    monkeypatch.setenv("STLM_TENSORBOARD", "1" if _has("tensorboard") else "0")
    monkeypatch.setenv("STLM_WANDB", "tiny" if _has("wandb") else "0")
    monkeypatch.setenv("WANDB_MODE", "offline")
    command = [*study, "--notebooks", notebooks]
    assert forks.run(*command) == 0, forks.out.read_text() + forks.error.read_text()
    out = forks.out.read_text()
    folders = sorted((runs / "tiny").glob("seed-*"))
    used = [(folder / "slices.txt").read_text().split() for folder in folders]
    assert len(used) == 4 and all(len(lines) == 1 for lines in used)  # each run was executed once
    assert {line for lines in used for line in lines} == set(UUIDS)
    assert out.count("done in ") == 4 and "[1: 2g.20gb] seed-" in out and "[2: 1c.2g.20gb] seed-" in out
    assert out.count("Report: ") == 1 and "[1: 2g.20gb] Report" not in out and (tmp_path / "figs").is_dir()
    assert "tiny: 4 rows" in out and len({json.loads((f / "row.json").read_text())["loss"] for f in folders}) == 4
    for folder in folders:  # trackers reach the runs of a study
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 4
        assert len(list((folder / "tensorboard").glob("events.*"))) == int(_has("tensorboard"))
        assert len(list((folder / "wandb").glob("offline-run-*/*.wandb"))) == int(_has("wandb"))
    assert forks.run(*command) == 0 and "slice 1" not in forks.out.read_text()  # all done: no worker starts


def _has(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--list"], 2, "leave out --list"),
        (["--recheck"], 2, "leave out --recheck"),
        (["--force"], 2, "leave out --force"),
        (["--slices", "MIG-nowhere"], 2, "'MIG-nowhere' names no slice"),
        (["--only", "seed-9"], 2, "None of these runs is called 'seed-9'"),
    ],
)
def test_what_will_not_do_is_told_before_any_worker_starts(study, capsys, options, status, said):
    assert cli.main([*study, *options]) == status
    captured = capsys.readouterr()
    assert said in captured.err and "slice 1" not in captured.out


def test_without_slices_there_is_a_sentence(study, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert cli.main(study) == 1
    assert "nvidia-smi lists no MIG slice here among CUDA_VISIBLE_DEVICES=''" in capsys.readouterr().err


def test_a_process_that_could_use_several_is_told(study, capsys, monkeypatch):
    """Without --slices the runs go on, on the first."""
    monkeypatch.setattr("stlm_kit.commands.reproduce.execute_runs", lambda *_, **__: [])
    alone = [word for word in study if word not in ("--slices", "auto")]
    assert cli.main([*alone, "--no-report"]) == 0
    assert "2 MIG slices are here and a process can use one" in capsys.readouterr().err
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUIDS[1][:12])
    assert cli.main([*alone, "--no-report"]) == 0
    assert capsys.readouterr().err == ""


def test_a_signal_reaches_every_worker(study, notebooks, forks, runs):
    """All stop as they would alone, their states kept; the exit status is 3."""
    text = Path(study[1]).read_text().replace("steps: 4", "steps: 100000")
    Path(study[1]).write_text(text)
    forks.start(*study, "--notebooks", notebooks)
    wait_for(lambda: len(list((runs / "tiny").glob("*/metrics.jsonl"))) == 2)
    forks.send(signal.SIGTERM)
    assert forks.wait() == Interrupted.exit_status
    out, err = forks.out.read_text(), forks.error.read_text()
    assert out.count("it goes on when started again") == 2 and "Report" not in out
    assert err.splitlines()[-1].startswith("stlm: Stopped; what was finished is kept")
    records = [json.loads(path.read_text()) for path in (runs / "tiny").glob("seed-*/run.json")]
    assert [record["status"] for record in records] == ["interrupted", "interrupted"]


def test_workers_print_lines_of_their_own_and_get_the_slice(capfd, monkeypatch, tmp_path):
    """Any program does for this one: each line is whole, behind its slice, on the stream it came by."""
    program = tmp_path / "stlm_kit.py"
    program.write_text(
        "import os, sys\nfor n in range(200): print(os.environ['CUDA_VISIBLE_DEVICES'], n, *sys.argv[1:], flush=True)\n"
        "print('café', file=sys.stderr)\nsys.exit(int(os.environ['CUDA_VISIBLE_DEVICES'] == 'MIG-b'))\n"
    )
    monkeypatch.chdir(tmp_path)  # where `python -m` looks first
    assert run_workers(TWO, ["a", "b c"]) == [0, 1]
    out, err = capfd.readouterr()
    for behind, uuid in (("[1: 2g.20gb] ", "MIG-a"), ("[2: 1g.10gb] ", "MIG-b")):
        lines = [line.removeprefix(behind) for line in out.splitlines() if line.startswith(behind)]
        assert lines == [f"{uuid} {n} a b c" for n in range(200)]
    assert sorted(err.splitlines()) == ["[1: 2g.20gb] café", "[2: 1g.10gb] café"]


@pytest.mark.parametrize(
    ("statuses", "all_done", "status"),
    [
        ([0, 0], True, 0),
        ([0, 1], False, 1),
        ([0, 3], True, 3),
        ([2, 1], False, 2),
        ([-9, 0], False, 1),
        ([1, 0], True, 0),  # refused on the small slice, done on the large one
        ([], True, 0),
    ],
)
def test_one_exit_status_for_all(statuses, all_done, status):
    assert status_of(statuses, all_done) == status
