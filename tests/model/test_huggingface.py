"""Parity with transformers, and the way there and back."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from stlm_kit.errors import KitError, UsageError
from stlm_kit.model import Decoder, export_to_hf, load_from_hf
from stlm_kit.model.huggingface import hf_config
from stlm_kit.presets import preset

from .conftest import GPT2, LINEAR, LLAMA, LLAMA3, VASWANI, stir, tiny

STYLES = {
    "llama": tiny(LLAMA),
    "llama-grouped": tiny(LLAMA, n_kv_heads=2),
    "llama-one-kv-head": tiny(LLAMA, n_kv_heads=1, norm_epsilon=1e-3, rope_base=100.0),
    "llama-untied": tiny(LLAMA, tied_head=False, n_kv_heads=2),
    "llama-biases": tiny(LLAMA, bias=True),
    "llama-wide-heads": tiny(LLAMA, head_dim=6),
    "llama-linear": tiny(LLAMA, rope_scaling=LINEAR),
    "llama-3": tiny(LLAMA, rope_scaling=LLAMA3, rope_base=500.0),
    "mistral": tiny(LLAMA, window=3, n_kv_heads=2),
    "mistral-1": tiny(LLAMA, window=1, tied_head=False),
    "qwen3": tiny(LLAMA, qk_norm=True, head_dim=6, n_kv_heads=2),
    "qwen3-linear": tiny(LLAMA, qk_norm=True, tied_head=False, rope_scaling=LINEAR),
    "gpt2": tiny(GPT2),
    "gpt2-untied": tiny(GPT2, tied_head=False, norm_epsilon=1e-3),
    "gpt2-exact-gelu": tiny(GPT2, feed_forward="gelu"),
    "gpt2-relu": tiny(GPT2, feed_forward="relu", dropout=0.1),
}


@pytest.fixture(params=STYLES.values(), ids=STYLES.keys())
def model(request) -> Decoder:
    return stir(Decoder(request.param))


def theirs(folder):
    transformers = pytest.importorskip("transformers")
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report  # no missing, unexpected or mismatched tensor
    return loaded.eval()


def test_transformers_gives_the_same_logits(model, ids, tmp_path):
    other = theirs(export_to_hf(model, tmp_path))
    with torch.no_grad():
        assert torch.allclose(other(ids).logits, model(ids), rtol=0, atol=1e-5)
    assert (other.lm_head.weight is other.get_input_embeddings().weight) == model.config.tied_head


def test_transformers_gives_the_same_gradients(ids, tmp_path):
    model = stir(Decoder(STYLES["llama-grouped"]))
    other = theirs(export_to_hf(model, tmp_path))
    for logits in (model(ids), other(ids).logits):
        logits.float().logsumexp(-1).mean().backward()
    assert torch.allclose(model.embedding.weight.grad, other.get_input_embeddings().weight.grad, atol=1e-5)
    theirs_key = other.model.layers[1].self_attn.k_proj.weight.grad
    assert torch.allclose(model.blocks[1].attention.key.weight.grad, theirs_key, atol=1e-5)


def test_there_and_back(model, ids, tmp_path):
    back = load_from_hf(export_to_hf(model, tmp_path))
    assert back.config == model.config
    assert torch.equal(back(ids), model(ids))
    assert (back.head.weight is back.embedding.weight) == model.config.tied_head


def test_what_transformers_saves_loads_here(model, ids, tmp_path):
    other = theirs(export_to_hf(model, tmp_path / "a"))
    other.save_pretrained(tmp_path / "b")
    assert torch.equal(load_from_hf(tmp_path / "b")(ids), model(ids))


def test_weights_made_by_transformers_give_its_logits(ids, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    made = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=23, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=12, tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip
    made.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.allclose(load_from_hf(tmp_path)(ids), made(ids).logits, rtol=0, atol=1e-5)


def test_a_tied_head_is_stored_once(tmp_path):
    export_to_hf(stir(Decoder(tiny())), tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is True


def test_released_gpt2_names_without_the_prefix_load(tmp_path, ids):
    """The files OpenAI's GPT-2 was released in lack "transformer." and carry the causal mask as a tensor."""
    model = stir(Decoder(tiny(GPT2)))
    export_to_hf(model, tmp_path)
    tensors = {k.removeprefix("transformer."): v for k, v in load_file(tmp_path / "model.safetensors").items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 12, 12).tril()
    save_file(tensors, tmp_path / "model.safetensors")
    assert torch.equal(load_from_hf(tmp_path)(ids), model(ids))


def test_bf16_weights_keep_their_type(tmp_path, ids):
    model = stir(Decoder(tiny())).to(torch.bfloat16)
    export_to_hf(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert torch.equal(load_from_hf(tmp_path)(ids), model(ids))


class Letters:
    """The least of a tokenizer: what export asks of one."""

    end_of_document = 7

    def save(self, folder):
        (folder / "tokenizer.json").write_text("{}")


def test_a_tokenizer_goes_along(tmp_path):
    export_to_hf(Decoder(tiny()), tmp_path, Letters())
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] == 7
    assert (tmp_path / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (tiny(GPT2, window=4), "gpt2 layout cannot hold window = 4"),
        (tiny(LLAMA, window=4, bias=True), "mistral layout cannot hold bias = True"),
        (tiny(LLAMA, qk_norm=True, window=4), "qwen3 layout cannot hold window = 4"),
        (tiny(LLAMA, qk_norm=True, bias=True), "qwen3 layout cannot hold bias = True"),
        (tiny(LLAMA, embedding_scale=True), "embedding_scale = True"),
        (tiny(LLAMA, head_bias=True), "head_bias = True"),
        (tiny(LLAMA, positions="learned"), "llama layout cannot hold positions = 'learned'"),
        (tiny(LLAMA, feed_forward="relu"), "llama layout cannot hold feed_forward = 'relu'"),
        (tiny(VASWANI), "gpt2 layout cannot hold positions = 'sinusoidal'"),
        (tiny(GPT2, bias=False), "gpt2 layout cannot hold bias = False"),
        (tiny(GPT2, n_kv_heads=2), "gpt2 layout cannot hold kv_heads = 2"),
        (tiny(GPT2, feed_forward="swiglu"), "gpt2 layout cannot hold feed_forward = 'swiglu'"),
    ],
)
def test_what_no_layout_holds_is_named_before_anything_is_written(config, field, tmp_path):
    with pytest.raises(KitError, match=field):
        export_to_hf(Decoder(config), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_presets_that_have_a_layout():
    assert hf_config(preset("stlm-50m"))["num_key_value_heads"] == 4
    assert hf_config(preset("gpt2-small"))["activation_function"] == "gelu_new"
    with pytest.raises(KitError, match="embedding_scale"):
        hf_config(preset("memory-study"))


# --- damaged folders ---


@pytest.fixture
def folder(tmp_path):
    return export_to_hf(stir(Decoder(tiny())), tmp_path / "model")


def change(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))


def refusal(folder) -> str:
    with pytest.raises(KitError) as caught:
        load_from_hf(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_folder(tmp_path):
    with pytest.raises(UsageError, match="There is no folder"):
        load_from_hf(tmp_path / "nowhere")


def test_no_config(folder):
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(folder)


@pytest.mark.parametrize(("text", "words"), [("{", "is not JSON"), ("[]", "holds no settings"), ("{}", "model_type")])
def test_a_damaged_config(folder, text, words):
    (folder / "config.json").write_text(text)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_type": "mamba"}, "model_type = 'mamba'"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"head_dim": 5}, "an even head_dim"),
        ({"mlp_bias": True}, "mlp_bias = True"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "scales its rotary positions"),
        ({"num_attention_heads": 3, "head_dim": None}, "does not divide"),
        ({"num_hidden_layers": 3}, "hold no tensor of layer 2"),
        ({"vocab_size": 24}, "do not fit their config.json"),
    ],
)
def test_a_config_of_another_model(folder, settings, words):
    change(folder, **settings)
    assert words in refusal(folder)


def test_truncated_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    assert "damaged" in refusal(folder)


def test_a_pickle_is_never_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "a pickle, which the kit never opens" in refusal(folder)
