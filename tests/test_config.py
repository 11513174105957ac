"""Presets and the settings of a decoder."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import UsageError
from stlm_kit.presets import PRESETS, preset, preset_entry

PUBLISHED = {"memory-study", "memory-study-text", "stlm-50m", "stlm-50m-code", "layerdrop-12", "distilqwen3"}
PUBLISHED |= {"gpt2-small"}


def refused(**settings) -> str:
    with pytest.raises(UsageError) as caught:
        preset("stlm-50m", **settings)
    return str(caught.value)


def test_published_presets_and_the_laptop_ones():
    assert {name for name, entry in PRESETS.items() if entry.published} == PUBLISHED
    assert set(PRESETS) - PUBLISHED == {"laptop-llama", "laptop-distilqwen3", "laptop-gpt2", "laptop-memory"}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_cites_its_source_in_a_sentence(name):
    entry = preset_entry(name)
    assert entry.name == name
    assert entry.source.endswith(".")
    assert entry.note.endswith(".")
    assert entry.tokenizer.startswith(("gpt2", "qwen3", "bpe-", "bytes"))


def test_the_default_tokenizer_fits_the_vocabulary():
    sizes = {"gpt2": 50257, "bpe-10000": 10000, "bpe-8192": 8192, "bpe-2048": 2048, "bytes": 257}
    sizes |= {"qwen3": 151_643 + 26}  # Qwen3's BPE and its added tokens
    for entry in PRESETS.values():
        size = sizes[entry.tokenizer]
        assert size == (entry.tokenizer_size or entry.config.vocab_size)
        assert size <= entry.config.vocab_size  # more rows than tokens: padding, where the preset says so


def test_overrides_replace_one_setting_and_keep_the_rest():
    changed = preset("stlm-50m", n_kv_heads=16)
    assert changed.kv_heads == 16
    assert changed.model_dump(exclude={"n_kv_heads"}) == preset("stlm-50m").model_dump(exclude={"n_kv_heads"})
    assert preset("stlm-50m").kv_heads == 4  # the preset itself is untouched


def test_a_config_is_frozen_hashable_and_survives_json():
    config = preset("gpt2-small")
    with pytest.raises(ValueError, match="frozen"):
        config.n_layers = 3
    assert hash(config) == hash(preset("gpt2-small"))
    assert DecoderConfig.model_validate_json(config.model_dump_json()) == config


def test_kv_heads_default_to_the_heads():
    assert preset("gpt2-small").n_kv_heads is None
    assert preset("gpt2-small").kv_heads == 12
    assert preset("gpt2-small").head_dim == 64


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_heads": 7}, ["n_heads = 7 does not divide d_model = 512"]),
        ({"n_kv_heads": 3}, ["n_kv_heads = 3 does not divide n_heads = 16"]),
        ({"n_kv_heads": 32}, ["n_kv_heads = 32 does not divide n_heads = 16"]),
        ({"n_heads": 512, "n_kv_heads": None}, ["1 wide", "even"]),
        ({"window": 0}, ["window of 0", "at least 1"]),
        ({"window": -2}, ["window of -2", "at least 1"]),
        ({"context_length": 0}, ["context_length of 0", "at least 1"]),
        ({"context_length": -5}, ["context_length = -5"]),
        ({"n_layers": 0}, ["n_layers = 0", "greater than or equal to 1"]),
        ({"n_layers": 2.5}, ["n_layers = 2.5", "integer"]),
        ({"n_layers": "many"}, ["n_layers = 'many'", "integer"]),
        ({"n_layers": True}, ["n_layers = true", "no true or false"]),  # Python would take it for 1
        ({"n_kv_heads": False}, ["n_kv_heads = false", "no true or false"]),
        ({"dropout": 1.0}, ["dropout = 1.0", "less than 1"]),
        ({"dropout": float("nan")}, ["dropout = nan"]),
        ({"norm": "batchnorm"}, ["norm = 'batchnorm'", "'layernorm' or 'rmsnorm'"]),
        ({"norm_epsilon": 0}, ["norm_epsilon = 0", "greater than 0"]),
        ({"n_layer": 4}, ["no setting named 'n_layer'", "'n_layers'"]),
        ({"positions": "sinusoidal", "d_model": 15, "n_heads": 1, "n_kv_heads": 1}, ["15 must be even"]),
    ],
)
def test_settings_that_do_not_fit_get_one_sentence(settings, words):
    message = refused(**settings)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert message.endswith((".", "?"))


def test_a_missing_setting_is_named():
    with pytest.raises(UsageError, match="'vocab_size' is missing"):
        DecoderConfig(**preset("stlm-50m").model_dump(exclude={"vocab_size"}))


@pytest.mark.parametrize(
    ("wrong", "near"), [("stlm50m", "stlm-50m"), ("memory", "memory-study"), ("gpt2", "gpt2-small")]
)
def test_an_unknown_preset_names_the_near_ones(wrong, near):
    with pytest.raises(UsageError, match=f"no preset named '{wrong}'.*'{near}'"):
        preset(wrong)


def test_a_name_near_nothing_gets_the_list():
    with pytest.raises(UsageError, match=r"There are memory-study, .*laptop-gpt2"):
        preset("zzz")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "n_heads": st.integers(-1, 20),
            "n_kv_heads": st.none() | st.integers(-1, 20),
            "d_model": st.integers(-1, 64),
            "window": st.none() | st.integers(-1, 9) | st.text(max_size=2),
            "dropout": st.floats() | st.text(max_size=2),
            "positions": st.sampled_from(["learned", "sinusoidal", "rotary", "alibi"]),
        },
    )
)
def test_any_settings_give_a_sound_config_or_one_sentence(settings):
    try:
        config = preset("laptop-llama", **settings)
    except UsageError as error:
        assert "\n" not in str(error)  # hypothesis finds inputs, the sentence stays one line
    else:
        assert config.d_model == config.n_heads * config.head_dim
        assert config.n_heads % config.kv_heads == 0
        assert config.window is None or config.window >= 1


def test_config_imports_without_torch():
    subprocess.run(
        [sys.executable, "-c", "import sys, stlm_kit.config; assert 'torch' not in sys.modules"], check=True, timeout=60
    )
