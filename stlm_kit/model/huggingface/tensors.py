"""A decoder's weights under Hugging Face's names and in its shapes, and back."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import KitError
from stlm_kit.model.decoder import Decoder
from stlm_kit.model.huggingface.layouts import layout_of

Tensors = dict[str, Tensor]

# The kit's name -> Hugging Face's, in block i. GPT-2 stores its matrices transposed, and q, k and v as one matrix.
LLAMA_BLOCK = {
    "norm_1": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "norm_2": "post_attention_layernorm",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
}
QWEN3_NORMS = {"attention.query_norm": "self_attn.q_norm", "attention.key_norm": "self_attn.k_norm"}
GPT2_BLOCK = {
    "norm_1": "ln_1",
    "attention.output": "attn.c_proj",
    "norm_2": "ln_2",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
}
QKV = ("attention.query", "attention.key", "attention.value")
HEAD = "lm_head.weight"
# Tensors in older files that are computed from the config: the rates of rotary positions, the causal mask.
COMPUTED = re.compile(r"rotary_emb\.inv_freq$|(^|\.)h\.\d+\.attn\.(masked_)?bias$")


def to_hf_tensors(model: Decoder) -> Tensors:
    """The weights under Hugging Face's names and in its shapes. A tied head is left out, as transformers does."""
    config, own = model.config, {name: value.detach() for name, value in model.state_dict().items()}
    layout, out = layout_of(config), {}
    if layout == "gpt2":
        out["transformer.wte.weight"] = own["embedding.weight"]
        out["transformer.wpe.weight"] = own["positions.weight"]
        _copy(own, out, "final_norm", "transformer.ln_f")
        for i in range(config.n_layers):
            block, theirs = f"blocks.{i}.", f"transformer.h.{i}."
            for kit, hf in GPT2_BLOCK.items():
                _copy(own, out, block + kit, theirs + hf, transpose=True)
            joined = [torch.cat([own[f"{block}{part}.{kind}"] for part in QKV]) for kind in ("weight", "bias")]
            out[f"{theirs}attn.c_attn.weight"], out[f"{theirs}attn.c_attn.bias"] = joined[0].T, joined[1]
    else:
        out["model.embed_tokens.weight"] = own["embedding.weight"]
        _copy(own, out, "final_norm", "model.norm")
        for i in range(config.n_layers):
            for kit, hf in _llama_block(config).items():
                _copy(own, out, f"blocks.{i}.{kit}", f"model.layers.{i}.{hf}")
    if not config.tied_head:
        out[HEAD] = own["head.weight"]
    return {name: value.contiguous() for name, value in out.items()}


def from_hf_tensors(config: DecoderConfig, given: Tensors) -> tuple[DecoderConfig, Tensors]:
    """(config, state dict for `Decoder(config)`) from tensors under Hugging Face's names, in one type.

    Either all names have the usual prefix or none. If the config ties the head and the file has both matrices, equal
    matrices are tied. Otherwise the file's head is used, and the returned config is not tied, as in transformers 5. A
    head without an embedding is also the embedding. KitError for a tensor that is missing, of another shape, or unused.
    """
    layout = layout_of(config)
    theirs = with_prefix(given, "transformer." if layout == "gpt2" else "model.")
    embedding = "transformer.wte.weight" if layout == "gpt2" else "model.embed_tokens.weight"
    if config.tied_head and HEAD in theirs:
        if embedding not in theirs or torch.equal(theirs[embedding], theirs[HEAD]):
            theirs[embedding] = theirs.pop(HEAD)
        else:
            config = DecoderConfig(**{**config.model_dump(exclude_unset=True), "tied_head": False})
    _check_names_and_shapes(config, theirs, embedding)
    out: Tensors = {"embedding.weight": theirs[embedding]}
    if layout == "gpt2":
        out["positions.weight"] = theirs["transformer.wpe.weight"]
        _copy(theirs, out, "transformer.ln_f", "final_norm")
        for i in range(config.n_layers):
            for kit, hf in GPT2_BLOCK.items():
                _copy(theirs, out, f"transformer.h.{i}.{hf}", f"blocks.{i}.{kit}", transpose=True)
            for kind in ("weight", "bias"):
                joined = theirs[f"transformer.h.{i}.attn.c_attn.{kind}"]
                parts = (joined.T if kind == "weight" else joined).chunk(3)
                out |= {f"blocks.{i}.{part}.{kind}": value for part, value in zip(QKV, parts, strict=True)}
    else:
        _copy(theirs, out, "model.norm", "final_norm")
        for i in range(config.n_layers):
            for kit, hf in _llama_block(config).items():
                _copy(theirs, out, f"model.layers.{i}.{hf}", f"blocks.{i}.{kit}")
    out["head.weight"] = out["embedding.weight"] if config.tied_head else theirs[HEAD]
    return config, out


def with_prefix(given: Tensors, prefix: str) -> Tensors:
    """The same tensors, with names that begin with `prefix`, except the head's. KitError where only some have it."""
    bare = [name for name in given if not name.startswith(prefix) and not name.startswith("lm_head.")]
    whole = [name for name in given if name.startswith(prefix)]
    if bare and whole:
        raise KitError(
            f"The weights name some tensors with {prefix!r} before them ({whole[0]!r}) and some without ({bare[0]!r}); "
            "save the model again."
        )
    return {prefix + name if name in bare else name: tensor for name, tensor in given.items()}


def expected_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """{Hugging Face's name: shape} of a decoder's weights: the tensors that an export would write."""
    try:
        with torch.device("meta"):
            return {name: tuple(tensor.shape) for name, tensor in to_hf_tensors(Decoder(config)).items()}
    except (RuntimeError, OverflowError, TypeError):  # sizes that no tensor can have
        raise KitError("The config.json states sizes that no tensor can have; export the model again.") from None


def _check_names_and_shapes(config: DecoderConfig, theirs: Tensors, embedding: str) -> None:
    """Raise KitError for the first tensor on which the config and the file disagree."""
    numbers = {
        int(found[1]) for name in theirs if (found := re.match(r"(?:transformer\.h|model\.layers)\.(\d{1,9})\.", name))
    }
    # Checked before a decoder is built: a config may state a thousand million layers.
    first_missing = next((i for i in range(config.n_layers) if i not in numbers), None)
    if first_missing is not None:
        raise KitError(
            f"The weights hold no tensor of layer {first_missing} and the config.json states {config.n_layers} layers; "
            "the two do not belong together."
        )
    expected = expected_shapes(config)
    for name, shape in expected.items():
        if name not in theirs:
            raise KitError(f"The weights hold no tensor {name!r}; the file and its config.json do not belong together.")
        if (found := tuple(theirs[name].shape)) != shape:
            raise KitError(
                f"The weights do not fit their config.json: {name!r} is {_times(found)} and should be {_times(shape)}."
            )
    if unused := sorted(theirs.keys() - expected.keys()):
        raise KitError(
            f"The weights hold {unused[0]!r}, which the model of their config.json does not have; the two do not "
            "belong together."
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def _llama_block(config: DecoderConfig) -> dict[str, str]:
    return LLAMA_BLOCK | QWEN3_NORMS if config.qk_norm else LLAMA_BLOCK


def _copy(source: Tensors, target: Tensors, old: str, new: str, transpose: bool = False) -> None:
    """Copy a layer's weight, and its bias where it has one."""
    weight = source[f"{old}.weight"]
    target[f"{new}.weight"] = weight.T if transpose and weight.ndim == 2 else weight
    if f"{old}.bias" in source:
        target[f"{new}.bias"] = source[f"{old}.bias"]
