"""`stlm data get` and `stlm data check`, on local folders laid out as the repositories are; no hub is asked."""

import json
from pathlib import Path

import pytest
import yaml
from hub_folders import FOLDERS

from stlm_kit import load_corpus
from stlm_kit.cli import main
from stlm_kit.data import hub

pytestmark = pytest.mark.usefixtures("computing_node")


@pytest.fixture
def copy(tmp_path):
    """Makes a folder laid out as the repositories of some corpora are."""

    def make(*names: str) -> str:
        for name in names:
            folder = tmp_path / "copy"
            folder.mkdir(exist_ok=True)
            FOLDERS[name](folder)
        return str(tmp_path / "copy")

    return make


def checked(capsys, *arguments: str) -> tuple[int, dict]:
    status = main(["data", "check", *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", FOLDERS)
def test_every_corpus_fills_the_cache_and_is_read_from_it(name, copy, capsys):
    assert main(["data", "get", name, "--from", copy(name)]) == 0
    said = capsys.readouterr()
    assert said.out.count("\n") == 2 and "MiB are free" in said.out and "bytes of text" in said.out
    corpus = load_corpus(name)
    status, found = checked(capsys, name)
    (look,) = found["corpora"]
    assert (status, look["state"], look["hashes"], found["mend"]) == (0, "cached", "ok", "")
    assert look["revision"] == hub.CORPORA[name].revision and look["columns"] == hub.CORPORA[name].columns
    assert sum(look["documents"].values()) == sum(len(rows) for rows in corpus.values())
    assert look["text_bytes"] == sum(len(text.encode()) for rows in corpus.values() for text in rows["text"])
    assert found["free_bytes"] > 0


def test_one_that_fails_does_not_stop_the_others(copy, capsys):
    folder = copy("penn-treebank", "dailydialog")
    assert main(["data", "get", "penn-treebank", "squad", "sotu", "dailydialog", "--from", folder]) == 1
    said = capsys.readouterr()
    assert "stlm: Not fetched: squad; the lines above say why." in said.err and "squad: Could not read" in said.err
    assert "sotu: 249 documents" in said.out
    status, found = checked(capsys, "penn-treebank", "squad", "sotu", "dailydialog")
    assert status == 1 and found["mend"] == "stlm data get squad"
    assert [look["state"] for look in found["corpora"]] == ["cached", "missing", "shipped", "cached"]


def test_what_is_there_is_not_fetched_again(copy, capsys):
    folder = copy("c4")
    assert main(["data", "get", "c4", "--max-documents", "60", "--from", folder]) == 0
    assert "the first 60 documents: takes about" in capsys.readouterr().out
    assert main(["data", "get", "c4", "--max-documents", "50"]) == 0  # of the 60, though no hub answers
    assert capsys.readouterr().out.startswith("c4: train 60 documents")
    assert main(["data", "get", "c4"]) == 1
    assert "did not answer for allenai/c4" in capsys.readouterr().err


def test_a_damaged_file_is_found_and_mended(copy, capsys):
    folder = copy("squad")
    assert main(["data", "get", "squad", "--from", folder]) == 0
    path = hub.split_files("squad", hub.find_kept("squad", None))["test"]
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    assert main(["data", "check", "squad"]) == 1
    said = capsys.readouterr().out
    assert "test.parquet has another SHA-256" in said and "to mend it: stlm data get squad\n" in said
    assert main(["data", "get", "squad", "--from", folder]) == 0
    assert main(["data", "check", "squad"]) == 0


def test_without_names_it_is_what_the_studies_need_at_full_size(copy, capsys):
    assert main(["data", "check"]) == 1
    said = capsys.readouterr().out
    get = "stlm data get speakleash-forum simple-wikipedia qwen3 && stlm data get redpajama c4 --max-documents 20000"
    assert f"to mend it: {get}\n" in said and "free disk" in said
    assert main(["data", "check", "--study", "memory"]) == 1
    assert "to mend it: stlm data get speakleash-forum\n" in capsys.readouterr().out
    assert main(["data", "get", "speakleash-forum", "--from", copy("speakleash-forum")]) == 0
    assert main(["data", "check", "--study", "memory"]) == 0
    assert main(["data", "check", "--study", "memory", "--profile", "laptop"]) == 0


def test_a_study_of_ones_own(tmp_path, copy, capsys):
    axis = {
        "web": {"corpus": "c4", "max_documents": 70},
        "talk": {"corpus": "dailydialog"},
        "mine": {"corpus": "x.txt"},
    }
    runs = [{"name": "{text}", "grid": {"text": axis}, "profiles": {"mig20": {}}}]
    study = tmp_path / "mine.yaml"
    study.write_text(yaml.safe_dump({"source": "mine", "title": "t", "citation": "c", "runs": runs}, sort_keys=False))
    status, found = checked(capsys, "--study", str(study))
    assert status == 1 and [look["state"] for look in found["corpora"]] == ["missing"] * 3
    assert found["mend"] == "stlm data get c4 --max-documents 70 && stlm data get dailydialog"
    folder = copy("c4", "dailydialog")
    (tmp_path / "x.txt").write_text("a text")
    for command in found["mend"].split(" && "):
        assert main([*command.split()[1:], "--from", folder]) == 0
    capsys.readouterr()
    study.write_text(study.read_text().replace("x.txt", str(tmp_path / "x.txt")))
    status, found = checked(capsys, "--study", str(study))
    assert (status, [look["state"] for look in found["corpora"]]) == (0, ["cached", "cached", "path"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["get", "qwen"], "There is no corpus 'qwen'. Did you mean 'qwen3'?"),
        (["get", "sqaud"], "There is no corpus 'sqaud'. Did you mean 'squad'?"),
        (["get", "c4", "--max-documents", "0"], "leaves no document"),
        (["check", "--profile", "mig2"], "Did you mean 'mig20'"),
        (["check", "--study", "memroy"], "Did you mean 'memory'"),
        (["check", "--study", "layerdrop"], "has no runs at the profile mig20"),
    ],
)
def test_wrong_use(arguments, sentence, capsys):
    assert main(["data", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_get_needs_the_folder(capsys):
    assert main(["data", "get", "squad", "--from", str(Path("no", "such"))]) == 1
    assert "There is no folder" in capsys.readouterr().err
