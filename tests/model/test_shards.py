"""A model in several files: read together, and whatever does not fit is named."""

import json

import pytest
from safetensors.torch import load_file, save_file

from stlm_kit.model import Decoder, export_to_hf

from .conftest import stir, tiny
from .folders import refusal, same_as_transformers

INDEX = "model.safetensors.index.json"


@pytest.fixture
def shards(tmp_path):
    """A model in three files and an index."""
    folder = export_to_hf(stir(Decoder(tiny())), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    place = {name: f"model-{i % 3 + 1:05}-of-00003.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(place.values()):
        save_file({name: tensors[name] for name in tensors if place[name] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": place}))
    return folder


def test_shards_are_read_together(shards, ids):
    same_as_transformers(shards, ids)


def test_missing_shards_are_named(shards):
    for number in (1, 3):
        (shards / f"model-0000{number}-of-00003.safetensors").unlink()
    sentence = refusal(shards)
    assert "model-00001-of-00003.safetensors and model-00003-of-00003.safetensors" in sentence


def test_shards_without_their_index(shards):
    (shards / INDEX).unlink()
    assert "no model.safetensors.index.json" in refusal(shards)


def test_a_tensor_that_only_the_index_has_or_only_a_shard(shards):
    index = json.loads((shards / INDEX).read_text())
    name, file = next(iter(index["weight_map"].items()))
    (shards / INDEX).write_text(json.dumps({"weight_map": {**index["weight_map"], "made.up": file}}))
    assert "'made.up'" in refusal(shards) and "is not there" in refusal(shards)
    del index["weight_map"][name]
    (shards / INDEX).write_text(json.dumps(index))
    assert repr(name) in refusal(shards) and "does not say so" in refusal(shards)


@pytest.mark.parametrize("file", ["../model.safetensors", "/etc/passwd", "model.bin", ""])
def test_an_index_names_files_beside_it_only(shards, file):
    index = json.loads((shards / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = file
    (shards / INDEX).write_text(json.dumps(index))
    assert "no safetensors file beside it" in refusal(shards)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index(shards, content):
    (shards / INDEX).write_text(content)
    assert INDEX in refusal(shards)


def test_a_damaged_shard_is_named(shards):
    path = shards / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    assert path.name in refusal(shards) and "damaged" in refusal(shards)
