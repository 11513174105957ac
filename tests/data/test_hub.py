"""The hub's loaders, on small local folders of the same layout and schema; the hub itself is out of reach here."""

import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path
from urllib.parse import quote

import pytest
from hub_folders import ARTICLES, FOLDERS, WIKITEXT, parquet
from local_hub import COMMIT, local_hub

from stlm_kit import KitError, load_corpus
from stlm_kit.data import corpus_names, hub
from stlm_kit.data.hub_cache import damage, find_kept, keep, kept_folder, manifest_of, split_files
from stlm_kit.data.hub_corpora import SPEAKLEASH


@pytest.fixture(autouse=True)
def cache(computing_node):
    return computing_node


@pytest.fixture
def fetched(tmp_path):
    """Fetches a corpus from a folder of its layout, and gives its splits as texts."""

    def fetch(name, max_documents=None):
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        FOLDERS[name](folder)
        hub.fetch(name, max_documents, folder)
        return {split: list(rows["text"]) for split, rows in load_corpus(name, max_documents=max_documents).items()}

    return fetch


def documents(name, max_documents=None):
    return {split: [text for _, text in rows] for split, rows in hub.load_documents(name, max_documents)[0].items()}


@pytest.mark.parametrize("name", ["wikitext-2", "wikitext-103"])
def test_wikitext_lines_become_articles(fetched, name):
    assert fetched(name) == dict.fromkeys(("train", "validation", "test"), ARTICLES)
    described = load_corpus(name)["test"].info.description
    assert hub.HUB[name].revision in described and "CC BY-SA" in described and "as the corpus brings it" in described


@pytest.mark.parametrize("empty", [" \n", "\n", ""])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_wikitext_as_a_raw_file_by_path_is_the_same_articles(tmp_path, empty, end):
    raw = "".join(line or empty for line in WIKITEXT)
    for part in ("train", "valid", "test"):
        (tmp_path / f"wiki.{part}.raw").write_text(raw, newline=end)
    corpus = load_corpus(tmp_path)
    assert {split: list(rows["text"]) for split, rows in corpus.items()} == dict.fromkeys(corpus, ARTICLES)
    (tmp_path / "wiki.txt").write_text(raw * 15)
    assert sorted(text for rows in load_corpus(tmp_path / "wiki.txt").values() for text in rows["text"]) == sorted(
        ARTICLES * 15
    )


def test_penn_treebank_sentences(fetched):
    assert fetched("penn-treebank")["validation"] == ["validation <unk> N", "no it was n't"]


def test_c4_streams_the_first_documents(fetched, tmp_path):
    corpus = fetched("c4", 50)
    by_path = load_corpus(tmp_path / "source" / "en", max_documents=50)
    first = documents("c4", 50)["train"]
    assert {text for rows in by_path.values() for text in rows["text"]} == set(first)
    assert sorted(text for texts in corpus.values() for text in texts) == sorted(first)
    assert first[38:42] == ["0:38", "0:39", "1:0", "1:1"] and len(first) == 50
    assert "first 50 documents" in load_corpus("c4", max_documents=50)["train"].info.description


def test_fewer_documents_come_from_what_is_kept_already(fetched, cache):
    fetched("c4", 50)
    assert documents("c4", 3)["train"] == ["0:0", "0:1", "0:2"]
    assert find_kept("c4", 3) == find_kept("c4", 50) == kept_folder("c4", 50)
    assert find_kept("c4", 51) is None
    with pytest.raises(KitError, match="stlm data get c4"):
        load_corpus("c4", max_documents=51)


def test_redpajama_files_with_different_metadata(fetched):
    fetched("redpajama")
    assert documents("redpajama")["train"] == [
        f"{n} {i}\u2028" for n in ("cc_2019-30", "cc_2020-05") for i in range(12)
    ]


def test_simple_wikipedia_articles(fetched):
    corpus = fetched("simple-wikipedia")
    assert {split: len(texts) for split, texts in corpus.items()} == {"train": 25, "validation": 3, "test": 2}
    assert documents("simple-wikipedia")["train"][1] == "Month 2 is a month.\n\nIt has days.\n\nReferences\n"


def test_a_dialogue_is_a_turn_a_line(fetched):
    corpus = fetched("dailydialog")
    assert corpus["test"] == [
        "Say , Jim , how about a few beers ?\nYou know test .",
        "Can you do push-ups ?\nOf course I can .",
    ]
    record = hub.load_records("dailydialog")["test"][1]
    assert record == {"dialog": ["Can you do push-ups ? ", " Of course I can . "], "act": [2, 1], "emotion": [0, 4]}


def test_squad_is_split_by_article(fetched):
    corpus = fetched("squad")
    assert {split: len(texts) for split, texts in corpus.items()} == {"train": 18, "validation": 2, "test": 2}
    assert corpus["test"][0] == (
        "Super_Bowl_50, paragraph 0: the game was played on February 7.\n\n"
        "Question: When was it (0)?\nAnswer: February 7\nQuestion: When was it (1)?\nAnswer: February 7"
    )
    records = hub.load_records("squad")
    assert [record["context"] for record in records["validation"]] == [t.split("\n\n")[0] for t in corpus["validation"]]
    titles = {split: {record["title"] for record in records[split]} for split in records}
    assert len(titles["validation"]) == 1 and len(titles["train"]) == 9 and not titles["train"] & titles["validation"]
    assert records["test"][0]["questions"][1] == {
        "id": "Super_Bowl_50-0-1",
        "question": " When was it (1)?",
        "answers": {"text": ["February 7", "7"], "answer_start": [51, 60]},
    }
    others = {load_corpus("squad", split_seed=seed)["validation"]["name"][0] for seed in range(5)}
    assert len(others) > 1 and all(name.startswith("Article_") for name in others)
    assert "a tenth of the other articles" in load_corpus("squad")["train"].info.description
    with pytest.raises(KitError, match="of one article"):
        load_corpus("squad", max_documents=2)


def test_a_summary_follows_its_article(fetched):
    corpus = fetched("cnn-dailymail")
    assert len(corpus["train"]) == 6 and corpus["train"][2].startswith("LONDON (train 1)")
    assert corpus["validation"][0] == (
        "LONDON (validation 0) -- He turns 18 .\n\nSummary:\nHe turns 18 .\nHe has a fortune ."
    )
    assert hub.load_records("cnn-dailymail", 1)["test"][0]["highlights"] == "He turns 18 .\nHe has a fortune ."


def test_speakleash_archive_from_a_folder(fetched):
    assert sum(map(len, fetched("speakleash-forum").values())) == 30
    assert documents("speakleash-forum", 2)["train"] == ["Post 0\nz dwiema liniami", "Post 1\nz dwiema liniami"]


def test_plain_documents_have_no_records(fetched):
    with pytest.raises(KitError, match="without fields"):
        hub.load_records("penn-treebank")


def test_every_entry_pins_files_and_no_script():
    for name, entry in hub.HUB.items():
        assert len(entry.revision) == 40 or entry.revision == "refs/convert/parquet", name
        assert all(pattern.endswith((".parquet", ".jsonl", ".json.gz")) for pattern in entry.files.values())
        assert set(entry.files) in ({"train"}, {"train", "test"}, {"train", "validation", "test"})
    assert set(hub.NAMES) < set(corpus_names())
    assert set(FOLDERS) == set(hub.NAMES)  # each has a test on a folder of its layout


def test_data_md_lists_every_corpus_with_its_pin():
    page = (Path(__file__).parents[2] / "data" / "DATA.md").read_text(encoding="utf-8")
    assert "Not tested against the hub" in page
    for name in corpus_names():
        assert f"| `{name}`" in page, name
    for entry in hub.HUB.values():
        assert f"{entry.repo}, {entry.revision}" in page


def test_the_manifest_says_what_is_kept(fetched, tmp_path):
    fetched("wikitext-2")
    folder = kept_folder("wikitext-2", None)
    manifest = manifest_of(folder)
    assert manifest["revision"] == hub.HUB["wikitext-2"].revision and manifest["columns"] == {"text": "string"}
    test = manifest["splits"]["test"]
    assert (test["documents"], test["text_bytes"]) == (2, sum(len(text.encode()) for text in ARTICLES))
    assert test["from"] == str(tmp_path / "source") and damage("wikitext-2", folder) == {}
    path = split_files("wikitext-2", folder)["test"]
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    assert damage("wikitext-2", folder, hashes=False) == {} and "SHA-256" in damage("wikitext-2", folder)["test"]
    before = split_files("wikitext-2", folder)["train"].stat().st_mtime_ns
    hub.fetch("wikitext-2", base=tmp_path / "source", verify=True)
    assert damage("wikitext-2", folder) == {} and documents("wikitext-2")["test"] == ARTICLES
    assert split_files("wikitext-2", folder)["train"].stat().st_mtime_ns == before  # what was whole stays


def test_what_was_fetched_before_there_were_manifests_is_read_and_entered(tmp_path):
    FOLDERS["wikitext-2"](tmp_path)
    entry = hub.HUB["wikitext-2"]
    folder = kept_folder("wikitext-2", None)
    for split in entry.files:
        keep(hub.rows(entry, str(tmp_path), split, None), folder / f"{split}.parquet")
    assert list(load_corpus("wikitext-2")["test"]["text"]) == ARTICLES and manifest_of(folder) == {}
    (folder / "train.parquet").write_bytes(b"half of it")
    hub.fetch("wikitext-2", base=tmp_path)
    assert manifest_of(folder)["splits"]["test"]["from"].startswith("fetched before")
    assert documents("wikitext-2")["train"] == ARTICLES


KILLED = """
import os, signal, sys
from stlm_kit.data import hub
whole = hub.rows
def rows(entry, place, split, wanted):
    for number, row in enumerate(whole(entry, place, split, wanted)):
        if split == "validation" and number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield row
hub.rows = rows
hub.fetch("cnn-dailymail", base=sys.argv[1])
"""


def test_a_killed_fetch_leaves_nothing_that_looks_whole_and_goes_on(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    FOLDERS["cnn-dailymail"](source)
    assert subprocess.run([sys.executable, "-c", KILLED, str(source)]).returncode == -9
    folder = kept_folder("cnn-dailymail", None)
    assert [path.name for path in folder.glob("*.parquet")] == ["train.parquet"] and find_kept(
        "cnn-dailymail", None
    ) is None
    assert list(folder.glob("validation.parquet.part-*")) != []
    first = (folder / "train.parquet").stat().st_mtime_ns
    hub.fetch("cnn-dailymail", base=source)
    assert (folder / "train.parquet").stat().st_mtime_ns == first and list(folder.glob("*.part-*")) == []
    assert len(documents("cnn-dailymail")["validation"]) == 2


def test_a_disk_that_is_too_small_is_said_before_anything_is_taken(tmp_path, monkeypatch, cache):
    FOLDERS["squad"](tmp_path)
    monkeypatch.setattr(hub, "free_bytes", lambda: 1000)
    with pytest.raises(KitError, match=r"squad takes about .* free some space") as raised:
        hub.fetch("squad", base=tmp_path)
    assert str(raised.value).count("\n") == 0 and not cache.exists()
    assert hub.expected_bytes("c4", 10_000) == 22_709_231 and hub.expected_bytes("redpajama", None) is None


def test_a_layout_that_is_not_the_pinned_one(tmp_path):
    with pytest.raises(KitError, match="Could not read"):
        hub.fetch("penn-treebank", base=tmp_path)
    for split in ("train", "validation", "test"):
        parquet(tmp_path / f"penn_treebank/{split}/0000.parquet", {"text": ["wrong column"]})
        parquet(tmp_path / f"default/{split}/0000.parquet", {"dialog": [["a"]], "act": [[1]]})
    with pytest.raises(KitError, match="no field 'sentence'"):
        hub.fetch("penn-treebank", base=tmp_path)
    with pytest.raises(KitError, match="no field 'emotion'"):
        hub.fetch("dailydialog", base=tmp_path)
    with pytest.raises(KitError, match="There is no folder"):
        hub.fetch("dailydialog", base=tmp_path / "nowhere")
    assert find_kept("dailydialog", None) is None


def test_a_hub_name_without_network_is_one_sentence(tmp_path):
    code = "import stlm_kit as kit\ntry: kit.load_corpus('wikitext-2')\nexcept kit.KitError as error: print(error)"
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "STLM_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "'wikitext-2' lies on the Hugging Face hub, which did not answer" in done.stdout
    assert "stlm data get wikitext-2" in done.stdout and done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_every_corpus_over_the_hubs_own_interface_at_its_pinned_revision(tmp_path):
    """From a server on this machine that answers as the hub does: addresses, revisions and patterns as they go out."""
    repository = tmp_path / "repository"
    repository.mkdir()
    for make in {FOLDERS[name] for name in hub.HUB}:
        make(repository)
    with local_hub(repository) as (address, asked):
        env = os.environ | {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
        command = [sys.executable, "-m", "stlm_kit", "data", "get", *hub.HUB]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for name, entry in hub.HUB.items():
        paths = [path for path in asked if f"/{entry.repo}/" in path]
        revision = quote(entry.revision, safe="")
        assert any("/resolve/" in path for path in paths) and all(f"/{revision}" in path for path in paths), name
        parts = manifest_of(find_kept(name, entry.first))["splits"]
        assert {part["from"] for part in parts.values()} == {f"the hub, commit {COMMIT}"}
        hub.fetch(name, base=repository)  # it is there, so nothing is fetched again
        assert all(documents(name).values()), name


def test_speakleash_missing_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "speakleash", None)
    with pytest.raises(KitError, match="pip install speakleash"):
        load_corpus("speakleash-forum")


class Server:
    """Speakleash's interface (its own package talks to a server as soon as it is made), with 30 posts or none."""

    posts: list[str] | None = None

    def __init__(self, folder):
        assert Path(folder).is_dir()

    def get(self, name):
        found = types.SimpleNamespace(data=iter(self.posts)) if self.posts else None
        return found if name == "forum_forum_poradnikogrodniczy_pl_corpus" else None


def test_speakleash_documents(tmp_path, monkeypatch):
    config = types.SimpleNamespace(load_config=lambda: {"url_datasets_text_pl": f"{tmp_path.as_uri()}/"})
    monkeypatch.setitem(sys.modules, "speakleash", types.SimpleNamespace(Speakleash=Server))
    monkeypatch.setitem(sys.modules, "speakleash.config_loader", types.SimpleNamespace(ConfigLoader=config))
    with pytest.raises(KitError, match="lies on Speakleash's server, which did not answer"):
        load_corpus("speakleash-forum")
    (tmp_path / "forum_forum_poradnikogrodniczy_pl_corpus.manifest").write_text("{}")
    with pytest.raises(KitError, match="did not offer"):
        load_corpus("speakleash-forum")
    monkeypatch.setattr(Server, "posts", [f"Post {i}\nz dwiema liniami" for i in range(30)] + [""])
    corpus = load_corpus("speakleash-forum", max_documents=25)
    assert sum(len(rows) for rows in corpus.values()) == 25
    monkeypatch.setattr(Server, "posts", None)  # a computing node: what was fetched needs no server again
    assert list(load_corpus("speakleash-forum", max_documents=25)["test"]["text"]) == list(corpus["test"]["text"])


def test_speakleash_with_its_own_package_and_a_server_of_the_same_layout(tmp_path, monkeypatch):
    """The package as it is (pip install speakleash), over HTTP, its address turned to this machine."""
    package = pytest.importorskip("speakleash", reason="the package speakleash is not installed")
    import functools
    import threading
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    from speakleash.config_loader import ConfigLoader

    corpus = SPEAKLEASH["speakleash-forum"].files["train"].removesuffix(".jsonl.zst")
    FOLDERS["speakleash-forum"](tmp_path)
    size = (tmp_path / f"{corpus}.jsonl.zst").stat().st_size
    (tmp_path / "speakleash.json").write_text(json.dumps([{"name": corpus}]))
    (tmp_path / f"{corpus}.manifest").write_text(json.dumps({"stats": {"documents": 31}, "file_size": size}))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = {"url_datasets_text_pl": f"http://127.0.0.1:{server.server_port}/"}
        monkeypatch.setattr(ConfigLoader, "load_config", staticmethod(lambda: address))
        assert sum(len(rows) for rows in load_corpus("speakleash-forum").values()) == 30
        server.shutdown()
    assert package and documents("speakleash-forum")["train"][29] == "Post 29\nz dwiema liniami"  # without its server
    shutil.rmtree(kept_folder("speakleash-forum", None))
    with pytest.raises(KitError, match="lies on Speakleash's server, which did not answer"):
        load_corpus("speakleash-forum")
