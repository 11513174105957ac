"""Qwen3's tokenizer by name: from the cache or a sentence, on a small file of the same form; no hub is asked."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from local_hub import local_hub
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from stlm_kit import KitError, load_tokenizer
from stlm_kit.cli import main
from stlm_kit.data import hub_tokenizers
from stlm_kit.data.hub_tokenizers import TOKENIZERS, check_kept, fetch_tokenizer, kept_tokenizer
from stlm_kit.reproduce.data_needed import why_missing
from stlm_kit.reproduce.run_hash import is_name, names_a_file

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_pad|>"]
FOUND = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<think>", "</think>"]
SIZE = 320  # of the BPE
TEXTS = [
    "To be, or not to be: that's the question.\n\n",
    "Zażółć gęślą jaźń, 1234 proszę bardzo. ",
    "日本語のテキスト",
] * 20


@pytest.fixture(scope="module")
def qwen() -> Backend:
    """A tokenizer of Qwen3's form with a small vocabulary."""
    backend = Backend(models.BPE(continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False))
    backend.normalizer = normalizers.NFC()
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    backend.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    backend.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=SIZE, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    backend.add_tokens([AddedToken(token, normalized=False) for token in FOUND])
    return backend


@pytest.fixture
def repository(qwen, tmp_path, computing_node, monkeypatch):
    """A folder laid out as Qwen3's repository is, and its small tokenizer in the table in place of the real one."""
    folder = tmp_path / "repository"
    folder.mkdir()
    content = qwen.to_str().encode()
    (folder / "tokenizer.json").write_bytes(content)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    entry = replace(TOKENIZERS["qwen3"], sha256=hashlib.sha256(content).hexdigest(), file_bytes=len(content))
    monkeypatch.setitem(TOKENIZERS, "qwen3", entry)
    return folder


@pytest.mark.usefixtures("computing_node")
def test_what_is_not_in_the_cache_is_one_sentence():
    with pytest.raises(KitError) as raised:
        load_tokenizer("qwen3")
    said = str(raised.value)
    assert "`stlm data get qwen3`" in said and "path of Qwen/Qwen3-8B's tokenizer.json" in said and "\n" not in said
    assert why_missing({"tokenizer": "qwen3"}) == why_missing({"preset": "distilqwen3"}) == "the" + said[3:]
    with pytest.raises(KitError, match="did not answer for Qwen/Qwen3-8B"):
        fetch_tokenizer("qwen3")


def test_the_commands_fetch_it_check_it_and_mend_it(repository, capsys):
    assert main(["data", "check", "qwen3"]) == 1
    assert "to mend it: stlm data get qwen3\n" in capsys.readouterr().out
    assert main(["data", "get", "qwen3", "--from", str(repository)]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 2 and "MiB are free" in said and str(kept_tokenizer("qwen3")) in said
    assert main(["data", "get", "qwen3"]) == 0  # it is there, and no hub is asked
    capsys.readouterr()
    assert main(["data", "check", "qwen3", "--json"]) == 0
    (look,) = json.loads(capsys.readouterr().out)["corpora"]
    assert (look["state"], look["hashes"], look["revision"]) == ("cached", "ok", TOKENIZERS["qwen3"].revision)
    assert why_missing({"tokenizer": "qwen3"}) == ""

    path = check_kept("qwen3")
    path.write_bytes(path.read_bytes()[:-9])
    assert main(["data", "check", "qwen3"]) == 1
    with pytest.raises(KitError, match=r"is damaged, by its SHA-256; mend it with `stlm data get qwen3`"):
        load_tokenizer("qwen3")
    assert main(["data", "get", "qwen3", "--from", str(repository)]) == 0
    assert load_tokenizer("qwen3").name == "qwen3"
    assert main(["data", "list"]) == 0
    assert "\nqwen3  " in capsys.readouterr().out


def test_its_tokens_are_the_files_own(repository, qwen):
    fetch_tokenizer("qwen3", repository)
    tokenizer = load_tokenizer("qwen3")
    assert tokenizer.vocab_size == qwen.get_vocab_size() == SIZE + len(SPECIAL) + len(FOUND)
    assert tokenizer.end_of_document == qwen.token_to_id("<|endoftext|>") == SIZE
    for text in [*TEXTS, "caf\u00e9 THAT'S 12 345\r\n\r\n  \t x", "<think>a</think> <tool_call>", "\u3042 \U0001f469"]:
        assert tokenizer.encode(text) == qwen.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert SIZE + 1 not in tokenizer.encode("<|im_start|>")  # a special token is never found in text
    by_path = load_tokenizer(repository)  # there the eos_token of tokenizer_config.json ends a document
    assert by_path.end_of_document == SIZE + 2 and by_path.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])


def test_text_that_is_not_in_nfc_comes_back_as_it_was(repository, qwen):
    """The file's normalizer would join e and its accent, so it is left out."""
    tokenizer = load_tokenizer(repository / "tokenizer.json")
    apart, together = "cafe\u0301 \u212b", "caf\u00e9 \u00c5"
    assert qwen.encode(apart).ids == qwen.encode(together).ids == tokenizer.encode(together)
    assert tokenizer.decode(tokenizer.encode(apart)) == apart != tokenizer.decode(tokenizer.encode(together))
    assert tokenizer.to_json()["normalizer"] is None


def test_another_file_than_the_pinned_one_is_refused_by_name_and_read_by_path(repository):
    path = repository / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(KitError, match=r"another SHA-256 than the pinned one, .* give its path") as raised:
        fetch_tokenizer("qwen3", repository)
    assert "\n" not in str(raised.value) and not kept_tokenizer("qwen3").exists()
    assert load_tokenizer(path).vocab_size == SIZE + len(SPECIAL) + len(FOUND)
    with pytest.raises(KitError, match=r"Could not read .* laid out as the repository of qwen3"):
        fetch_tokenizer("qwen3", repository / "nowhere")


def test_over_the_hubs_own_interface_at_its_pinned_revision(repository, tmp_path, computing_node):
    code = "import sys\nfrom dataclasses import replace\nfrom stlm_kit.cli import main\n"
    code += "from stlm_kit.data.hub_tokenizers import TOKENIZERS\n"
    code += "TOKENIZERS['qwen3'] = replace(TOKENIZERS['qwen3'], sha256=sys.argv[1])\n"
    code += "sys.exit(main(['data', 'get', 'qwen3']))"
    with local_hub(repository) as (address, asked):
        env = os.environ | {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
        command = [sys.executable, "-c", code, TOKENIZERS["qwen3"].sha256]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    revision = TOKENIZERS["qwen3"].revision
    asked = [path for path in asked if "/Qwen/" in path]
    assert f"/Qwen/Qwen3-8B/resolve/{revision}/tokenizer.json" in asked and all(revision in path for path in asked)
    assert load_tokenizer("qwen3").encode("not to be") and check_kept("qwen3").is_relative_to(computing_node)


def test_a_name_wins_over_a_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qwen3").write_text("{}")
    assert is_name("tokenizer", "qwen3") and not names_a_file("tokenizer", "qwen3")
    assert names_a_file("tokenizer", "./qwen3")


def test_data_md_lists_each_with_its_pin():
    page = (Path(__file__).parents[2] / "data" / "DATA.md").read_text(encoding="utf-8")
    for name, entry in TOKENIZERS.items():
        assert f"| tokenizer `{name}` | {entry.repo}, {entry.revision} |" in page


def test_the_pin_is_a_commit_and_a_hash():
    for name, entry in TOKENIZERS.items():
        assert len(entry.revision) == 40 and len(entry.sha256) == 64, name
        assert entry.repo in hub_tokenizers.describe()[name] and entry.licence in hub_tokenizers.describe()[name]
