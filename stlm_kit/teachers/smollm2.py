"""SmolLM2-135M-Instruct as the kit's own decoder, from the GGUF file of its package. transformers is not needed."""

from __future__ import annotations

import torch
from torch import Tensor

from stlm_kit.config import DecoderConfig
from stlm_kit.data.gguf_file import GgufFile
from stlm_kit.errors import KitError
from stlm_kit.model.decoder import Decoder
from stlm_kit.teachers.empty import meta_decoder

# llama.cpp's name -> the kit's, in block i
BLOCK = {
    "attn_norm": "norm_1",
    "attn_q": "attention.query",
    "attn_k": "attention.key",
    "attn_v": "attention.value",
    "attn_output": "attention.output",
    "ffn_norm": "norm_2",
    "ffn_gate": "feed_forward.gate",
    "ffn_up": "feed_forward.up",
    "ffn_down": "feed_forward.down",
}


def llama_config(file: GgufFile) -> DecoderConfig:
    """The decoder that a GGUF file of a llama describes. The head is tied where the file holds none of its own.

    Raises KitError for another architecture, and where a size is missing.
    """
    said = file.metadata
    if (kind := said.get("general.architecture")) != "llama":
        raise KitError(f"The file {file.path} holds a {kind!r} model; the kit reads llama's only.")
    try:
        heads = said["llama.attention.head_count"]
        return DecoderConfig(
            vocab_size=len(said["tokenizer.ggml.tokens"]),
            context_length=said["llama.context_length"],
            n_layers=said["llama.block_count"],
            d_model=said["llama.embedding_length"],
            n_heads=heads,
            n_kv_heads=said.get("llama.attention.head_count_kv", heads),
            head_dim=said.get("llama.attention.key_length"),
            d_ff=said["llama.feed_forward_length"],
            norm="rmsnorm",
            norm_epsilon=said["llama.attention.layer_norm_rms_epsilon"],
            positions="rotary",
            rope_base=said.get("llama.rope.freq_base", 10000.0),
            feed_forward="swiglu",
            bias=False,
            tied_head="output.weight" not in file.entries,
        )
    except KeyError as error:
        raise KitError(f"The file {file.path} does not say {error.args[0]}; give a complete one.") from None


def llama_decoder(file: GgufFile, dtype: torch.dtype = torch.float32) -> Decoder:
    """The decoder in a GGUF file, in evaluation mode. Its weights are those of the 4-bit file, turned into `dtype`."""
    config = llama_config(file)

    def read(name: str) -> Tensor:
        return torch.from_numpy(file.tensor(f"{name}.weight")).to(dtype)

    state = {"embedding.weight": read("token_embd"), "final_norm.weight": read("output_norm")}
    for i in range(config.n_layers):
        for theirs, ours in BLOCK.items():
            state[f"blocks.{i}.{ours}.weight"] = read(f"blk.{i}.{theirs}")
        for ours, heads in (("query", config.n_heads), ("key", config.kv_heads)):
            name = f"blocks.{i}.attention.{ours}.weight"
            state[name] = halves(state[name], heads)
    state["head.weight"] = state["embedding.weight"] if config.tied_head else read("output")
    model = meta_decoder(config, dtype)
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise KitError(f"The tensors in {file.path} do not fit its own sizes: {reason}") from None
    if config.tied_head:
        model.head.weight = model.embedding.weight
    return model.eval()


def halves(weight: Tensor, heads: int) -> Tensor:
    """The rows of a query or key matrix in the order for pairs (i, i + head_dim / 2), from that for neighbours.

    llama.cpp rotates neighbours (2 i, 2 i + 1), the kit and Hugging Face rotate the two halves of a head.
    """
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2).contiguous()
