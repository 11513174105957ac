"""Configurations drawn from a seed: what the comparisons with real steps and the fuzzing have in common."""

import random
from typing import NamedTuple

import pytest
import torch

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import UsageError
from stlm_kit.presets import preset
from stlm_kit.training.recipe import Recipe


class Drawn(NamedTuple):
    config: DecoderConfig
    recipe: str
    batch_size: int
    sequence_length: int
    valid_fraction: float
    span: str
    accumulation_steps: int


PUBLISHED = ["memory-study", "memory-study-text", "stlm-50m", "stlm-50m-code", "layerdrop-12", "gpt2-small"]
LAPTOP = ["laptop-gpt2", "laptop-llama"]


def draw_recipe(rng: random.Random, on_gpu: bool) -> Recipe:
    """A recipe of parts that go together."""
    while True:
        parts = [
            rng.choice(["fp32", "bf16", *(["tf32", "fp16"] if on_gpu else [])]),
            rng.choice(["eager", "sdpa", *(["flash", "flex"] if on_gpu else [])]),
            rng.choice(["", "checkpoint", "selective", "tiled"]),
            rng.choice(["", "chunked", "masked", "valid", "chunked+valid", "kept", "study"]),
            rng.choice(["", "foreach", "8bit", "in-backward", "in-backward+foreach"]),
        ]
        try:
            return Recipe.named("+".join(filter(None, parts)))
        except UsageError:
            continue


def draw(rng: random.Random, smallest: int, on_gpu: bool = False) -> Drawn:
    """A preset, its sizes changed, under a recipe. smallest: of the widths, 1 for any."""
    name, recipe = rng.choice(PUBLISHED + LAPTOP), draw_recipe(rng, on_gpu)
    base = preset(name)
    n_heads = rng.choice([2, 4, 8])
    changes = {
        "n_layers": rng.randint(1, 4),
        "n_heads": n_heads,
        "n_kv_heads": None if base.n_kv_heads is None else rng.choice([1, 2]),
        "d_model": n_heads * 16 * rng.randint(max(smallest // 64, 1), 3),
        "d_ff": 32 * rng.randint(max(smallest // 16, 1), 16),
        "vocab_size": rng.randint(max(smallest * 8, 2), 6000),
        "window": rng.choice([None, None, 1, 16, 64]),
        "dropout": 0.0 if recipe.attention == "flex" else rng.choice([base.dropout, 0.0, 0.1]),
    }
    if name in PUBLISHED or rng.random() < 0.5:
        changes["context_length"] = 256
        base = preset(name, **changes)
    elif recipe.attention == "flex":
        base = preset(name, dropout=0.0)
    return Drawn(
        base,
        recipe.name,
        rng.randint(max(smallest // 32, 1), 12),
        rng.randint(max(smallest // 2, 1), min(base.context_length, 160)),
        rng.choice([1.0, 1.0, rng.uniform(0.05, 1.0)]),
        rng.choice(["forward_backward", "step"]),
        1 if recipe.update == "in_backward" else rng.choice([1, 1, 3]),
    )


@pytest.fixture
def drawn():
    """draw(rng, smallest, on_gpu) -> Drawn."""
    return draw


@pytest.fixture
def one_thread():
    """Scratch memory of kernels grows with the threads; there is none of it to see with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
