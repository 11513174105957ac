"""From a config.json to the config of a decoder.

Every key is either read, or known to change no number, or allowed to have one value only. Any other key is refused,
because it may change what the model computes. A missing key has transformers' default, except a size, which must be
given. A key that is null counts as not set.
"""

from __future__ import annotations

from typing import Any

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import KitError, UsageError
from stlm_kit.model.huggingface.layouts import ACTIVATIONS, ARCHITECTURES

# Keys that change no logit: names, ids of special tokens, sampling settings, settings of training only.
_NAMES = """architectures model_type transformers_version _name_or_path name_or_path _commit_hash tokenizer_class prefix
finetuning_task task_specific_params problem_type id2label label2id num_labels is_decoder torchscript use_bfloat16
tf_legacy_loss gradient_checkpointing use_cache output_hidden_states output_attentions return_dict use_return_dict
chunk_size_feed_forward pretraining_tp tie_last_hidden_states _attn_implementation attn_implementation
_attn_implementation_autoset _flash_attn_2_enabled _experts_implementation is_llama_config transformers.js_config
unsloth_fixed unsloth_version _num_labels dtype torch_dtype"""
_TOKENS = "bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id decoder_start_token_id mask_token_id"
_GENERATION = """bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping
encoder_no_repeat_ngram_size encoder_repetition_penalty epsilon_cutoff eta_cutoff exponential_decay_length_penalty
forced_bos_token_id forced_eos_token_id length_penalty max_length max_new_tokens min_length no_repeat_ngram_size
num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold assistant_lookbehind target_lookbehind
num_beam_groups num_beams num_return_sequences output_scores remove_invalid_values repetition_penalty
return_dict_in_generate suppress_tokens temperature top_k top_p typical_p"""
_GPT2 = """n_ctx attn_pdrop embd_pdrop summary_type summary_use_proj summary_activation summary_proj_to_labels
summary_first_dropout"""
HARMLESS = {layout: set(f"{_NAMES} {_TOKENS} {_GENERATION}".split()) for layout in ARCHITECTURES}
HARMLESS["gpt2"] |= set(_GPT2.split())
HARMLESS["qwen3"].add("max_window_layers")  # it matters only with use_sliding_window, which is refused

# Keys that change numbers, and the values with which they do not.
ONLY: dict[str, tuple] = {
    "quantization_config": (None,),
    "is_causal": (True,),
    "is_encoder_decoder": (False,),
    "tie_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "pruned_heads": ({}, None),
    "per_layer_config": (None,),
    "partial_rotary_factor": (1.0, 1, None),
    "rope_interleaved": (False,),
    "use_sliding_window": (False,),
}
ONLY_IN: dict[str, dict[str, tuple]] = {
    "llama": {"sliding_window": (None,)},
    "mistral": {"attention_bias": (False,), "mlp_bias": (False,)},
    "qwen3": {"attention_bias": (False,), "mlp_bias": (False,)},
    "gpt2": {
        "rope_scaling": (None,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "scale_attn_weights": (True,),
        "reorder_and_upcast_attn": (False,),
    },
}
# transformers' defaults that differ by layout: (positions, key-value heads, width of a head, window)
DEFAULTS = {"llama": (2048, None, None, None), "mistral": (131072, 8, None, 4096), "qwen3": (32768, 32, 128, None)}


class Settings:
    """The keys of a config.json, and a record of which were read."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values, self.looked_at = values, set()

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a key, or the default where it is missing."""
        self.looked_at.add(name)
        return self.values.get(name, default)

    def whole(self, name: str, *default: int | None) -> Any:
        """An integer. Without a default the key must be present; with None among the defaults it may be null.

        Raises KitError for a missing key or another type.
        """
        return self._of_type((int,), "a whole number", name, *default)

    def number(self, name: str, *default: float | None) -> Any:
        """A number; otherwise as `whole`."""
        return self._of_type((int, float), "a number", name, *default)

    def _of_type(self, types: tuple[type, ...], words: str, name: str, *default: Any) -> Any:
        if name not in self.values and not default:
            raise KitError(f"The config.json lacks {name!r}; export the model again.")
        value = self.get(name, *default[:1])
        if type(value) not in types and (value is not None or None not in default):  # True is not a number, nor is "3"
            raise KitError(f"The config.json has {name} = {_short(value)}; write {words}.")
        return value

    def only(self, name: str, *allowed: Any, default: Any = None) -> Any:
        """A value that must be one of `allowed`; KitError for any other."""
        value = self.get(name, allowed[0] if default is None else default)
        if not any(value == one and type(value) is type(one) for one in allowed):  # 1 is not true, and 0 is not false
            choices = " or ".join(map(_short, allowed))
            raise KitError(f"The config.json has {name} = {_short(value)}; the kit reads only {choices}.")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """A bool; KitError for any other type."""
        return self.only(name, True, False, default=default)


def kit_config(given: dict[str, Any]) -> DecoderConfig:
    """The decoder that a config.json describes. KitError for a layout, key or value that the kit does not have.

    GPT-2's three dropout rates become one, that of the residual stream, because none has an effect outside training.
    """
    settings = Settings(given)
    layout = settings.only("model_type", *ARCHITECTURES, default="none")
    if (quantized := given.get("quantization_config")) is not None:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        raise KitError(
            f"The config.json says that the weights are quantized ({_short(method)}); the kit reads plain "
            "floating-point weights, so give a copy that is not."
        )
    for name, values in {**ONLY, **ONLY_IN[layout]}.items():
        settings.only(name, *values)
    try:
        fields = _gpt2(settings) if layout == "gpt2" else _llama(settings, layout)
        unknown = sorted(given.keys() - settings.looked_at - HARMLESS[layout])
        if unknown := next((name for name in unknown if given[name] is not None), None):  # null means not set
            raise KitError(
                f"The config.json has {unknown!r} = {_short(given[unknown])}, which the kit does not know and which "
                "may change the numbers; take the key out if it does not."
            )
        return DecoderConfig(**fields)
    except UsageError as error:
        raise KitError(f"The config.json describes no decoder: {error}") from None


def _llama(settings: Settings, layout: str) -> dict[str, Any]:
    positions, kv_heads, head_dim, window = DEFAULTS[layout]
    n_heads, n_layers = settings.whole("num_attention_heads"), settings.whole("num_hidden_layers")
    given = settings.get("num_key_value_heads", kv_heads)
    kv_heads = n_heads if given is None else settings.whole("num_key_value_heads", kv_heads)
    context = settings.whole("max_position_embeddings", positions)
    base, scaling = rope(settings, context)
    settings.only("hidden_act", "silu", "swish")
    bias = settings.flag("attention_bias", False)  # True only in a llama: see ONLY_IN
    settings.only("mlp_bias", bias, default=False)
    if layout == "mistral" and settings.get("sliding_window", window) is None:
        window = None
    elif layout == "mistral":
        window = settings.whole("sliding_window", window) - 1  # transformers counts the token itself, too
    if layout == "qwen3":
        settings.get("sliding_window")  # without effect, because use_sliding_window is off
        settings.only("layer_types", ["full_attention"] * min(n_layers, 10_000), None)
    return {
        "vocab_size": settings.whole("vocab_size"),
        "context_length": context,
        "n_layers": n_layers,
        "d_model": settings.whole("hidden_size"),
        "n_heads": n_heads,
        "n_kv_heads": None if kv_heads == n_heads else kv_heads,
        "head_dim": settings.whole("head_dim", head_dim),
        "qk_norm": layout == "qwen3",
        "d_ff": settings.whole("intermediate_size"),
        "norm": "rmsnorm",
        "norm_epsilon": settings.number("rms_norm_eps", 1e-6),
        "positions": "rotary",
        "rope_base": base,
        "rope_scaling": scaling,
        "feed_forward": "swiglu",
        "bias": bias,
        "tied_head": settings.flag("tie_word_embeddings", False),
        "window": window,
        "dropout": settings.number("attention_dropout", 0.0, None) or 0.0,
        "init_std": settings.number("initializer_range", 0.02),
    }


def _gpt2(settings: Settings) -> dict[str, Any]:
    # gelu_pytorch_tanh is gelu_new in torch's own kernel
    kinds = {name: kind for kind, name in ACTIVATIONS.items()} | {"gelu_pytorch_tanh": "gelu_tanh"}
    width = settings.whole("n_embd")
    return {
        "vocab_size": settings.whole("vocab_size"),
        "context_length": settings.whole("n_positions"),
        "n_layers": settings.whole("n_layer"),
        "d_model": width,
        "n_heads": settings.whole("n_head"),
        "d_ff": 4 * width if settings.get("n_inner") is None else settings.whole("n_inner"),
        "norm": "layernorm",
        "norm_epsilon": settings.number("layer_norm_epsilon", 1e-5),
        "positions": "learned",
        "feed_forward": kinds[settings.only("activation_function", "gelu_new", *kinds)],
        "bias": True,
        "tied_head": settings.flag("tie_word_embeddings", True),
        "dropout": settings.number("resid_pdrop", 0.1),
        "init_std": settings.number("initializer_range", 0.02),
    }


def rope(settings: Settings, context: int) -> tuple[float, dict[str, Any] | None]:
    """(base, scaling) of rotary positions, from the old keys (rope_theta, rope_scaling) or the new one
    (rope_parameters).

    As in transformers, a rope_scaling that is not empty takes precedence over rope_parameters. A rope_theta beside them
    is used where the one that counts gives no base. KitError where the other keys disagree with the one that counts,
    because different programs would then read different models. KitError also for a scaling that the kit does not
    compute.
    """
    spelled = {name: settings.get(name) for name in ("rope_scaling", "rope_parameters")}
    read = [_read_rope(name, value, context) for name, value in spelled.items() if value]
    bases = [base for base, _ in read]
    if "rope_theta" in settings.values:
        bases.append(settings.number("rope_theta"))
    counts, scaling = bases[0] if bases else None, read[0][1] if read else None
    if counts is None:
        counts = settings.values.get("rope_theta", 10000.0)
    if other := next((base for base in bases if base not in (None, counts)), None):
        raise KitError(f"The config.json has rope_theta = {counts} in one place and {other} in another; make them one.")
    if any(other not in (None, scaling) for _, other in read):
        raise KitError("The config.json scales positions by rope_scaling otherwise than by rope_parameters; keep one.")
    return counts, scaling


def _read_rope(name: str, value: Any, context: int) -> tuple[float | None, dict[str, Any] | None]:
    """(base or None, scaling) of one of the two forms."""
    if not isinstance(value, dict):
        raise KitError(f"The config.json has {name} = {_short(value)}; it should hold settings by name.")
    given = Settings(value)
    kind = given.get("rope_type", given.get("type", "default"))
    if "type" in value and value["type"] != kind:
        raise KitError(f"The config.json's {name} has two types, {_short(kind)} and {_short(value['type'])}; keep one.")
    if kind not in ("default", "linear", "llama3"):
        raise KitError(
            f"The config.json scales its rotary positions ({_short(kind)}); of such scalings the kit computes linear "
            "and llama3, so give a model without it."
        )
    given.only("partial_rotary_factor", 1.0, 1, None)
    base = given.number("rope_theta") if "rope_theta" in value else None
    scaling = None
    if kind == "linear":
        scaling = {"kind": kind, "factor": given.number("factor")}
    elif kind == "llama3":
        scaling = {
            "kind": kind,
            "factor": given.number("factor"),
            "low_frequency": given.number("low_freq_factor"),
            "high_frequency": given.number("high_freq_factor"),
            "original_context": given.whole("original_max_position_embeddings", context),
        }
    if unknown := sorted(value.keys() - given.looked_at):
        raise KitError(
            f"The config.json's {name} has {unknown[0]!r}, which the kit does not know for {kind} positions; take it "
            "out if it changes nothing."
        )
    return base, scaling


def _short(value: Any) -> str:
    """A value for a sentence: on one line, and shortened if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
