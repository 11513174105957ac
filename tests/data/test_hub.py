"""The hub's loaders, on small local folders of the same layout and schema; the hub itself is out of reach here."""

import gzip
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stlm_kit import KitError, load_corpus
from stlm_kit.data import corpus_names, hub

WIKITEXT = ["", " = Robert Boulter = \n", "", " He acts . \n", " = = Career = = \n", " In 2000 = he did . \n", "", "",
            " = Du Fu = \n", "", " A poet . \n", ""]  # fmt: skip
ARTICLES = [" = Robert Boulter = \n He acts . \n = = Career = = \n In 2000 = he did . \n", " = Du Fu = \n A poet . \n"]


def parquet(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def wikitext(tmp_path):
    for config in ("wikitext-2-raw-v1", "wikitext-103-raw-v1"):
        parquet(tmp_path / config / "train-00000-of-00002.parquet", text=WIKITEXT[:5])
        parquet(tmp_path / config / "train-00001-of-00002.parquet", text=WIKITEXT[5:])  # an article crosses the files
        for split in ("validation", "test"):
            parquet(tmp_path / config / f"{split}-00000-of-00001.parquet", text=WIKITEXT)
    return tmp_path


@pytest.mark.parametrize("name", ["wikitext-2", "wikitext-103"])
def test_wikitext_lines_become_articles(wikitext, name):
    splits, origin = hub.load_documents(name, base=wikitext)
    assert {split: [text for _, text in rows] for split, rows in splits.items()} == dict.fromkeys(
        ("train", "validation", "test"), ARTICLES
    )
    assert hub.HUB[name].revision in origin and "CC BY-SA" in origin


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


def test_penn_treebank_sentences(tmp_path):
    for split in ("train", "validation", "test"):
        parquet(tmp_path / f"penn_treebank/{split}/0000.parquet", sentence=[f"{split} <unk> N", "no it was n't"])
    splits, _ = hub.load_documents("penn-treebank", base=tmp_path)
    assert [text for _, text in splits["validation"]] == ["validation <unk> N", "no it was n't"]


def test_c4_streams_the_first_documents(tmp_path):
    (tmp_path / "en").mkdir()
    for shard in range(2):
        with gzip.open(tmp_path / f"en/c4-train.0000{shard}-of-01024.json.gz", "wt") as file:
            for i in range(40):
                file.write(json.dumps({"text": f"{shard}:{i}", "timestamp": "2019-04-25T12:57:54Z", "url": "u"}) + "\n")
    splits, origin = hub.load_documents("c4", 50, base=tmp_path)
    by_path = load_corpus(tmp_path / "en", max_documents=50)
    assert {text for rows in by_path.values() for text in rows["text"]} == {text for _, text in splits["train"]}
    assert [text for _, text in splits["train"]][38:42] == ["0:38", "0:39", "1:0", "1:1"]
    assert list(splits) == ["train"] and len(splits["train"]) == 50 and "first 50 documents" in origin


def test_redpajama_files_with_different_metadata(tmp_path):
    for name, meta in (
        ("cc_2019-30", {"source": "cc", "language": "en"}),
        ("cc_2020-05", {"pred_label": "x", "wiki_prob": 0.3}),
    ):
        rows = [json.dumps({"text": f"{name} {i}\u2028", "meta": meta}, ensure_ascii=False) for i in range(3)]
        (tmp_path / f"{name}_sample.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "arxiv_sample.jsonl").write_text(json.dumps({"text": "left out", "meta": {}}) + "\n")
    splits, _ = hub.load_documents("redpajama", base=tmp_path)
    expected = [f"{name} {i}\u2028" for name in ("cc_2019-30", "cc_2020-05") for i in range(3)]
    assert [text for _, text in splits["train"]] == expected


def test_every_entry_pins_files_and_no_script():
    for name, entry in hub.HUB.items():
        assert len(entry.revision) == 40 or entry.revision == "refs/convert/parquet", name
        assert all(pattern.endswith((".parquet", ".jsonl", ".json.gz")) for pattern in entry.files.values())
        assert set(entry.files) in ({"train"}, {"train", "validation", "test"})
    assert set(hub.NAMES) < set(corpus_names())


def test_data_md_lists_every_corpus_with_its_pin():
    page = (Path(__file__).parents[2] / "data" / "DATA.md").read_text(encoding="utf-8")
    assert "Not tested against the hub" in page
    for name in corpus_names():
        assert f"| `{name}`" in page, name
    for entry in hub.HUB.values():
        assert f"{entry.repo}, {entry.revision}" in page


def test_what_was_fetched_is_kept_and_needs_no_network_again(wikitext, empty_cache, monkeypatch):
    entry = hub.HUB["wikitext-2"]
    folder = empty_cache / "corpora" / f"wikitext-2-{entry.revision}-all"
    for split in entry.files:
        hub.keep(hub.rows(entry, str(wikitext), split, None), folder / f"{split}.parquet")
    corpus = load_corpus("wikitext-2")
    assert list(corpus["test"]["text"]) == ARTICLES and "as the corpus brings it" in corpus["test"].info.description


def test_a_layout_that_is_not_the_pinned_one(tmp_path):
    with pytest.raises(KitError, match="Could not read"):
        hub.load_documents("penn-treebank", base=tmp_path)
    for split in ("train", "validation", "test"):
        parquet(tmp_path / f"penn_treebank/{split}/0000.parquet", text=["wrong column"])
    with pytest.raises(KitError, match="no field 'sentence'"):
        hub.load_documents("penn-treebank", base=tmp_path)


def test_a_hub_name_without_network_is_one_sentence(tmp_path):
    code = "import stlm_kit as kit\ntry: kit.load_corpus('wikitext-2')\nexcept kit.KitError as error: print(error)"
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "STLM_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "'wikitext-2' lies on the Hugging Face hub, which did not answer" in done.stdout
    assert "stlm data get wikitext-2" in done.stdout and done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


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


def test_speakleash_documents(monkeypatch):
    monkeypatch.setitem(sys.modules, "speakleash", types.SimpleNamespace(Speakleash=Server))
    with pytest.raises(KitError, match="did not offer"):
        load_corpus("speakleash-forum")
    monkeypatch.setattr(Server, "posts", [f"Post {i}\nz dwiema liniami" for i in range(30)] + [""])
    corpus = load_corpus("speakleash-forum", max_documents=25)
    assert sum(len(rows) for rows in corpus.values()) == 25
