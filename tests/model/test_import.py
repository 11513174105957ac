"""Folders as trouble reports describe them: each is computed as transformers computes it, or refused by its name."""

import json

import pytest
import torch

from stlm_kit.model import Decoder, export_to_hf, load_from_hf

from .conftest import GPT2, LINEAR, LLAMA, LLAMA3, stir, tiny
from .folders import change, change_tensors, refusal, same_as_transformers

SIZES = {"vocab_size": 23, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 12}
LINEAR_OLD, LINEAR_NEW = {"type": "linear", "factor": 4}, {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
LLAMA3_NEW = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3_NEW |= {"original_max_position_embeddings": 32, "rope_theta": 500.0}


@pytest.fixture
def folder(tmp_path):
    return export_to_hf(stir(Decoder(tiny(n_kv_heads=2))), tmp_path / "model")


@pytest.mark.parametrize("kind", ["Llama", "Mistral", "Qwen3"])
@pytest.mark.parametrize("rope", [None, LINEAR_NEW, LLAMA3_NEW], ids=["plain", "linear", "llama3"])
def test_models_made_by_transformers(kind, rope, ids, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    settings = {**SIZES, "rope_parameters": rope, "head_dim": 6, **({"sliding_window": 4} if kind == "Mistral" else {})}
    config = getattr(transformers, f"{kind}Config")(**settings)
    made = stir(getattr(transformers, f"{kind}ForCausalLM")(config))
    made.save_pretrained(tmp_path / "theirs")
    model = same_as_transformers(tmp_path / "theirs", ids)
    assert model.config.qk_norm == (kind == "Qwen3") and model.config.head_dim == 6
    assert model.config.window == (3 if kind == "Mistral" else None)
    again = load_from_hf(export_to_hf(model, tmp_path / "ours"))
    assert again.config == model.config and torch.equal(again(ids), model(ids))
    exported = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert exported["model_type"] == kind.lower()


@pytest.mark.parametrize(
    ("settings", "scaling"),
    [
        ({"rope_scaling": LINEAR_OLD}, LINEAR),  # beside the rope_parameters that transformers 5 writes
        ({"rope_scaling": LINEAR_OLD, "rope_parameters": None}, LINEAR),
        ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_parameters": LINEAR_NEW}, LINEAR),
        ({"rope_parameters": LINEAR_NEW}, LINEAR),
        ({"rope_scaling": {"type": "default"}}, None),
        ({"rope_scaling": None}, None),
        ({"rope_scaling": {}}, None),
        ({"rope_parameters": LLAMA3_NEW, "rope_theta": 500.0}, LLAMA3),
        ({"rope_scaling": {**LLAMA3_NEW, "type": "llama3"}, "rope_parameters": None, "rope_theta": 500}, LLAMA3),
    ],
    ids=str,
)
def test_scaled_positions_are_read_in_both_spellings(folder, settings, scaling, ids):
    model = same_as_transformers(change(folder, **settings), ids)
    assert (model.config.rope_scaling and model.config.rope_scaling.model_dump()) == scaling
    before = load_from_hf(change(folder, rope_scaling=None, rope_parameters=None, rope_theta=10000.0))
    assert torch.equal(model(ids), before(ids)) == (scaling is None)


@pytest.mark.parametrize("spelling", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize(
    ("rope", "words"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "scales its rotary positions ('dynamic')"),
        ({"type": "yarn", "factor": 2.0}, "scales its rotary positions ('yarn')"),
        ({"rope_type": "longrope", "short_factor": [1.0]}, "scales its rotary positions ('longrope')"),
        ({"type": "su", "factor": 2.0}, "scales its rotary positions ('su')"),
        ({"rope_type": "linear"}, "lacks 'factor'"),
        ({"rope_type": "linear", "factor": "4"}, "factor = '4'"),
        ({"rope_type": "linear", "factor": 4.0, "type": "yarn"}, "two types"),
        ({"rope_type": "linear", "factor": 4.0, "attention_factor": 2.0}, "'attention_factor'"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ({"rope_type": "linear", "factor": 0.0}, "factor"),
        ({"rope_type": "default", "rope_theta": 7.0}, "rope_theta = 7.0 in one place and 10000.0"),
        ([1], "settings by name"),
    ],
    ids=str,
)
def test_positions_that_the_kit_does_not_compute_are_named(folder, spelling, rope, words):
    assert words in refusal(change(folder, **{spelling: rope}))


def test_two_spellings_that_disagree_are_refused(folder):
    assert "otherwise" in refusal(
        change(folder, rope_scaling={"type": "linear", "factor": 2.0}, rope_parameters=LINEAR_NEW)
    )
    assert "make them one" in refusal(
        change(folder, rope_scaling=LINEAR_OLD, rope_parameters={"rope_theta": 5e5}, remove=["rope_theta"])
    )  # transformers takes 10,000


@pytest.mark.parametrize("style", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_a_head_beside_a_flag_that_ties_it_is_used(style, ids, tmp_path):
    folder = export_to_hf(stir(Decoder(tiny(style, tied_head=False))), tmp_path)
    untied = load_from_hf(folder)(ids)
    model = same_as_transformers(change(folder, tie_word_embeddings=True), ids)
    assert torch.equal(model(ids), untied) and not model.config.tied_head
    assert model.head.weight is not model.embedding.weight


@pytest.mark.parametrize("style", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_a_head_equal_to_the_embedding_is_tied_and_one_alone_is_both(style, ids, tmp_path):
    folder = export_to_hf(stir(Decoder(tiny(style))), tmp_path)
    before = load_from_hf(folder)(ids)
    embedding = "transformer.wte.weight" if style is GPT2 else "model.embed_tokens.weight"
    change_tensors(folder, lambda tensors: tensors.update({"lm_head.weight": tensors[embedding].clone()}))
    assert torch.equal(same_as_transformers(folder, ids)(ids), before)
    change_tensors(folder, lambda tensors: tensors.pop(embedding))
    model = same_as_transformers(folder, ids)
    assert torch.equal(model(ids), before) and model.head.weight is model.embedding.weight


def test_untied_without_a_head_is_refused(folder):
    assert "hold no tensor 'lm_head.weight'" in refusal(change(folder, tie_word_embeddings=False))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "quantized ('fp8')"),
        ({"quantization_config": {"load_in_4bit": True}}, "quantized"),
        ({"is_causal": False}, "is_causal"),
        ({"sliding_window": 4}, "sliding_window = 4"),
        ({"logits_scaling": 8.0}, "'logits_scaling' = 8.0"),
        ({"attention_bias": True}, "mlp_bias = False"),
        ({"attention_bias": 0}, "attention_bias = 0"),
        ({"num_attention_heads": True}, "num_attention_heads = True"),
        ({"rms_norm_eps": "1e-6"}, "rms_norm_eps = '1e-6'"),
        ({"vocab_size": 10**30}, "sizes that no tensor can have"),
        ({"vocab_size": 10**15}, "do not fit"),
        ({"num_hidden_layers": 10**9}, "no tensor of layer 2"),
        ({"intermediate_size": 2**62}, "config.json"),
        ({"model_type": "qwen2"}, "model_type = 'qwen2'"),
        ({"model_type": "qwen3", "mlp_bias": False}, "q_norm"),
        ({"dtype": "float16"}, "would round"),
        ({"dtype": None, "torch_dtype": "bfloat16"}, "would round"),
        ({"dtype": "int8"}, "dtype = 'int8'"),
    ],
    ids=str,
)
def test_what_may_change_the_numbers_is_refused_by_its_name(folder, settings, words):
    assert words in refusal(change(folder, **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"max_position_embeddings": 10**12},
        {"hidden_act": "swish"},
        {"_name_or_path": "a/b", "use_cache": False, "pretraining_tp": 2, "temperature": 0.6, "pad_token_id": 3},
        {"layer_types": None, "quantization_config": None, "sliding_window": None, "n_shared_experts": None},
        {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8},  # the same shapes, other numbers
        {"rms_norm_eps": 0.5},
        {"rope_theta": 100, "rope_parameters": None},
        {"head_dim": None},
    ],
    ids=str,
)
def test_what_is_read_or_harmless_gives_transformers_numbers(folder, settings, ids):
    same_as_transformers(change(folder, **settings), ids)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_a_file_of_one_type_keeps_it(folder, dtype, ids):
    change_tensors(folder, lambda tensors: tensors.update({name: t.to(dtype) for name, t in tensors.items()}))
    model = load_from_hf(change(folder, dtype=str(dtype).removeprefix("torch.")))
    assert {parameter.dtype for parameter in model.parameters()} == {dtype} and model(ids).dtype == dtype
    if dtype != torch.float64:
        transformers = pytest.importorskip("transformers")
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            assert torch.allclose(model.float()(ids), theirs(ids).logits, rtol=0, atol=1e-5)


def test_mixed_types_become_the_widest(folder, ids):
    change_tensors(folder, lambda t: t.update({name: t[name].bfloat16() for name in t if "mlp" in name}))
    assert {parameter.dtype for parameter in same_as_transformers(folder, ids).parameters()} == {torch.float32}
    assert "would round" in refusal(change(folder, dtype="bfloat16"))


def test_quantized_tensors_are_refused(folder):
    fp8 = "model.layers.0.mlp.up_proj.weight"
    change_tensors(folder, lambda tensors: tensors.update({fp8: tensors[fp8].to(torch.float8_e4m3fn)}))
    assert "holds float8_e4m3fn" in refusal(folder)


def test_a_scale_beside_the_weights_is_not_dropped(folder):
    change_tensors(folder, lambda t: t.update({"model.layers.0.mlp.up_proj.weight_scale_inv": torch.ones(1)}))
    assert "weight_scale_inv" in refusal(folder)


def test_a_bias_that_the_config_denies_is_not_dropped(folder):
    change_tensors(folder, lambda tensors: tensors.update({"model.layers.1.self_attn.q_proj.bias": torch.ones(16)}))
    assert "q_proj.bias" in refusal(folder)


def test_tables_that_older_files_carry_are_passed_over(folder, ids):
    change_tensors(folder, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}))
    same_as_transformers(folder, ids)


def test_an_adapter_is_no_model(folder):
    (folder / "adapter_config.json").write_text("{}")
    assert "adapter" in refusal(folder)
