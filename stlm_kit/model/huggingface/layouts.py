"""The Hugging Face layout that holds a decoder, and its config.json.

Four layouts cover the kit's decoders: `llama` (RMSNorm, rotary, SwiGLU), `mistral` (the same with a window), `qwen3`
(with norms over queries and keys) and `gpt2` (LayerNorm, learned positions, biases). Other combinations are refused,
with the name of the field that no layout can express.
"""

from __future__ import annotations

from typing import Any

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import KitError

# transformers' names of the activations that a GPT-2 layout may have
ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu"}
ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}


def layout_of(config: DecoderConfig) -> str:
    """ "llama", "mistral", "qwen3" or "gpt2": the layout's `model_type`.

    KitError names the first field that the nearest layout cannot express.
    """
    wanted: dict[str, Any] = {"embedding_scale": False, "head_bias": False, "layer_order": None}
    wanted |= {"sharing": "none", "layer_index": False, "factor_rank": None}
    if config.norm == "layernorm":
        layout = "gpt2"
        wanted |= {"window": None, "qk_norm": False, "positions": "learned", "bias": True, "kv_heads": config.n_heads}
        wanted |= {"head_dim": config.d_model // config.n_heads}
        if config.feed_forward == "swiglu":
            wanted["feed_forward"] = "gelu_tanh"
    else:
        layout = "qwen3" if config.qk_norm else "llama" if config.window is None else "mistral"
        wanted |= {"positions": "rotary", "feed_forward": "swiglu"}
        wanted |= {"llama": {}, "mistral": {"bias": False}, "qwen3": {"bias": False, "window": None}}[layout]
    for field, value in wanted.items():
        if (given := getattr(config, field)) != value:
            raise KitError(
                f"Hugging Face's {layout} layout cannot hold {field} = {given!r} (only {value!r}); "
                "keep this model in the kit's own format, or train one without it."
            )
    return layout


def hf_config(config: DecoderConfig) -> dict[str, Any]:
    """The content of config.json for this decoder. KitError where no layout can express it."""
    layout = layout_of(config)
    shared = {
        "architectures": [ARCHITECTURES[layout]],
        "model_type": layout,
        "vocab_size": config.vocab_size,
        "initializer_range": config.init_std,
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": None,
        "eos_token_id": None,
        "dtype": "float32",
    }
    if layout == "gpt2":
        return {
            **shared,
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
        }
    given = {
        **shared,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_epsilon,
        "attention_dropout": config.dropout,
        **_rope(config),
    }
    if layout == "mistral":  # transformers counts the token itself, too
        return given | {"sliding_window": config.window + 1}
    if layout == "qwen3":
        return given | {"attention_bias": False, "use_sliding_window": False}
    return given | {"attention_bias": config.bias, "mlp_bias": config.bias}


def _rope(config: DecoderConfig) -> dict[str, Any]:
    """Rotary positions with the old and the new keys: transformers before 5 reads only rope_theta and rope_scaling."""
    if (scaling := config.rope_scaling) is None:
        default = {"rope_type": "default", "rope_theta": config.rope_base}
        return {"rope_theta": config.rope_base, "rope_parameters": default}
    scaled: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        scaled |= {"low_freq_factor": scaling.low_frequency, "high_freq_factor": scaling.high_frequency}
        scaled["original_max_position_embeddings"] = scaling.original_context
    parameters = {**scaled, "rope_theta": config.rope_base}
    return {"rope_theta": config.rope_base, "rope_scaling": scaled, "rope_parameters": parameters}
