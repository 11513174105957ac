"""A user's tokenizer.json: what does not give text back is refused with its part, and every id that is read is kept."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from stlm_kit import KitError, load_tokenizer
from stlm_kit.data.bpe_format import byte_letters
from stlm_kit.data.tokenizers import ByteTokenizer

END = "<|endoftext|>"
TEXTS = ["To be, or not to be: that is the question. ", "Zażółć gęślą jaźń, proszę bardzo. "] * 20
ODD = ["The  Fox é", "", " a ", "e\u0301\r\n\t\0\x7f\u2028", "👩‍👩‍👧 \U0010ffff", f"a{END}b", "<pad> <|im_start|>user"]


def trained(specials=(END,), size=300):
    """A byte-level BPE as the library trains it: special tokens get the first ids."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    return backend


def saved(folder, backend_or_content, config=None):
    folder.mkdir(parents=True, exist_ok=True)
    content = backend_or_content
    content = content if isinstance(content, dict) else json.loads(content.to_str())
    (folder / "tokenizer.json").write_text(json.dumps(content))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def step(part):
    """A normalizer, pre-tokenizer or decoder as tokenizer.json holds it."""
    backend = Backend(models.BPE())
    kind = type(part).__module__.rpartition(".")[2].removesuffix("s")
    name = next(name for name in ("normalizer", "pre_tokenizer", "decoder") if name.startswith(kind[:5]))
    setattr(backend, name, part)
    return {name: json.loads(backend.to_str())[name]}


LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (normalizers.Lowercase(), "normalizer (Lowercase)"),
        (normalizers.NFKD(), "normalizer (NFKD)"),
        (normalizers.Strip(), "normalizer (Strip)"),
        (normalizers.StripAccents(), "normalizer (StripAccents)"),
        (normalizers.BertNormalizer(), "normalizer (BertNormalizer)"),
        (normalizers.Replace("zq", "q"), "normalizer (Replace)"),
        (normalizers.Prepend(" "), "normalizer (Prepend)"),
        (normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()]), "normalizer (NFC, Lowercase)"),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), "prefix"),
        (pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), LEVEL]), "pre-tokenizer (Whitespace)"),
        (pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), LEVEL]), "pre-tokenizer (WhitespaceSplit)"),
        (pre_tokenizers.Sequence([pre_tokenizers.Split("zq", "removed"), LEVEL]), "pre-tokenizer (Split that removes"),
        (pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), LEVEL]), "pre-tokenizer (Metaspace)"),
        (pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), LEVEL]), "pre-tokenizer (BertPreTokenizer)"),
        (pre_tokenizers.Sequence([LEVEL, LEVEL]), "pre-tokenizer"),
        (pre_tokenizers.Digits(), "no ByteLevel pre-tokenizer"),
        (decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)]), "decoder (ByteLevel, Strip)"),
        (decoders.WordPiece(), "decoder (WordPiece)"),
    ],
)
def test_a_part_that_changes_text_is_named(tmp_path, part, named):
    content = json.loads(trained().to_str()) | step(part)
    with pytest.raises(KitError, match="does not give text back exactly") as caught:
        load_tokenizer(saved(tmp_path, content))
    assert named in str(caught.value) and "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "part",
    [
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), LEVEL]),
        pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "merged_with_next"), LEVEL]),
        pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), LEVEL]),
        decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()]),
        normalizers.Sequence([]),
    ],
)
def test_a_part_that_only_divides_text_is_kept(tmp_path, part):
    content = json.loads(trained().to_str()) | step(part)
    tokenizer = load_tokenizer(saved(tmp_path, content))
    theirs = Backend.from_str(json.dumps(content))
    for text in ODD:
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert END in text or tokenizer.encode(text) == theirs.encode(text).ids


def test_letters_made_by_the_normalizer(tmp_path):
    backend = trained()
    backend.normalizer, backend.pre_tokenizer = normalizers.ByteLevel(), None
    backend.pre_tokenizer = pre_tokenizers.Split("Ġ", "merged_with_next")
    tokenizer = load_tokenizer(saved(tmp_path, backend))
    assert tokenizer.encode("to be or not") == backend.encode("to be or not").ids
    assert tokenizer.decode(tokenizer.encode("The  Fox é")) == "The  Fox é"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"end_of_word_suffix": "</w>"}, "end_of_word_suffix '</w>'"),
        ({"continuing_subword_prefix": "##"}, "continuing_subword_prefix '##'"),
        ({"vocab": {letter: i for i, letter in enumerate(byte_letters()) if i != 9} | {END: 256}}, "(0x09)"),
        ({"vocab": {chr(i): i for i in range(97, 123)} | {END: 256}, "merges": []}, "alphabet lacks"),
    ],
)
def test_a_vocabulary_that_loses_text_is_named(tmp_path, change, named):
    content = ByteTokenizer().to_json()
    content["model"] |= change
    with pytest.raises(KitError, match="does not give text back exactly") as caught:
        load_tokenizer(saved(tmp_path, content))
    assert named in str(caught.value)


def test_bytes_that_utf8_never_has_may_be_missing(tmp_path):
    content = ByteTokenizer().to_json()
    letters = byte_letters()
    for byte in (0xC0, 0xFF):
        del content["model"]["vocab"][letters[byte]]
    assert load_tokenizer(saved(tmp_path, content)).decode([65, 256]) == "A"


def test_an_added_token_is_found_in_the_text_as_the_library_finds_it(tmp_path):
    backend = trained()
    backend.add_tokens([AddedToken("<user>", normalized=False), AddedToken("é!", single_word=True), "be"])
    backend.add_special_tokens(["<sys>"])
    tokenizer = load_tokenizer(saved(tmp_path, backend))
    for text in ("a <user>b", "<user><user>", "é!", "caf\u00e9!x é! é!", "to be or not to be", "maybe <use r>"):
        assert tokenizer.encode(text) == backend.encode(text).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.token_bytes(backend.token_to_id("é!")) == "é!".encode()
    theirs = read_back(tokenizer.save(tmp_path / "out"))
    assert theirs.encode("caf\u00e9!x é! <user>", add_special_tokens=False) == tokenizer.encode("caf\u00e9!x é! <user>")
    assert theirs.get_vocab() == backend.get_vocab()
    special = backend.token_to_id("<sys>")
    assert tokenizer.token_bytes(special) == b"<sys>" and special not in tokenizer.encode("a <sys> b")
    other = load_tokenizer(saved(tmp_path / "without", trained()))
    assert other.content_hash != tokenizer.content_hash  # another encoding, another cache


def test_an_added_token_that_swallows_blanks_is_refused(tmp_path):
    backend = trained()
    backend.add_tokens([AddedToken("<x>", lstrip=True)])
    with pytest.raises(KitError, match="its added token '<x>' turns"):
        load_tokenizer(saved(tmp_path, backend))


def read_back(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def check_ids(tokenizer, theirs, ids):
    assert theirs.get_vocab() == ids
    assert theirs.eos_token_id == tokenizer.end_of_document == ids[tokenizer.end_text]
    for text in ODD:
        if not any(mark in text for mark in [*theirs.all_special_tokens, END, "<pad>", "<|im_start|>"]):
            assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text)
            assert theirs.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("layout", ["first", "last", "middle", "shuffled", "gaps", "added"])
def test_every_id_is_kept_on_the_way_in_and_out(tmp_path, layout, seed):
    rng = random.Random(seed)
    specials = rng.sample([END, "<pad>", "<s>", "<|im_start|>", "<unk>"], rng.randint(1, 5))
    specials = specials if END in specials else [*specials, END]
    content = json.loads(trained(specials, 300).to_str())
    tokens = sorted(content["model"]["vocab"], key=content["model"]["vocab"].get)
    words = [token for token in tokens if token not in specials]
    if layout == "last":
        tokens = words + specials
    elif layout == "middle":
        tokens = words[:150] + specials + words[150:]
    elif layout in ("shuffled", "gaps"):
        rng.shuffle(tokens)
    ids = {token: 3 * i if layout == "gaps" else i for i, token in enumerate(tokens)}
    content["model"]["vocab"] = dict(ids)
    if layout == "added":  # after the vocabulary, where the library puts what is added
        ids = {token: i for i, token in enumerate(words + specials)}
        content["model"]["vocab"] = {token: ids[token] for token in words}
    content["added_tokens"] = sorted(
        ({**entry, "id": ids[entry["content"]]} for entry in content["added_tokens"]), key=lambda entry: entry["id"]
    )
    tokenizer = load_tokenizer(saved(tmp_path / "in", content))
    check_ids(tokenizer, read_back(tokenizer.save(tmp_path / "out")), ids)
    again = load_tokenizer(tmp_path / "out")
    assert again.to_json() == tokenizer.to_json() and again.content_hash == tokenizer.content_hash
    assert (again.end_of_document, again.vocab_size) == (tokenizer.end_of_document, 1 + max(ids.values()))
    theirs = Backend.from_str(json.dumps(content))
    assert all(theirs.encode(t).ids == tokenizer.encode(t) for t in ODD if not any(mark in t for mark in specials))


@pytest.mark.parametrize("name", ["bytes", "gpt2", "bpe-300"])
def test_the_kits_own_exports_keep_their_ids(tmp_path, name):
    tokenizer = load_tokenizer(name, TEXTS)
    theirs = read_back(tokenizer.save(tmp_path))
    assert theirs.eos_token_id == tokenizer.end_of_document and len(theirs) == tokenizer.vocab_size
    assert theirs.encode("The  Fox é", add_special_tokens=False) == tokenizer.encode("The  Fox é")


@pytest.mark.parametrize("eos", ["<|eot_id|>", {"content": "<|eot_id|>", "__type": "AddedToken"}])
def test_the_end_is_the_one_that_the_files_settings_name(tmp_path, eos):
    backend = trained([END, "<|eot_id|>"])
    tokenizer = load_tokenizer(saved(tmp_path, backend, {"eos_token": eos}))
    assert tokenizer.end_of_document == 1 and tokenizer.decode([1]) == "" and tokenizer.decode([0]) == END
    assert read_back(tokenizer.save(tmp_path / "out")).eos_token_id == 1
    assert load_tokenizer(tmp_path / "out").end_of_document == 1
    assert load_tokenizer(saved(tmp_path / "no", backend, {"eos_token": "<none>"})).end_of_document == 0


def test_a_byte_tokenizer_with_more_special_tokens_is_not_the_kits_own(tmp_path):
    content = ByteTokenizer().to_json()
    content["added_tokens"].append(content["added_tokens"][0] | {"id": 257, "content": "<pad>"})
    tokenizer = load_tokenizer(saved(tmp_path, content))
    assert tokenizer.vocab_size == 258 and tokenizer.token_bytes(257) == b"<pad>"


@pytest.mark.parametrize(
    ("token", "i", "sentence"), [("<x>", 65, "the id 65 to"), ("a", 300, "'a' the ids 97 and 300")]
)
def test_ids_that_contradict_each_other(tmp_path, token, i, sentence):
    content = ByteTokenizer().to_json()
    content["added_tokens"].append(content["added_tokens"][0] | {"id": i, "content": token, "special": False})
    with pytest.raises(KitError, match=sentence):
        load_tokenizer(saved(tmp_path, content))


@pytest.fixture(scope="module")
def let_in(tmp_path_factory):
    backend = trained(["<pad>", END])
    backend.add_tokens(["be", "zażółć"])
    return load_tokenizer(saved(tmp_path_factory.mktemp("let in"), backend))


@settings(max_examples=60)
@given(st.text(max_size=40))
def test_what_is_let_in_gives_any_text_back(let_in, text):
    for around in (text, f"be{text}zażółć"):
        assert let_in.decode(let_in.encode(around)) == around
