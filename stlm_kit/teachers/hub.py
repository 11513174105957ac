"""Qwen3-8B as a teacher. It needs a GPU, and its weights are fetched only when asked for.

No GPU has confirmed this module: the machine that the kit was written on has neither a GPU nor these weights. Tests run
the same code on small models of the same layout.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from stlm_kit.config import DecoderConfig
from stlm_kit.data.bpe import BPETokenizer
from stlm_kit.data.lossless import check_lossless, step_types
from stlm_kit.data.tokenizer import Tokenizer
from stlm_kit.data.tokenizers import load_tokenizer
from stlm_kit.errors import KitError
from stlm_kit.model.decoder import Decoder
from stlm_kit.model.huggingface import kit_config
from stlm_kit.model.huggingface.files import in_one_type, read_settings, read_weights
from stlm_kit.model.huggingface.tensors import from_hf_tensors
from stlm_kit.teachers.empty import meta_decoder

QWEN3_8B = "Qwen/Qwen3-8B"
# The commit that several public projects record for these weights.
REVISIONS = {QWEN3_8B: "b968826d9c46dd6066d109eabc6255188de91218"}
FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"]
GIGABYTES = {QWEN3_8B: 16.4}  # to download: 8,190,735,360 weights of 16 bits
# Its config.json, for predictions before anything is fetched.
CONFIGS = {
    QWEN3_8B: DecoderConfig(
        vocab_size=151936, context_length=40960, n_layers=36, d_model=4096, n_heads=32, n_kv_heads=8, head_dim=128,
        d_ff=12288, norm="rmsnorm", norm_epsilon=1e-6, positions="rotary", rope_base=1e6, feed_forward="swiglu",
        bias=False, tied_head=False, qk_norm=True,
    )
}  # fmt: skip


def hub_folder(name: str, fetch: bool = False) -> Path:
    """The folder of a model of `REVISIONS` in Hugging Face's cache on this machine.

    fetch: download what is missing. KitError where it is missing and `fetch` is false, and where the hub gives no
    answer.
    """
    from huggingface_hub import snapshot_download

    revision = REVISIONS[name]
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=FILES, local_files_only=not fetch)
    except Exception as error:  # the library raises many types
        if not fetch:
            raise KitError(
                f"{name} is not on this machine; load_teacher({name!r}, ..., fetch=True) downloads "
                f"{GIGABYTES[name]} GB from Hugging Face, or give the folder of a copy."
            ) from None
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise KitError(f"Could not fetch {name} from Hugging Face ({reason}); try again with a network.") from None
    return Path(folder)


def check_gpu(name: str, device: str) -> None:
    """Raise KitError where a model of `REVISIONS` is to be loaded without a CUDA GPU."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return
    why = "torch finds none here" if device.startswith("cuda") else f"the device given is {device!r}"
    raise KitError(f'{name} needs a CUDA GPU, and {why}; use one, or load_teacher("smollm2-135m").')


def hf_decoder(folder: Path) -> Decoder:
    """The decoder in a folder, as `load_from_hf` gives it, for models of many gigabytes.

    The weights stay in the stored type and are used where they were read. So this takes little more memory than the
    files, where `load_from_hf` first draws a model of its own in 32 bits. KitError as there.
    """
    settings = read_settings(folder / "config.json")
    stored = in_one_type(read_weights(folder), settings.get("dtype") or settings.get("torch_dtype"))
    config, state = from_hf_tensors(kit_config(settings), stored)
    model = meta_decoder(config, state["embedding.weight"].dtype)
    model.load_state_dict(state, assign=True)
    if config.tied_head:
        model.head.weight = model.embedding.weight
    return model.eval()


def hf_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a folder of Hugging Face's layout, also where its only fault is that it composes characters.

    Qwen's tokenizers normalize text to NFC first, so text that is not in NFC would not come back exactly. Without that
    step the tokenizer is lossless, and text in NFC keeps its ids. <|endoftext|> then ends a document, as in Qwen's
    pretraining. Raises KitError for a missing file and for one that is not lossless in another way.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise KitError(f"{folder} holds a model and no tokenizer.json to read text with; copy its tokenizer there.")
    try:
        content = json.loads(path.read_text("utf-8"))
        composes = step_types(content.get("normalizer")) == ["NFC"]
    except (OSError, ValueError, AttributeError):
        composes = False
    if not composes:
        return load_tokenizer(path)
    content["normalizer"] = None
    who = f"The tokenizer in {path}"
    check_lossless(who, content)
    tokenizer = BPETokenizer(folder.name, content)
    check_lossless(who, content, tokenizer)
    return tokenizer
