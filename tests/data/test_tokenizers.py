"""Every tokenizer is lossless, and the end of document is no text."""

import json
import random

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stlm_kit import KitError, UsageError, load_tokenizer
from stlm_kit.data.bpe_format import byte_letters
from stlm_kit.data.tokenizers import ByteTokenizer, train_bpe

TEXTS = ["To be, or not to be: that is the question. ", "Zażółć gęślą jaźń, proszę bardzo. "] * 20
NAMES = ("bytes", "bpe-300", "gpt2", "smollm2")


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STLM_CACHE", str(tmp_path_factory.mktemp("tokenizers")))
        return [load_tokenizer(name, TEXTS) for name in NAMES]


@settings(max_examples=150)
@given(st.text())
@example("<|endoftext|>")
@example("a<|endoftext|>b\r\n\t\0 \u00a0\u2028 zażółć 👩‍👩‍👧 \U0010ffff e\u0301")
@example(" leading and trailing  ")
def test_any_text_comes_back_and_never_holds_the_end(tokenizers, text):
    for tokenizer in tokenizers:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
        assert tokenizer.end_of_document not in ids and all(0 <= i < tokenizer.vocab_size for i in ids)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 256)))
def test_ids_that_are_no_utf8_decode_with_the_replacement_character(ids):
    expected = bytes(i for i in ids if i < 256).decode(errors="replace")
    assert ByteTokenizer().decode(ids) == expected


@settings(max_examples=30)
@given(st.lists(st.text(), max_size=5))
def test_a_batch_is_each_text_alone(tokenizers, texts):
    for tokenizer in tokenizers:
        assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_gpt2_is_gpt2():
    gpt2 = load_tokenizer("gpt2")
    assert gpt2.encode("Hello world") == [15496, 995]
    assert (gpt2.vocab_size, gpt2.end_of_document) == (50257, 50256)
    assert gpt2.merges[0] == (b" ", b"t")


def test_gpt2_agrees_with_transformers(tmp_path):
    from transformers import PreTrainedTokenizerFast

    gpt2 = load_tokenizer("gpt2")
    theirs = PreTrainedTokenizerFast.from_pretrained(gpt2.save(tmp_path))
    text = "State of the Union, 1790; zażółć\n\n  and 3.14 <b>"
    assert theirs.encode(text) == gpt2.encode(text)
    assert theirs.eos_token_id == gpt2.end_of_document and len(theirs) == gpt2.vocab_size


def test_byte_letters_are_those_of_the_library():
    from tokenizers.pre_tokenizers import ByteLevel

    assert sorted(byte_letters()) == sorted(ByteLevel.alphabet())


def test_sizes_count_the_bytes_and_the_end(tokenizers):
    assert [tokenizer.vocab_size for tokenizer in tokenizers] == [257, 300, 50257, 49152]
    assert tokenizers[1].end_of_document == 299 and len(tokenizers[1].merges) == 43


def test_a_small_text_offers_fewer_merges_than_asked_for():
    tokenizer = load_tokenizer("bpe", ["abab abab"])
    assert tokenizer.vocab_size == 257 + len(tokenizer.merges) < 300 and tokenizer.name == "bpe-10000"


def test_training_is_deterministic():
    words = random.Random(0).choices(["ab", "ba", "abba", "zażółć", "the"], k=5000)
    texts = [" ".join(words[i : i + 50]) for i in range(0, 5000, 50)]
    assert train_bpe(texts, 320).to_str() == train_bpe(list(texts), 320).to_str()


def test_trained_tokenizers_are_cached_by_content_and_a_damaged_one_is_made_again(empty_cache):
    first = load_tokenizer("bpe-300", TEXTS)
    assert load_tokenizer("bpe-300", {"train": {"text": TEXTS}}).content_hash == first.content_hash
    assert load_tokenizer("bpe-300", TEXTS[:3]).content_hash != first.content_hash
    files = list((empty_cache / "tokenizers").glob("*/tokenizer.json"))
    assert len(files) == 2
    for file in files:
        file.write_text(file.read_text()[:500])
    assert load_tokenizer("bpe-300", TEXTS).content_hash == first.content_hash


@pytest.mark.parametrize("which", range(len(NAMES)))
def test_a_saved_tokenizer_loads_as_itself(tokenizers, which, tmp_path):
    tokenizer = tokenizers[which]
    again = load_tokenizer(tokenizer.save(tmp_path / "saved"))
    assert (again.name, again.vocab_size, again.end_of_document) == (
        tokenizer.name,
        tokenizer.vocab_size,
        tokenizer.end_of_document,
    )
    assert again.content_hash == tokenizer.content_hash
    assert again.encode("Zażółć <|endoftext|>") == tokenizer.encode("Zażółć <|endoftext|>")
    assert load_tokenizer(tmp_path / "saved" / "tokenizer.json").content_hash == tokenizer.content_hash


def test_decode_takes_tensors(tokenizers):
    for tokenizer in tokenizers:
        assert tokenizer.decode(torch.tensor(tokenizer.encode("abc"))) == "abc"
        assert tokenizer.decode([*tokenizer.encode("abc"), tokenizer.end_of_document]) == "abc"


@pytest.mark.parametrize("token", [-1, 50257])
def test_an_id_outside_the_vocabulary(token):
    with pytest.raises(UsageError, match=f"{token} is outside the vocabulary of gpt2, which has ids 0 to 50256"):
        load_tokenizer("gpt2").decode([token])


def test_a_lone_surrogate(tokenizers):
    for tokenizer in tokenizers:
        with pytest.raises(KitError, match=r"lone surrogate U\+DC00 at character 2"):
            tokenizer.encode("ab\udc00c")


def test_what_is_no_text_or_no_id(tokenizers):
    for tokenizer in tokenizers:
        with pytest.raises(UsageError, match="not bytes"):
            tokenizer.encode(b"abc")
        with pytest.raises(UsageError, match="whole number"):
            tokenizer.decode([1.5])


def test_names_that_will_not_do(tmp_path):
    for name, sentence in (("gpt-2", "'gpt2'"), ("bpe-256", "bpe-257"), ("bpe-500", "needs a corpus")):
        with pytest.raises(UsageError, match=sentence):
            load_tokenizer(name)
    with pytest.raises(KitError, match="no tokenizer file"):
        load_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(KitError, match="no text"):
        load_tokenizer("bpe", [])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "not a tokenizer.json"),
        ('{"model": {"type": "WordPiece", "vocab": {}}}', "not a byte-level BPE"),
        (json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}), "not a byte-level BPE"),
    ],
)
def test_files_that_will_not_do(tmp_path, content, sentence):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(KitError, match=sentence):
        load_tokenizer(tmp_path)


def test_a_tokenizer_file_without_an_end_of_document(tmp_path):
    content = ByteTokenizer().to_json() | {"added_tokens": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(KitError, match="no end-of-document token"):
        load_tokenizer(tmp_path)
