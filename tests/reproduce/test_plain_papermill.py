"""papermill by itself: its own command, its Python call and its parameter files, in real kernels.

Each run has its folder, goes on after kill -9, leaves its row, and stops at a parameter that will not do.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import yaml

from stlm_kit.notebook_files import notebooks_dir
from stlm_kit.reproduce.request import Request, chapter_run, plan
from stlm_kit.reproduce.rows import collect

RUN = notebooks_dir() / "run.ipynb"
PAPERMILL = [sys.executable, "-m", "papermill"]
TINY = {"preset": "laptop-gpt2", "n_layers": 1, "d_model": 16, "n_heads": 2, "context_length": 16, "batch_size": 2}
TINY |= {"tokenizer": "bytes", "eval_documents": 1}


@pytest.fixture
def corpus(tmp_path, runs, monkeypatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "lines.txt"
    path.write_text("\n\n".join(f"Line {n} says {n * n}, and then {n * n * n}." for n in range(60)))
    return path


def words(parameters: dict) -> list[str]:
    return [word for name, value in parameters.items() for word in ("-p", name, str(value))]


def papermill(tmp_path: Path, *arguments: str, notebook: Path = RUN) -> subprocess.CompletedProcess:
    command = [*PAPERMILL, str(notebook), str(tmp_path / "out.ipynb"), "--no-progress-bar", *arguments]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)


def the_row(study: Path) -> dict:
    [row] = [json.loads(line) for line in (study / "rows.jsonl").open()]
    return row


def test_the_command_trains_in_a_folder_goes_on_after_kill_9_and_leaves_its_row(corpus, runs, tmp_path):
    settings = {**TINY, "corpus": corpus, "steps": 300, "checkpoint_every": 20, "learning_rate": 2e-3}
    command = [*PAPERMILL, str(RUN), str(tmp_path / "out.ipynb"), "--no-progress-bar", *words(settings)]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 240
    while not list(runs.glob("papermill/*/checkpoint/step-*/state.json")):
        assert first.poll() is None and time.monotonic() < end, first.communicate()[1]
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    [folder] = [path.parent for path in runs.glob("papermill/*/run.json")]
    kept = ""
    while kept != (kept := (folder / "metrics.jsonl").read_text()):  # the kernel saves and ends
        time.sleep(1.2)
    assert kept.count("\n") < 300 and not (folder / "result.json").exists()

    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert [row["step"] for row in rows] == list(range(1, 301))
    begun = kept.splitlines()[:20]
    assert [json.loads(line)["training_seconds"] for line in begun] == [row["training_seconds"] for row in rows[:20]]
    row = the_row(runs / "papermill")
    assert row["name"] == "laptop-gpt2-lines" and f"{row['name']}-{row['hash']}" == folder.name
    assert row["configuration"]["learning_rate"] == 2e-3 and row["metrics"]["bits_per_byte"] > 0
    assert json.loads((folder / "run.json").read_text())["status"] == "done"

    third = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)  # nothing is left to do
    assert third.returncode == 0 and the_row(runs / "papermill") == row
    assert [json.loads(line) for line in (folder / "metrics.jsonl").open()] == rows


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"stepz": 5}, "There is nothing to set under the name 'stepz'. Did you mean 'steps'?"),
        ({"steps": "many"}, "steps = 'many' will not do: input should be a valid integer."),
        ({"profil": "laptop"}, "There is nothing to set under the name 'profil'. Did you mean"),
        (
            {"study": "memory", "run_name": "fp32-b5"},
            "The study memory has no run 'fp32-b5' at the profile laptop.",
        ),
    ],
)
def test_the_command_fails_at_a_parameter_that_will_not_do(parameters, sentence, corpus, runs, tmp_path):
    ended = papermill(tmp_path, *words(parameters))
    assert ended.returncode != 0 and sentence in ended.stderr
    assert not list(runs.glob("*/*"))


def test_a_file_of_parameters_names_a_run_of_a_study(corpus, runs, tmp_path):
    """The folder is that of `stlm reproduce`, which then has nothing to do."""
    small = {**TINY, "corpus": str(corpus), "steps": 2, "learning_rate": "2e-3"}  # YAML reads 1e-3 as text
    study = {"source": "mine", "title": "t", "citation": "c"}
    grid = {"name": "seed-{seed}", "grid": {"seed": [0, 1]}, "profiles": {"laptop": {}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**study, "runs": [{**grid, "parameters": small}]}))
    file = tmp_path / "parameters.yaml"
    file.write_text(yaml.safe_dump({"study": str(tmp_path / "mine.yaml"), "run_name": "seed-1", "batch_size": 3}))
    ended = papermill(tmp_path, "-f", str(file))
    assert ended.returncode == 0, ended.stderr
    [_, run] = plan(Request([str(tmp_path / "mine.yaml")], parameters={"batch_size": "3"}))
    assert run.finished and run.state() == "done" and collect("mine") == [the_row(runs / "mine")]
    assert the_row(runs / "mine")["labels"] == {"seed": 1}


def test_the_python_call_without_any_parameter_is_known_for_papermill_s(corpus, runs, tmp_path):
    """A notebook of one's own with the kit's cells, beside the script that runs it."""
    book = nbformat.read(RUN, as_version=4)
    [cell] = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", [])]
    settings = {**TINY, "corpus": str(corpus), "steps": 2}
    values = {"profile": "laptop", "study": "", "run_name": "mine", "settings": settings, "measure_memory": False}
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    nbformat.write(book, tmp_path / "mine.ipynb")
    script = "import papermill\npapermill.execute_notebook('mine.ipynb', 'out.ipynb', progress_bar=False)"
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    row = the_row(runs / "papermill")
    assert (row["name"], row["configuration"]["steps"]) == ("mine", 2)
    book = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert f"{row['name']}-{row['hash']}" in str(book.cells)


TRAINS = """
import stlm_kit as kit
from stlm_kit import checks
from stlm_kit.reproduce.rows import run_folder
run = checks.parameters(profile=profile, seed=seed, steps=steps, corpus=corpus)
"""
TRAINED = """
size = {"n_layers": 1, "d_model": 16, "n_heads": 2, "context_length": 16}
settings = kit.run_settings(preset="laptop-gpt2", steps=run.steps, corpus=run.corpus, seed=run.seed, tokenizer="bytes",
                            batch_size=2, overrides=size | {"context_length": 16}, context_length=16, eval_documents=1)
trained = kit.train_from_text(settings, run_folder(), progress=False)
"""


def test_a_chapter_that_trains_has_its_folder_its_row_and_its_refusals(course, corpus, runs, tmp_path):
    notebook = course.chapter("05_small", TRAINS, TRAINED)
    wrong = papermill(tmp_path, "-p", "sede", "1", notebook=notebook)
    assert wrong.returncode != 0
    assert "The notebook 05_small.ipynb has no parameter 'sede'. Did you mean 'seed'?" in wrong.stderr
    ended = papermill(tmp_path, "-p", "seed", "4", "-p", "corpus", str(corpus), notebook=notebook)
    assert ended.returncode == 0, ended.stderr
    run = chapter_run(notebook, "laptop", {"seed": 4, "corpus": str(corpus)})
    assert run.state() == "done" and (run.folder / "metrics.jsonl").read_text().count("\n") == 3
    row = the_row(runs / "chapters")
    assert row["seed"] == 4 and row["metrics"]["steps"] == 3 and row["configuration"]["preset"] == "laptop-gpt2"


def test_a_python_call_from_another_folder_finds_its_notebook(course, corpus, runs, tmp_path):
    notebook = course.chapter("05_small", TRAINS)
    script = f"import papermill\npapermill.execute_notebook({str(notebook)!r}, 'out.ipynb', progress_bar=False)"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ended = subprocess.run([sys.executable, "-c", script], cwd=elsewhere, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert chapter_run(notebook).state() == "done"


def test_a_cell_that_fails_is_written_down_and_a_second_start_waits_for_no_lock(course, corpus, runs, tmp_path):
    notebook = course.chapter("05_small", TRAINS, "raise ValueError('the moon is full')")
    ended = papermill(tmp_path, notebook=notebook)
    assert ended.returncode != 0
    [record] = [json.loads(path.read_text()) for path in runs.glob("chapters/*/run.json")]
    assert (record["status"], record["sentence"], record["cell"]) == ("failed", "the moon is full", 3)
    assert record["line"].startswith("raise ValueError")
    held = chapter_run(notebook).lock
    with held:
        ended = papermill(tmp_path, notebook=notebook)
    assert ended.returncode != 0 and "Another job is at this run" in ended.stderr


def test_a_reader_in_jupyterlab_keeps_nothing(runs):
    """No papermill, no folder: what a plain kernel or this process sees."""
    from stlm_kit.reproduce.plain_papermill import executes_this

    assert not executes_this() and "STLM_RUN_DIR" not in os.environ


def test_memory_that_ends_in_a_chapter_is_a_failure_as_it_is_for_the_runner(course, runs, tmp_path):
    notebook = course.chapter("05_small", TRAINS, "raise MemoryError('can\\'t allocate memory')")
    assert papermill(tmp_path, notebook=notebook).returncode != 0
    assert chapter_run(notebook).state() == "failed"
