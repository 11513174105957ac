"""What of a folder is read: leftovers are no data, a split is kept or refused, and what is not read is said."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stlm_kit import KitError, load_corpus
from stlm_kit.data.corpora import read_record
from stlm_kit.data.layout import split_of

SPLIT = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}


def make(folder, files):
    """Write {place: text, or a list of rows for .parquet} below a folder; gives the folder."""
    for place, content in files.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            pq.write_table(pa.table({"text": content}), path)
        else:
            path.write_text(content)
    return folder


def split_texts(folder, **options):
    return {split: list(rows["text"]) for split, rows in load_corpus(folder, **options).items()}


def all_texts(folder, **options):
    return sorted(text for texts in split_texts(folder, **options).values() for text in texts)


def complaint(folder, **options):
    with pytest.raises(KitError) as caught:
        load_corpus(folder, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith("."), sentence
    return sentence


LEFTOVERS = [
    ".ipynb_checkpoints/s0-checkpoint.txt", ".git/info.txt", ".cache/a.txt", ".hidden.txt", "._s0.txt",
    "__pycache__/a.txt", "__MACOSX/s0.txt", "node_modules/a.txt", "Thumbs.db", "desktop.ini", "s0.txt~", ".s0.txt.swp",
    "s1.txt.part", "s1.txt.part-123", "s1.txt.lock", "#s2.txt#", "~$s3.txt", "s4.bak", "s5.txt.crdownload", "s6.tmp",
    "s7.sync-conflict-20261127-000000-AAAAAAA.txt", "s8 (conflicted copy 2026-11-27).txt", "README.md", "LICENSE.txt",
    "LICENSE", "s.LICENSE.txt", "deeper/README.txt",
]  # fmt: skip


def test_leftovers_of_tools_and_systems_are_no_data_and_are_said(tmp_path):
    texts = [f"text number {n}" for n in range(22)]
    make(tmp_path, {f"s{n}.txt": text for n, text in enumerate(texts)})
    make(tmp_path, dict.fromkeys(LEFTOVERS, "left over"))
    assert all_texts(tmp_path) == sorted(texts)
    record = read_record(load_corpus(tmp_path))
    assert record["n_files"] == 22 and record["file_bytes"] == sum(map(len, texts))
    assert {place.split("/")[0] for place in record["not_read"]} == {place.split("/")[0] for place in LEFTOVERS}


def test_a_folder_of_readmes_is_a_corpus_of_readmes(tmp_path):
    make(tmp_path, {f"{n}/README.md": f"page {n}" for n in range(25)})
    assert len(all_texts(tmp_path)) == 25


def test_what_is_not_read_is_in_the_description(tmp_path):
    make(tmp_path, {f"{n}.txt": f"text {n}" for n in range(20)} | {"image.png": "x", "b/table.csv": "a,b"})
    for rows in load_corpus(tmp_path).values():
        assert "Read 20 files, 130 bytes (0.txt, 1.txt, 10.txt and 17 more)" in rows.info.description
        assert "not read: b/table.csv, image.png." in rows.info.description


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    make(tmp_path, {"b.txt": "second\n\nstill second", "a/z.txt": "first " * 40, "image.png": "x"})
    corpus = load_corpus(tmp_path)
    assert corpus["train"]["name"][0] == "a/z.txt" and corpus["test"]["name"][-1] == "b.txt"
    whole = "".join(text for rows in corpus.values() for text in rows["text"])
    assert whole == "first " * 40 + "second\n\nstill second"


@pytest.mark.parametrize(
    "files",
    [
        {"train.txt": "a\n\nb", "valid.txt": "c", "test.txt": "d"},
        {"wiki.train.raw": "a\n\nb", "wiki.valid.raw": "c", "wiki.test.raw": "d"},
        {"train-00000-of-00002.txt": "a", "train-00001-of-00002.txt": "b", "valid.txt": "c", "test.txt": "d"},
        {"trainset2.txt": "b", "trainset1.txt": "a", "valset1.txt": "c", "testset1.txt": "d"},
        {"train_2.txt": "b", "train_1.txt": "a", "dev.txt": "c", "eval.txt": "d"},
        {"train/1.txt": "a", "train/2.txt": "b", "valid/1.txt": "c", "test/1.txt": "d"},
        {"train/train-0-of-1.txt": "a\n\nb", "valid/valid-0-of-1.txt": "c", "test/test-0-of-1.txt": "d"},
        {"Train/1.txt": "a", "Train/deep/2.txt": "b", "Val/1.txt": "c", "Test/1.md": "d"},
        {"training/1.jsonl": '{"text": "a"}\n{"text": "b"}', "dev/1.txt": "c", "testing/1.txt": "d"},
        {"corpus/train/1.txt": "a", "corpus/train/2.txt": "b", "corpus/dev/1.txt": "c", "corpus/test/1.txt": "d"},
        {"my-train/1.txt": "a", "my-train/2.txt": "b", "my-valid/1.txt": "c", "my-test/1.txt": "d"},
        {"train.json": '[{"text": "a"}, {"text": "b"}]', "valid.json": '{"text": "c"}\n', "test.json": '{"text": "d"}'},
        {"train/1.json": '[{"text": "a"}, {"text": "b"}]', "valid/1.txt": "c", "test/1.txt": "d"},
        {"train/0000.parquet": ["a", "b"], "validation/0000.parquet": ["c"], "test/0000.parquet": ["d"]},
        {
            "data/train-00000-of-00002.parquet": ["a"],
            "data/train-00001-of-00002.parquet": ["b"],
            "data/validation-00000-of-00001.parquet": ["c"],
            "data/test-00000-of-00001.parquet": ["d"],
        },
    ],
)
@pytest.mark.parametrize("beside", [{}, {"README.md": "page", ".gitattributes": "x", "dataset_infos.json": "{}"}])
def test_a_given_split_is_kept(tmp_path, files, beside):
    corpus = load_corpus(make(tmp_path, files | beside))
    assert {split: list(rows["text"]) for split, rows in corpus.items()} == SPLIT
    assert "as the corpus brings it" in corpus["train"].info.description
    assert sorted(read_record(corpus)["not_read"]) == sorted(beside)


def test_copies_are_counted(tmp_path):
    make(tmp_path, {f"{n}.txt": f"text {n % 28}" for n in range(30)})
    assert "2 of 30 documents are copies of others" in load_corpus(tmp_path)["test"].info.description


def test_shards_are_read_in_the_order_of_their_numbers(tmp_path):
    make(tmp_path, {f"train-{n}.txt": f"{n}" for n in range(12)} | {"valid.txt": "c", "test.txt": "d"})
    assert split_texts(tmp_path)["train"] == [str(n) for n in range(12)]


def test_a_shard_that_is_missing_is_said(tmp_path):
    make(tmp_path, {"train-00000-of-01024.txt": "a", "valid.txt": "c", "test.txt": "d"})
    assert "1 of the 1,024 shards" in load_corpus(tmp_path)["train"].info.description


def test_shards_of_several_sets_in_folders_of_their_own(tmp_path):
    texts = {place: "\n\n".join(f"{place} {n}" for n in range(10)) for place in ("a/0-of-1.txt", "b/0-of-2.txt")}
    assert len(all_texts(make(tmp_path, texts))) == 20


def test_many_files_in_each_folder_of_a_split(tmp_path):
    numbers = {"train": 30, "valid": 5, "test": 4}
    make(tmp_path, {f"{split}/{i}.txt": f"{split} {i}\n\nmore" for split, n in numbers.items() for i in range(n)})
    make(tmp_path, {"README.md": "page", "notes.txt": "not of the split"})
    corpus = load_corpus(tmp_path)
    assert [len(corpus[split]) for split in ("train", "validation", "test")] == [30, 5, 4]
    assert all(text.startswith("train ") for text in corpus["train"]["text"])
    assert read_record(corpus)["not_read"] == ["README.md", "notes.txt"]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (["train.txt", "valid.txt", "dev.txt", "test.txt"], "two validation parts (dev.txt and valid.txt)"),
        (["train.txt", "val.txt", "validation.txt", "test.txt"], "two validation parts (val.txt and validation.txt)"),
        (["train/a.txt", "valid/a.txt", "dev/a.txt", "test/a.txt"], "two validation parts (dev and valid)"),
        (["train/a.txt", "train.txt", "valid.txt", "test.txt"], "two train parts (train and train.txt)"),
        (["train.txt", "train.jsonl", "valid.txt", "test.txt"], "two train parts"),
        (["wiki.train.raw", "wiki.train.tokens", "wiki.valid.raw", "wiki.test.raw"], "two train parts"),
        (["2.train.txt", "103.train.txt", "valid.txt", "test.txt"], "two train parts"),
        (["train-0-of-2.txt", "train-0-of-3.txt", "valid.txt", "test.txt"], "shards of two sets (of 2 and of 3"),
        (["train.txt", "valid.txt"], "no test file or folder"),
        (["train/a.txt", "test/a.txt"], "no validation file or folder"),
        (["data/train-0-of-1.txt", "data/test-0-of-1.txt"], "no validation file or folder"),
        (["train.txt", "valid.txt", "test.csv"], "no test file or folder that can be read (not test.csv)"),
        (["valid.txt", "test.txt"], "no train file or folder"),
        (["valid/a.txt", "test/a.txt"], "no train file or folder"),
        (["a/train.txt", "a/valid.txt", "a/test.txt", "b/train.txt", "b/dev.txt", "b/test.txt"], "several corpora"),
        (["a/train.txt", "a/valid.txt", "a/test.txt", "b.txt"], "holds a split in a and other texts beside it (b.txt)"),
        (["a.txt", "a.txt.gz"], "keep one of the two"),
        (["picture.png", ".git/a.txt"], "holds no text (.txt, .jsonl or .parquet) but .git, picture.png"),
        ([], "holds no text (.txt, .jsonl or .parquet); give"),
    ],
)
def test_a_split_that_cannot_be_kept_is_refused(tmp_path, files, sentence):
    assert sentence in complaint(make(tmp_path, dict.fromkeys(files, "text")))


def test_names_of_splits():
    names = ("wiki.train.raw", "train-00000-of-00002.parquet", "c4-train.00001-of-01024.json.gz", "DEV", "train 2.txt")
    assert [split_of(name) for name in names] == ["train", "train", "train", "validation", "train"]
    names = (
        "trainset.txt",
        "ValSet",
        "my test.txt",
        "Test data",
        "wiki (train).txt",
        "wikiTrain_v2.jsonl",
        "trainSplit",
    )
    expected = ["train", "validation", "test", "test", "train", "train", "train"]
    assert [split_of(name) for name in names] == expected
    for name in ("training-test.txt", "contest.txt", "development.txt", "traintest", "a.txt", "a train journey.txt"):
        assert split_of(name) is None, name


def test_a_split_word_in_one_name_of_many_texts_is_no_split(tmp_path):
    make(tmp_path, {f"{n}.txt": f"text {n}" for n in range(25)} | {"the-test.txt": "t"})
    assert len(all_texts(tmp_path)) == 26


@pytest.mark.parametrize("names", [["train-0-of-2.txt", "train-1-of-2.txt"], ["train.txt"], ["part-0-of-1.txt"]])
def test_one_named_part_alone_is_divided_like_a_part_and_split_here(tmp_path, names):
    make(tmp_path, {name: "\n\n".join(f"{name} {n}" for n in range(30)) for name in names})
    assert len(all_texts(tmp_path)) == 30 * len(names)


def test_links_are_followed_unless_what_they_show_is_there_anyway(tmp_path):
    make(tmp_path / "elsewhere", {"x.txt": "x", "dir/y.txt": "y"})
    folder = make(tmp_path / "corpus", {f"{n}.txt": f"text {n}" for n in range(20)} | {"sub/s.txt": "s"})
    (folder / "x.txt").symlink_to(tmp_path / "elsewhere" / "x.txt")
    (folder / "other").symlink_to(tmp_path / "elsewhere" / "dir")
    for name, target in (("copy.txt", "0.txt"), ("again", "sub"), ("up", ".."), ("gone.txt", "nowhere")):
        (folder / name).symlink_to(target)
    (tmp_path / "elsewhere" / "dir" / "loop").symlink_to(tmp_path / "elsewhere" / "dir")
    corpus = load_corpus(folder)
    assert sum(map(len, corpus.values())) == 23
    assert read_record(corpus)["not_read"] == ["again", "copy.txt", "gone.txt", "other/loop", "up"]


@pytest.mark.skipif(os.name == "nt", reason="file names there are Unicode")
def test_names_of_any_bytes(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    odd = os.fsencode(folder) + b"/caf\xe9\n.txt"
    Path(os.fsdecode(odd)).write_bytes(b"\n\n".join(b"text %d" % n for n in range(25)))
    corpus = load_corpus(os.fsdecode(odd))
    assert corpus["train"]["name"][0].startswith("caf\\xe9\\n.txt#")
    make(folder, {f"{n}.txt": f"text {n}" for n in range(25)})
    named = load_corpus(folder)
    assert sum(map(len, named.values())) == 26
    for rows in (*corpus.values(), *named.values()):
        rows.info.description.encode(), "".join(rows["name"]).encode()
    assert "caf\\xe9" in complaint(os.fsdecode(odd.replace(b".txt", b"s.txt")))
    Path(os.fsdecode(odd)).write_bytes(b"\xff")
    assert "caf\\xe9\\n.txt is not UTF-8" in complaint(os.fsdecode(odd))
    for suffix, content in ((b".jsonl", b"{"), (b".parquet", b"PAR1"), (b".txt.gz", b"x"), (b".csv", b"x")):
        Path(os.fsdecode(odd + suffix)).write_bytes(content)
        assert "caf\\xe9" in complaint(os.fsdecode(odd + suffix))


def test_a_path_that_the_system_refuses_is_a_sentence():
    for path in ("a/" + "x" * 5000 + ".txt", "a/\ud800.txt", "a/\0.txt"):
        with pytest.raises(KitError, match="no file or folder") as caught:
            load_corpus(path)
        str(caught.value).encode()
