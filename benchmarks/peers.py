"""What the kit is compared with: a model of another library in the shape of one of the kit's presets."""

from __future__ import annotations

import stlm_kit as kit


def llama(shape: kit.DecoderConfig):
    """transformers' Llama of a preset's shape with a tied head, in training, as its documentation builds it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.d_model,
        intermediate_size=shape.d_ff,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context_length,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
        use_cache=False,
    )
    return LlamaForCausalLM(config).train()
