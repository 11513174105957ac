"""Token files hold the documents, survive kills and damage, and are shared by processes."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stlm_kit import KitError, UsageError
from stlm_kit.data import TokenFile, load_tokenizer, tokenize_corpus
from stlm_kit.data.token_files import tokenize_texts
from stlm_kit.data.tokenizers import ByteTokenizer

TEXTS = [f"document {i}, zażółć" for i in range(50)]
BYTES = ByteTokenizer()


def folders(cache):
    return [path for path in (cache / "tokens").iterdir() if path.is_dir()]


@settings(max_examples=30)
@given(st.lists(st.text(), min_size=1, max_size=8))
def test_documents_come_back(texts):
    tokens = TokenFile.in_memory(texts, BYTES)
    assert [BYTES.decode(tokens.document(i)) for i in range(tokens.n_documents)] == texts
    assert tokens.document_bytes.tolist() == [len(text.encode()) for text in texts]
    assert tokens.n_tokens == tokens.n_bytes + len(texts)
    assert all(tokens.ids[end - 1] == tokens.end_of_document for end in tokens.offsets[1:])


def test_a_file_is_what_memory_holds(empty_cache):
    tokens, memory = tokenize_texts(TEXTS, BYTES), TokenFile.in_memory(TEXTS, BYTES)
    assert isinstance(tokens.ids, np.memmap) and tokens.ids.dtype == np.uint16
    for name in ("ids", "offsets", "document_bytes"):
        np.testing.assert_array_equal(getattr(tokens, name), getattr(memory, name))
    assert (tokens.vocab_size, tokens.end_of_document) == (257, 256)


def test_the_cache_goes_by_content_of_text_and_tokenizer(empty_cache):
    corpus = {"train": {"text": TEXTS}, "test": {"text": TEXTS[:3]}}
    first = tokenize_corpus(corpus, BYTES)
    times = {path: path.stat().st_mtime_ns for path in folders(empty_cache)}
    assert tokenize_corpus(corpus, BYTES)["train"].content_hash == first["train"].content_hash
    assert {path: path.stat().st_mtime_ns for path in folders(empty_cache)} == times and len(times) == 2
    tokenize_texts([*TEXTS[:-1], "another end"], BYTES)
    tokenize_texts(TEXTS, load_tokenizer("bpe-260", TEXTS))
    assert len(folders(empty_cache)) == 4


def test_moving_a_boundary_between_documents_is_another_corpus(empty_cache):
    assert tokenize_texts(["ab", "c"], BYTES).content_hash != tokenize_texts(["a", "bc"], BYTES).content_hash


@given(st.lists(st.text(), min_size=2, max_size=8), st.data())
def test_chosen_documents_are_a_text_of_their_own(texts, data):
    tokens = TokenFile.in_memory(texts, BYTES)
    which = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=6))
    found, made = tokens.select(which), TokenFile.in_memory([texts[i] for i in which], BYTES)
    for name in ("ids", "offsets", "document_bytes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
    assert found.content_hash != tokens.content_hash == TokenFile.in_memory(texts, BYTES).content_hash


def test_the_first_documents_stay_on_disk(empty_cache):
    tokens = tokenize_texts(TEXTS, BYTES)
    assert np.shares_memory(tokens.select(range(2)).ids, tokens.ids)


def test_a_large_vocabulary_takes_four_bytes():
    class Large(ByteTokenizer):
        vocab_size = 70_000

    assert TokenFile.in_memory(["a"], Large()).ids.dtype == np.uint32


@pytest.mark.parametrize("name", ["ids.bin", "offsets.bin", "document_bytes.bin", "header.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_file_is_noticed_and_made_again(empty_cache, name, damage):
    expected = tokenize_texts(TEXTS, BYTES).ids.tolist()
    file = folders(empty_cache)[0] / name
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-7])
    else:
        file.unlink()
    with pytest.raises(KitError, match="is damaged"):
        TokenFile.open(file.parent)
    assert tokenize_texts(TEXTS, BYTES).ids.tolist() == expected


def test_a_tail_of_zeros_is_noticed(empty_cache):
    """What a power cut leaves of a file whose length was written but whose content was not."""
    tokenize_texts(TEXTS, BYTES)
    file = folders(empty_cache)[0] / "ids.bin"
    file.write_bytes(file.read_bytes()[:-4] + bytes(4))
    with pytest.raises(KitError, match="last document is not complete"):
        TokenFile.open(file.parent)


def test_another_format_is_not_read(empty_cache):
    tokenize_texts(TEXTS, BYTES)
    header = folders(empty_cache)[0] / "header.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"format": 99}))
    with pytest.raises(KitError, match="format"):
        TokenFile.open(header.parent)


def test_an_id_outside_the_vocabulary():
    with pytest.raises(UsageError, match="300 is outside the vocabulary of bytes"):
        TokenFile.from_ids([[1, 300]], BYTES, [2])


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "file"))
    with pytest.raises(KitError, match=r"free some space or set STLM_CACHE"):
        tokenize_texts(TEXTS, BYTES)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(empty_cache, monkeypatch):
    import stlm_kit.data.token_files as module

    def no_space(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_sync", no_space)
    with pytest.raises(KitError, match="No space left on device"):
        tokenize_texts(TEXTS, BYTES)
    assert folders(empty_cache) == []


SLOW = """
import sys, time
import stlm_kit.data.token_files as module
from stlm_kit.data.tokenizers import ByteTokenizer
module.BATCH_CHARACTERS = 100  # several batches
seconds = float(sys.argv[1])
class Slow(ByteTokenizer):
    def encode_batch(self, texts):
        print("encoding", flush=True)
        time.sleep(seconds)
        return super().encode_batch(texts)
tokens = module.tokenize_texts([f"document {i}, zażółć" for i in range(50)], Slow())
print("done", tokens.n_tokens, flush=True)
"""


def start(seconds):
    command = [sys.executable, "-c", SLOW, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONIOENCODING": "utf-8"})


def test_a_killed_tokenization_leaves_nothing_that_looks_finished(empty_cache):
    child = start(0.3)
    for _ in range(3):  # the third batch begins: two are written
        assert child.stdout.readline() == "encoding\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    left_over = folders(empty_cache)
    assert [path.name.split(".")[1].startswith("part-") for path in left_over] == [True]
    assert (left_over[0] / "ids.bin").exists()
    tokens = tokenize_texts(TEXTS, BYTES)
    assert tokens.ids.tolist() == TokenFile.in_memory(TEXTS, BYTES).ids.tolist()
    assert len(folders(empty_cache)) == 1 and not left_over[0].exists()


def test_two_processes_at_once_do_the_work_once(empty_cache):
    children = [start(0.05), start(0.05)]
    outputs = [child.communicate(timeout=120)[0].split("\n") for child in children]
    n_tokens = TokenFile.in_memory(TEXTS, BYTES).n_tokens
    assert all(f"done {n_tokens}" in lines for lines in outputs)
    assert sorted("encoding" in lines for lines in outputs) == [False, True]
    assert len(folders(empty_cache)) == 1
