"""What makes another run, and what does not."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import stlm_kit.provenance
from stlm_kit.errors import KitError
from stlm_kit.provenance import versions
from stlm_kit.reproduce.run_hash import content_hash, identity, notebook_hash, run_hash


def test_outputs_prose_and_metadata_do_not_count(course):
    path = course.chapter("00_a", "x = 1")
    before = notebook_hash(path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, course.prose("a better title"))
    notebook.cells[-1].source = "%matplotlib inline\nx = 1  # one"
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", text="1")]
    notebook.cells[-1].execution_count = 7
    notebook.metadata["papermill"] = {"duration": 3}
    nbformat.write(notebook, path)
    assert notebook_hash(path) == before


def test_code_counts(course):
    assert notebook_hash(course.chapter("00_a", "x = 1")) != notebook_hash(course.chapter("00_b", "x = 2"))
    assert notebook_hash(course.chapter("00_a", "x = 1")) == notebook_hash(course.chapter("00_c", "x = 1"))


def test_parameters_count_in_any_order(course):
    path = course.chapter("00_a")
    assert run_hash(path, {"seed": 0, "steps": 3}) == run_hash(path, {"steps": 3, "seed": 0})
    assert len({run_hash(path, {"seed": seed}) for seed in range(5)}) == 5


def test_the_content_of_a_corpus_counts_and_not_its_place(course, tmp_path):
    path = course.chapter("00_a")
    here, there = tmp_path / "here.txt", tmp_path / "there.txt"
    here.write_text("some text")
    there.write_text("some text")
    assert run_hash(path, {"corpus": str(here)}) == run_hash(path, {"corpus": str(there)})
    in_settings = [{"settings": {"corpus": str(place), "steps": 3}} for place in (here, there)]
    assert run_hash(path, in_settings[0]) == run_hash(path, in_settings[1])
    assert identity(path, in_settings[0])["parameters"] == {"settings": {"steps": 3}}
    there.write_text("other text")
    content_hash.cache_clear()
    assert run_hash(path, {"corpus": str(here)}) != run_hash(path, {"corpus": str(there)})
    assert run_hash(path, in_settings[0]) != run_hash(path, in_settings[1])


def test_the_names_in_a_folder_of_texts_count(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    before = content_hash(tmp_path / "texts")
    (tmp_path / "texts" / "a.txt").rename(tmp_path / "texts" / "b.txt")
    content_hash.cache_clear()
    assert content_hash(tmp_path / "texts") != before


def test_leftovers_in_a_folder_of_texts_do_not_count(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    before = content_hash(tmp_path / "texts")
    for name in (".ipynb_checkpoints/a-checkpoint.txt", "a.txt~"):
        (tmp_path / "texts" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "texts" / name).write_text("a")
    content_hash.cache_clear()
    assert content_hash(tmp_path / "texts") == before


def test_a_name_wins_over_a_file_of_that_name(course, tmp_path, monkeypatch):
    (tmp_path / "sotu").write_text("not the corpus")
    monkeypatch.chdir(tmp_path)
    assert identity(course.chapter("00_a"), {"corpus": "sotu"})["contents"] == {}


def test_identity_names_what_it_covers(course):
    covered = identity(course.chapter("00_a"), {"seed": 3})
    assert covered["parameters"] == {"seed": 3}
    assert covered["versions"]["torch"] == versions()["torch"]
    json.dumps(covered)


def test_source_hash_covers_python_and_yaml_only(tmp_path):
    def hash_of(folder: Path) -> str:
        spec = importlib.util.spec_from_file_location("copied_identity", folder / "identity.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.source_hash()

    package = tmp_path / "package"
    package.mkdir()
    shutil.copy(stlm_kit.provenance.__file__, package / "identity.py")
    before = hash_of(package)
    (package / "page.html.j2").write_text("a page")
    assert hash_of(package) == before
    (package / "study.yaml").write_text("runs: []")
    with_study = hash_of(package)
    (package / "study.yaml").write_bytes(b"runs: []\r\n")
    with_line = hash_of(package)
    (package / "study.yaml").rename(package / "other.yaml")
    assert len({before, with_study, with_line, hash_of(package)}) == 4


def test_hashing_needs_no_torch(course):
    path = course.chapter("00_a")
    program = f"""
import sys
from stlm_kit.reproduce.run_hash import run_hash
print(run_hash({str(path)!r}, {{"seed": 0}}), "torch" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert found == [run_hash(path, {"seed": 0}), "False"]


def test_not_a_notebook(tmp_path):
    (tmp_path / "x.ipynb").write_text("no json")
    with pytest.raises(KitError, match="cannot be read as a notebook"):
        notebook_hash(tmp_path / "x.ipynb")


def test_code_cells_are_not_run_together(course):
    assert notebook_hash(course.chapter("00_a", "x = 1\ny = 2")) != notebook_hash(
        course.chapter("00_b", "x = 1\n", "y = 2")
    )


def test_a_prompt_counts_and_so_does_a_cell_of_another_language(course):
    cells = ['prompt = "Once upon a time."', 'prompt = "Twice upon a time."', "%%bash\necho 1", "%%bash\necho 2"]
    assert len({notebook_hash(course.chapter("00_a", cell)) for cell in cells}) == 4
