"""A study file of one's own has a name, rows and texts of its own, whatever it is a copy of."""

import shutil

import pytest
import yaml

from stlm_kit.cli import main
from stlm_kit.reproduce.request import Request, plan
from stlm_kit.reproduce.study_file import load_study
from stlm_kit.reproduce.study_names import KEPT, study_names, study_path

GRID = {"name": "s{steps}", "grid": {"steps": [1, 2]}, "profiles": {"laptop": {}}}


def write(path, **parameters):
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"source": "memory", "title": "Mine", "citation": "me"}
    path.write_text(yaml.safe_dump({**about, "runs": [{**GRID, "parameters": parameters}]}))
    return path


@pytest.mark.parametrize(
    "file, name",
    [
        ("rates.yaml", "rates"),
        ("rates of mine/study.yaml", "rates-of-mine"),
        ("two rates (b).yaml", "two-rates-b"),
        ("v1.2.yaml", "v1.2"),
        ("().yaml", "study"),
        ("memory.yaml", "my-memory"),
        ("memory/study.yaml", "my-memory"),
        ("chapter-03.yaml", "my-chapter-03"),
        *((f"{kept}.yaml", f"my-{kept}") for kept in sorted(KEPT)),
    ],
)
def test_a_file_names_its_study(tmp_path, runs, file, name):
    study = load_study(write(tmp_path / file))
    assert (study.name, study.is_own) == (name, True)
    planned = plan(Request([str(tmp_path / file)]))
    assert {run.folder.parent for run in planned} == {runs / name}


def test_the_kits_own_studies_keep_their_names(tmp_path):
    for name in study_names():
        for study in (load_study(name), load_study(study_path(name))):
            assert (study.name, study.is_own) == (name, False)
    copied = load_study(shutil.copy(study_path("memory"), tmp_path / "memory.yaml"))
    assert copied.name == "my-memory" and copied.cells("laptop") == load_study("memory").cells("laptop")


def test_a_kept_name_is_said_once(tmp_path, capsys):
    from stlm_kit.reproduce.study_names import _tell

    _tell.cache_clear()
    file = str(write(tmp_path / "gpu.yaml"))
    assert main(["reproduce", file, "--list"]) == main(["reproduce", file, "--list"]) == 0
    assert capsys.readouterr().err == "The kit keeps the name 'gpu' for itself; your study is called 'my-gpu'.\n"


def test_relative_paths_are_read_from_the_files_folder(tmp_path, monkeypatch):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("A text.")
    (tmp_path / "sotu").write_text("A file that is called like a corpus.")
    monkeypatch.chdir(tmp_path / "texts")
    cells = load_study(write(tmp_path / "mine.yaml", corpus="texts/a.txt", tokenizer="bytes")).cells("laptop")
    assert cells["s1"].parameters["corpus"] == str(tmp_path / "texts" / "a.txt")
    assert cells["s1"].parameters["tokenizer"] == "bytes"
    for corpus in ("sotu", "texts/b.txt"):  # a name, and a file that is not there
        cells = load_study(write(tmp_path / "mine.yaml", corpus=corpus)).cells("laptop")
        assert cells["s1"].parameters["corpus"] == corpus
