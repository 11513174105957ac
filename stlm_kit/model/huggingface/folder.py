"""Write and read a folder in Hugging Face's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stlm_kit.errors import KitError, UsageError
from stlm_kit.model.decoder import Decoder
from stlm_kit.model.huggingface.files import in_one_type, read_settings, read_weights
from stlm_kit.model.huggingface.layouts import hf_config
from stlm_kit.model.huggingface.settings import kit_config
from stlm_kit.model.huggingface.tensors import COMPUTED, from_hf_tensors, to_hf_tensors
from stlm_kit.paths import atomic_write


def export_to_hf(model: Decoder, folder: Path | str, tokenizer: Any = None) -> Path:
    """Write `folder` so that transformers' AutoModelForCausalLM.from_pretrained(folder) gives the same logits.

    Writes config.json and model.safetensors, each atomically, and the tokenizer's files where a tokenizer is given.
    Dropout is exported as far as the layout has settings for it (Llama's has only dropout of attention weights).

    Returns the folder. Raises KitError before anything is written where no layout of Hugging Face can express the
    model; the sentence names the field.
    """
    from safetensors.torch import save

    folder = Path(folder)
    if not isinstance(model, Decoder):
        raise KitError(
            f"Hugging Face has no layout for a {model.config.kind!r} model; keep it in the kit's own format."
        )
    settings = hf_config(model.config)
    if tokenizer is not None:
        settings["eos_token_id"] = tokenizer.end_of_document
    tensors = to_hf_tensors(model)
    settings["dtype"] = str(tensors[next(iter(tensors))].dtype).removeprefix("torch.")
    content = save({name: value.cpu() for name, value in tensors.items()}, metadata={"format": "pt"})
    atomic_write(folder / "model.safetensors", content)
    if tokenizer is not None:
        tokenizer.save(folder)
    atomic_write(folder / "config.json", json.dumps(settings, indent=2) + "\n")
    return folder


def load_from_hf(folder: Path | str) -> Decoder:
    """The decoder in a folder of Hugging Face's layout, in evaluation mode, on the CPU, in the stored type.

    With several stored types, the one that holds them all. Raises KitError for a missing, damaged or pickled file, for
    an architecture other than llama, mistral, qwen3 and gpt2, for an unknown key of config.json, and for weights that
    do not fit it. UsageError when `folder` does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}; give the one that holds config.json and model.safetensors.")
    if (folder / "adapter_config.json").exists():
        raise KitError(
            f"{folder} holds an adapter (adapter_config.json) to another model; merge the two and save that."
        )
    settings = read_settings(folder / "config.json")
    config = kit_config(settings)
    stated = settings.get("dtype") if settings.get("dtype") is not None else settings.get("torch_dtype")
    weights = {name: tensor for name, tensor in read_weights(folder).items() if not COMPUTED.search(name)}
    if not weights:
        raise KitError(f"The weights in {folder} are no tensors at all; export the model again.")
    weights = in_one_type(weights, stated)
    config, state = from_hf_tensors(config, weights)
    model = Decoder(config).to(state["embedding.weight"].dtype)
    model.load_state_dict(state)
    return model.eval()
