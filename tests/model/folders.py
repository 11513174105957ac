"""Folders in Hugging Face's layout: change one, compare it with transformers, be refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from stlm_kit.errors import KitError
from stlm_kit.model import Decoder, load_from_hf


def change(folder, remove=(), **settings):
    config = {**json.loads((folder / "config.json").read_text()), **settings}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k not in remove}))
    return folder


def change_tensors(folder, function):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    function(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def refusal(folder) -> str:
    with pytest.raises(KitError) as caught:
        load_from_hf(folder)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith((".", "?")) and len(sentence) < 500
    return sentence


def same_as_transformers(folder, ids) -> Decoder:
    transformers = pytest.importorskip("transformers")
    theirs, model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval(), load_from_hf(folder)
    with torch.no_grad():
        assert torch.allclose(model(ids), theirs(ids).logits, rtol=0, atol=1e-5)
    return model
