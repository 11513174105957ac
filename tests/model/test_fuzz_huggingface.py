"""Any folder in Hugging Face's layout is computed as transformers computes it, or refused in one sentence.

STLM_FUZZ=N draws N edits of valid folders, at least 300 (keys of config.json changed, added, removed; tensors renamed,
dropped, reshaped or cast; files cut short) from a fresh seed, which a failure names; by default 60 from a fixed one.
STLM_FUZZ_SEED repeats a run, STLM_FUZZ_TOLD=FILE writes down what became of each edit.
"""

import copy
import json
import os
import random
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stlm_kit.errors import KitError
from stlm_kit.model import Decoder, export_to_hf, load_from_hf

from .conftest import GPT2, LINEAR, LLAMA, LLAMA3, stir, tiny

N = max(300, int(os.environ["STLM_FUZZ"])) if "STLM_FUZZ" in os.environ else 60
SEED = int(os.environ.get("STLM_FUZZ_SEED", time.time_ns() % 2**31 if "STLM_FUZZ" in os.environ else 0))

CONFIGS = {
    "llama": tiny(LLAMA, n_kv_heads=2),
    "llama-untied": tiny(LLAMA, tied_head=False, head_dim=6),
    "llama-linear": tiny(LLAMA, rope_scaling=LINEAR, bias=True),
    "llama-3": tiny(LLAMA, rope_scaling=LLAMA3),
    "mistral": tiny(LLAMA, window=3, n_kv_heads=2),
    "qwen3": tiny(LLAMA, qk_norm=True, tied_head=False),
    "gpt2": tiny(GPT2),
    "gpt2-untied": tiny(GPT2, tied_head=False),
}
ROPES = [
    {"type": "linear", "factor": 2.0},
    {"rope_type": "linear", "factor": 4},
    {"type": "dynamic", "factor": 2.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 6},
    {"rope_type": "longrope", "short_factor": [1.0, 2.0], "long_factor": [1.0, 2.0], "factor": 2.0},
    {"rope_type": "default"},
    {"rope_type": "default", "rope_theta": 77.0},
    {"rope_type": "linear"},
    {"rope_type": "linear", "type": "dynamic", "factor": 2.0},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1, "high_freq_factor": 4, "rope_theta": 500000},
    {"rope_type": "proportional", "partial_rotary_factor": 0.5},
    {"factor": 2.0},
    {},
    "linear",
    None,
]
# What other models' files hold, and what a hand may write.
ADDED = {
    "rope_scaling": ROPES,
    "rope_parameters": ROPES,
    "rope_theta": [10000, 500.0, None, "10000"],
    "partial_rotary_factor": [0.5, 1.0],
    "attention_bias": [True, False, 1, None],
    "mlp_bias": [True, False],
    "hidden_act": ["gelu", "relu", "silu", "swish", "gelu_pytorch_tanh", None],
    "activation_function": ["gelu", "relu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "silu"],
    "head_dim": [None, 2, 3, 4, 8],
    "sliding_window": [1, 2, 4, 0, None, 4096],
    "use_sliding_window": [True, False],
    "layer_types": [None, ["full_attention"] * 2, ["full_attention", "sliding_attention"], ["full_attention"]],
    "max_window_layers": [0, 1],
    "tie_word_embeddings": [True, False, None, 0],
    "num_key_value_heads": [None, 1, 2, 3, 4],
    "num_attention_heads": [1, 2, 8, "4", 4.0],
    "n_head": [1, 2, 8, 3],
    "rms_norm_eps": [1e-6, 0.1, 0, "1e-6"],
    "layer_norm_epsilon": [1e-6, 0.1, -1.0],
    "scale_attn_weights": [True, False],
    "scale_attn_by_inverse_layer_idx": [True, False],
    "reorder_and_upcast_attn": [True],
    "quantization_config": [{"quant_method": "fp8"}, {"quant_method": "bitsandbytes", "load_in_4bit": True}, None],
    "is_causal": [False, True],
    "dtype": ["bfloat16", "float16", "float32", "float64", None, "fp8"],
    "torch_dtype": ["bfloat16", "float32"],
    "model_type": ["llama", "mistral", "qwen3", "qwen2", "gpt2", "gemma", "phi3", "granite", "opt"],
    "logit_scale": [2.0],
    "final_logit_softcapping": [30.0],
    "embedding_multiplier": [12.0],
    "qk_norm": [True],
    "attn_pdrop": [0.5],
    "attention_dropout": [0.5, None],
    "use_cache": [False],
    "pretraining_tp": [2],
    "bos_token_id": [3, None],
    "eos_token_id": [[1, 2], 5],
    "temperature": [0.6],
    "n_inner": [None, 64, 20],
    "max_position_embeddings": [4, 12, 4096, 10**12],
    "n_positions": [4, 13],
    "num_hidden_layers": [0, 1, 3, 10**9],
    "n_layer": [1, 3],
    "vocab_size": [22, 24, 10**15, -1],
    "hidden_size": [8, 16, 10**12],
    "intermediate_size": [20, 40, None],
}
NAMES = sorted(ADDED)
CASTS = [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn, torch.int8, torch.int64]


def edit_config(rng: random.Random, config: dict, tensors: dict) -> str:
    """Change, add or remove keys; gives what was done."""
    how = rng.choice(["change", "change", "add", "add", "add", "remove", "scramble", "rope"])
    if how == "remove":
        return f"remove {config.pop(name := rng.choice(sorted(config)))!r} ({name})"
    ropes = [name for name in ("rope_scaling", "rope_parameters") if isinstance(config.get(name), dict)]
    if how == "rope" and ropes:
        for name in ropes[1:]:
            del config[name]
        inner = config[ropes[0]]
        name = rng.choice(["factor", "rope_theta", "low_freq_factor", "original_max_position_embeddings", "rope_type"])
        inner[name] = rng.choice([2, 2.0, 500.0, "linear", "default", None, 32])
        return f"{ropes[0]} = {inner!r}"
    if how == "scramble":
        name = rng.choice(sorted(config))
        config[name] = rng.choice([None, True, False, 0, 1, -1, 2.5, "x", [], {}, "3", 10**30, float("nan")])
        return f"{name} = {config[name]!r}"
    known = [name for name in NAMES if name in config] if how == "change" else NAMES
    name = rng.choice(known)
    config[name] = copy.deepcopy(rng.choice(ADDED[name]))
    return f"{name} = {config[name]!r}"


def edit_tensors(rng: random.Random, config: dict, tensors: dict) -> str:
    """Rename, drop, reshape, cast or add tensors; gives what was done."""
    name = rng.choice(sorted(tensors))
    how = rng.choice(["rename", "drop", "reshape", "cast", "cast all", "add", "transpose", "head", "bare", "swap"])
    if how == "rename":
        new = rng.choice([name + "x", "model." + name, name.replace("model.", ""), name.replace(".1.", ".7."), "x"])
        tensors[new] = tensors.pop(name)
    elif how == "drop":
        del tensors[name]
    elif how == "reshape":
        wide = tensors[name].flatten()
        tensors[name] = rng.choice([wide, wide[None], wide[:-1], wide[:0], wide[0], torch.cat([wide, wide])]).clone()
    elif how == "cast":
        tensors[name] = tensors[name].to(rng.choice(CASTS))
    elif how == "cast all":
        dtype = rng.choice(CASTS)
        tensors |= {each: tensor.to(dtype) for each, tensor in tensors.items()}
        if rng.random() < 0.7:
            config["dtype"] = str(dtype).removeprefix("torch.")
    elif how == "add":
        layer = "transformer.h.0" if "n_head" in config else "model.layers.0"
        new = rng.choice(["self_attn.q_proj.bias", "self_attn.rotary_emb.inv_freq", "attn.bias", "mlp.gate_proj.scale"])
        tensors[f"{layer}.{new}"] = torch.ones(2)
    elif how == "transpose":
        tensors[name] = tensors[name].permute(*reversed(range(tensors[name].ndim))).contiguous()
    elif how == "head":
        made = torch.randn(23, 16, generator=torch.Generator().manual_seed(rng.randrange(99)))
        embedding = tensors["transformer.wte.weight" if "n_head" in config else "model.embed_tokens.weight"]
        tensors["lm_head.weight"] = rng.choice([made, embedding.clone(), made[:22]])
        config["tie_word_embeddings"] = rng.choice([True, False])
    elif how == "bare":
        prefix = "transformer." if "n_head" in config else "model."
        for each in list(tensors):
            tensors[each.removeprefix(prefix)] = tensors.pop(each)
    else:
        embedding = "transformer.wte.weight" if "n_head" in config else "model.embed_tokens.weight"
        tensors["lm_head.weight"] = tensors.pop(embedding)
    return f"{how} {name}"


def write_shards(rng: random.Random, folder: Path, tensors: dict) -> str:
    """Divide the weights among files, and perhaps make files and index disagree; gives what was done."""
    (folder / "model.safetensors").unlink()
    n = rng.randint(1, 3)
    place = {name: f"model-{i % n + 1:05}-of-{n:05}.safetensors" for i, name in enumerate(sorted(tensors))}
    shards = {file: {name: tensors[name] for name in tensors if place[name] == file} for file in set(place.values())}
    name = rng.choice(sorted(tensors))
    how = rng.choice(
        ["whole", "whole", "drop file", "drop entry", "drop tensor", "wrong file", "no index", "bad index"]
    )
    if how == "drop tensor":
        del shards[place[name]][name]
    for file, held in shards.items():
        save_file(held, folder / file, metadata={"format": "pt"})
    if how == "drop file":
        (folder / place[name]).unlink()
    elif how == "drop entry":
        del place[name]
    elif how == "wrong file":
        place[name] = rng.choice([*sorted(shards), "../x.safetensors", "model.bin", 3, None])
    index = {"metadata": {"total_size": 1}, "weight_map": place}
    if how == "bad index":
        index = rng.choice([{}, [], {"weight_map": []}, {"weight_map": None}, {"weight_map": {}}])
    if how != "no index":
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return f"{n} shards, {how} {name}"


def cut_short(rng: random.Random, folder: Path) -> str:
    """Cut a file short, or change one of its bytes; gives what was done."""
    path = folder / rng.choice(["config.json", "model.safetensors"])
    content = path.read_bytes()
    at = rng.randrange(min(len(content), rng.choice([20, 2000, 10**9])))
    if rng.random() < 0.7:
        path.write_bytes(content[:at])
        return f"{path.name} cut at {at}"
    path.write_bytes(content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :])
    return f"{path.name} changed at {at}"


def damage(rng: random.Random, folder: Path) -> str:
    """One to three edits of a valid folder; gives what was done."""
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    done = []
    for _ in range(rng.choice([1, 1, 1, 1, 2, 3])):
        edit = rng.choice([edit_config, edit_config, edit_tensors])
        try:
            done.append(edit(rng, config, tensors))
        except (KeyError, IndexError, ValueError):  # an edit that the one before left no room for
            continue
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    if rng.random() < 0.2 and tensors:
        done.append(write_shards(rng, folder, tensors))
    elif rng.random() < 0.15:
        done.append(cut_short(rng, folder))
    return "; ".join(done)


def logits_of_transformers(folder: Path, ids) -> tuple[torch.Tensor | None, str]:
    """(transformers' logits, "") or (None, why it gives none), computed in float32 from the weights as stored."""
    transformers = pytest.importorskip("transformers")
    try:
        made, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
        if report["missing_keys"] or report["mismatched_keys"]:
            return None, "transformers draws missing weights at random"
        with torch.no_grad():
            return made.eval()(ids).logits, ""
    except Exception as error:
        return None, f"transformers fails: {type(error).__name__}"


def tell(line: str) -> None:
    if "STLM_FUZZ_TOLD" in os.environ:
        with Path(os.environ["STLM_FUZZ_TOLD"]).open("a") as file:
            file.write(line + "\n")


@pytest.mark.parametrize("number", range(N))
def test_an_edited_folder_is_read_as_transformers_reads_it_or_refused(number, tmp_path):
    rng = random.Random(f"{SEED} {number}")
    style = rng.choice(sorted(CONFIGS))
    export_to_hf(stir(Decoder(CONFIGS[style]), seed=number), tmp_path)
    done = damage(rng, tmp_path)
    told = f"STLM_FUZZ_SEED={SEED}, number {number}, {style}: {done}"
    try:
        model = load_from_hf(tmp_path)
    except KitError as error:
        sentence = str(error)
        assert "\n" not in sentence and sentence.endswith((".", "?")) and len(sentence) < 500, f"{told}: {sentence}"
        return tell(f"refused | {told} | {sentence}")
    longest = min(9, model.config.context_length)
    ids = torch.randint(0, model.config.vocab_size, (2, longest), generator=torch.Generator().manual_seed(number))
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        assert model(ids).dtype == dtype, told
        ours = model.float()(ids)  # exact: bf16 rounds every layer's numbers in an order that is each program's own
    theirs, reason = logits_of_transformers(tmp_path, ids)
    if theirs is None:
        return tell(f"transformers fails | {told} | {reason}")
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4, equal_nan=True), told
    tell(f"parity, {dtype} | {told}")
