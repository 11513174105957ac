"""Hugging Face's layout, both ways: a folder with config.json and model.safetensors that transformers loads.

Two of its layouts cover the kit's decoders: `llama` (RMSNorm, rotary, SwiGLU) and `gpt2` (LayerNorm, learned positions,
biases). A decoder between the two families is refused with the field that stands in the way. Nothing here needs
transformers, and no pickle is ever read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import KitError, UsageError
from stlm_kit.model.decoder import Decoder
from stlm_kit.paths import atomic_write

Tensors = dict[str, Tensor]

# The kit's name -> Hugging Face's, in block i. GPT-2 stores its matrices transposed and joins q, k and v in one.
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
GPT2_BLOCK = {
    "norm_1": "ln_1",
    "attention.output": "attn.c_proj",
    "norm_2": "ln_2",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
}
QKV = ("attention.query", "attention.key", "attention.value")
# transformers' names of the activations a GPT-2 layout may have
ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu"}


def layout_of(config: DecoderConfig) -> str:
    """ "llama" or "gpt2". KitError names the first field that the nearer of the two layouts cannot express."""
    layout = "llama" if config.norm == "rmsnorm" else "gpt2"
    wanted: dict[str, Any] = {"window": None, "embedding_scale": False, "head_bias": False}
    wanted |= {"layer_order": None, "qk_norm": False}
    if layout == "llama":
        wanted |= {"positions": "rotary", "feed_forward": "swiglu"}
    else:
        wanted |= {"positions": "learned", "bias": True, "kv_heads": config.n_heads}
        wanted |= {"head_dim": config.d_model // config.n_heads}
        if config.feed_forward == "swiglu":
            wanted["feed_forward"] = "gelu_tanh"
    for field, value in wanted.items():
        if (given := getattr(config, field)) != value:
            raise KitError(
                f"Hugging Face's {layout} layout cannot hold {field} = {given!r} (only {value!r}); "
                "keep this model in the kit's own format, or train one without it."
            )
    return layout


def hf_config(config: DecoderConfig) -> dict[str, Any]:
    """The content of config.json for this decoder. KitError where no layout can express it."""
    shared = {
        "vocab_size": config.vocab_size,
        "initializer_range": config.init_std,
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": None,
        "eos_token_id": None,
        "dtype": "float32",
    }
    if layout_of(config) == "llama":
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": config.d_model,
            "intermediate_size": config.d_ff,
            "num_hidden_layers": config.n_layers,
            "num_attention_heads": config.n_heads,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": config.context_length,
            "rms_norm_eps": config.norm_epsilon,
            "rope_theta": config.rope_base,  # where transformers before 5 look
            "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_base},
            "attention_bias": config.bias,
            "mlp_bias": config.bias,
            "attention_dropout": config.dropout,
            **shared,
        }
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_positions": config.context_length,
        "n_embd": config.d_model,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": config.d_ff,
        "activation_function": ACTIVATIONS[config.feed_forward],
        "layer_norm_epsilon": config.norm_epsilon,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        **shared,
    }


def kit_config(given: dict[str, Any]) -> DecoderConfig:
    """The decoder that a config.json describes. KitError for a layout or a setting that the kit does not have."""

    def only(field: str, *allowed: Any, default: Any = None) -> Any:
        value = given.get(field, allowed[0] if default is None else default)
        if value not in allowed:
            choices = " or ".join(map(repr, allowed))
            raise KitError(f"The config.json has {field} = {value!r}; the kit reads only {choices}.")
        return value

    layout = only("model_type", "llama", "gpt2", default="none")
    try:
        if layout == "llama":
            rope = given.get("rope_parameters") or given.get("rope_scaling") or {}
            if rope.get("rope_type", "default") != "default":
                raise KitError(f"The config.json scales its rotary positions ({rope['rope_type']}); the kit does not.")
            only("hidden_act", "silu")
            bias = given.get("attention_bias", False)
            only("mlp_bias", bias, default=False)
            kv_heads = given.get("num_key_value_heads") or given["num_attention_heads"]
            return DecoderConfig(
                vocab_size=given["vocab_size"], context_length=given.get("max_position_embeddings", 2048),
                n_layers=given["num_hidden_layers"], d_model=given["hidden_size"], n_heads=given["num_attention_heads"],
                n_kv_heads=None if kv_heads == given["num_attention_heads"] else kv_heads,
                head_dim=given.get("head_dim"),
                d_ff=given["intermediate_size"], norm="rmsnorm", norm_epsilon=given.get("rms_norm_eps", 1e-6),
                positions="rotary", rope_base=rope.get("rope_theta", given.get("rope_theta", 10000.0)),
                feed_forward="swiglu", bias=bias,
                tied_head=given.get("tie_word_embeddings", False), dropout=given.get("attention_dropout", 0.0),
                init_std=given.get("initializer_range", 0.02),
            )  # fmt: skip
        kinds = {name: kind for kind, name in ACTIVATIONS.items()}
        only("scale_attn_by_inverse_layer_idx", False)
        only("scale_attn_weights", True)
        return DecoderConfig(
            vocab_size=given["vocab_size"], context_length=given["n_positions"], n_layers=given["n_layer"],
            d_model=given["n_embd"], n_heads=given["n_head"], d_ff=given.get("n_inner") or 4 * given["n_embd"],
            norm="layernorm", norm_epsilon=given.get("layer_norm_epsilon", 1e-5), positions="learned",
            feed_forward=kinds[only("activation_function", "gelu_new", *kinds)], bias=True,
            tied_head=given.get("tie_word_embeddings", True), dropout=given.get("resid_pdrop", 0.1),
            init_std=given.get("initializer_range", 0.02),
        )  # fmt: skip
    except KeyError as missing:
        raise KitError(f"The config.json lacks {missing}; export the model again.") from None


def to_hf_tensors(model: Decoder) -> Tensors:
    """The weights under Hugging Face's names and in its shapes; a tied head is left out, as transformers does."""
    config, own = model.config, {name: value.detach() for name, value in model.state_dict().items()}
    out: Tensors = {}
    if layout_of(config) == "llama":
        out["model.embed_tokens.weight"] = own["embedding.weight"]
        _copy(own, out, "final_norm", "model.norm")
        for i in range(config.n_layers):
            for kit, hf in LLAMA_BLOCK.items():
                _copy(own, out, f"blocks.{i}.{kit}", f"model.layers.{i}.{hf}")
    else:
        out["transformer.wte.weight"] = own["embedding.weight"]
        out["transformer.wpe.weight"] = own["positions.weight"]
        _copy(own, out, "final_norm", "transformer.ln_f")
        for i in range(config.n_layers):
            block, theirs = f"blocks.{i}.", f"transformer.h.{i}."
            for kit, hf in GPT2_BLOCK.items():
                _copy(own, out, block + kit, theirs + hf, transpose=True)
            joined = [torch.cat([own[f"{block}{part}.{kind}"] for part in QKV]) for kind in ("weight", "bias")]
            out[f"{theirs}attn.c_attn.weight"], out[f"{theirs}attn.c_attn.bias"] = joined[0].T, joined[1]
    if not config.tied_head:
        out["lm_head.weight"] = own["head.weight"]
    return {name: value.contiguous() for name, value in out.items()}


def from_hf_tensors(config: DecoderConfig, theirs: Tensors) -> Tensors:
    """A state dict for `Decoder(config)` from tensors under Hugging Face's names, which may lack the usual prefix."""
    theirs = {name.removeprefix("transformer.").removeprefix("model."): value for name, value in theirs.items()}
    out: Tensors = {}
    if layout_of(config) == "llama":
        out["embedding.weight"] = _take(theirs, "embed_tokens.weight")
        _copy(theirs, out, "norm", "final_norm")
        for i in range(config.n_layers):
            for kit, hf in LLAMA_BLOCK.items():
                _copy(theirs, out, f"layers.{i}.{hf}", f"blocks.{i}.{kit}")
    else:
        out["embedding.weight"], out["positions.weight"] = _take(theirs, "wte.weight"), _take(theirs, "wpe.weight")
        _copy(theirs, out, "ln_f", "final_norm")
        for i in range(config.n_layers):
            for kit, hf in GPT2_BLOCK.items():
                _copy(theirs, out, f"h.{i}.{hf}", f"blocks.{i}.{kit}", transpose=True)
            for kind in ("weight", "bias"):
                joined = _take(theirs, f"h.{i}.attn.c_attn.{kind}")
                parts = (joined.T if kind == "weight" else joined).chunk(3)
                out |= {f"blocks.{i}.{part}.{kind}": value for part, value in zip(QKV, parts, strict=True)}
    out["head.weight"] = out["embedding.weight"] if config.tied_head else _take(theirs, "lm_head.weight")
    return out


def _copy(source: Tensors, target: Tensors, old: str, new: str, transpose: bool = False) -> None:
    """Copy a layer's weight, and its bias where it has one."""
    weight = _take(source, f"{old}.weight")
    target[f"{new}.weight"] = weight.T if transpose and weight.ndim == 2 else weight
    if f"{old}.bias" in source:
        target[f"{new}.bias"] = source[f"{old}.bias"]


def _take(tensors: Tensors, name: str) -> Tensor:
    if name not in tensors:
        raise KitError(f"The weights hold no tensor {name!r}; the file and its config.json do not belong together.")
    return tensors[name]


def export_to_hf(model: Decoder, folder: Path | str, tokenizer: Any = None) -> Path:
    """Write `folder` so that transformers' AutoModelForCausalLM.from_pretrained(folder) gives the same logits.

    Writes config.json and model.safetensors, each atomically, and the tokenizer's own files where one is given.
    Dropout is carried as far as the layout has a place for it (Llama's drops attention weights only).
    Returns the folder. Raises KitError, before anything is written, when no layout of Hugging Face's can express the
    model (the sentence names the field).
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
    """The decoder in a folder of Hugging Face's layout, in evaluation mode, on the CPU, in the type it was stored in.

    Raises KitError for a missing, damaged or pickled file, for an architecture other than llama and gpt2, and for
    weights that do not fit the configuration; UsageError when `folder` does not exist.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}; give the one that holds config.json and model.safetensors.")
    try:
        settings = json.loads((folder / "config.json").read_text("utf-8"))
    except FileNotFoundError:
        raise KitError(f"{folder} holds no config.json, so it is no model in Hugging Face's layout.") from None
    except ValueError as error:
        raise KitError(f"{folder / 'config.json'} is not JSON ({error}); export the model again.") from None
    if not isinstance(settings, dict):
        raise KitError(f"{folder / 'config.json'} holds no settings by name; export the model again.")
    config = kit_config(settings)
    path = folder / "model.safetensors"
    if not path.exists():
        pickled = next(folder.glob("*.bin"), None)
        reason = f"only {pickled.name}, a pickle, which the kit never opens" if pickled else "no model.safetensors"
        raise KitError(f"{folder} holds {reason}; save the model as safetensors.")
    try:
        state = from_hf_tensors(config, load_file(path))
    except SafetensorError as error:
        raise KitError(f"{path} is damaged or no safetensors file ({error}); export the model again.") from None
    model = Decoder(config).to(state["embedding.weight"].dtype)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise KitError(f"The weights in {path} do not fit its config.json: {reason}") from None
    return model.eval()
