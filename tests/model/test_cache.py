"""A text read token by token through a cache gives what one full pass gives, for every preset, window and backend."""

import pytest
import torch

from stlm_kit.errors import KitError
from stlm_kit.model import Decoder
from stlm_kit.model.attention import eager, flash, sdpa, visible
from stlm_kit.presets import PRESETS, preset

LENGTH = 12


def small(name: str, **changes) -> Decoder:
    """A preset's architecture in small, in double precision and evaluation mode."""
    heads = {"n_heads": 4, "n_kv_heads": PRESETS[name].config.n_kv_heads and 2}
    sizes = {"n_layers": 2, "d_model": 16, "d_ff": 24, "vocab_size": 40, "context_length": LENGTH, **heads}
    torch.manual_seed(0)
    return Decoder(preset(name, **{**sizes, **changes})).double().eval()


@torch.no_grad()
def agrees(model: Decoder, pieces: list[int], documents=None) -> bool:
    ids = torch.randint(0, 40, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    whole, cache, found, start = model.features(ids, documents), model.new_cache(), [], 0
    for length in pieces:
        end = start + length
        known = None if documents is None else documents[:, :end]
        found.append(model.features(ids[:, start:end], known, cache=cache))
        start = end
    return cache.length == LENGTH and torch.allclose(torch.cat(found, 1), whole, atol=1e-12)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("window", [None, 1, 5, LENGTH])
@pytest.mark.parametrize("name", PRESETS)
def test_one_token_at_a_time_or_some(name, window, backend):
    model = small(name, window=window).set_attention(backend)
    for pieces in ([1] * LENGTH, [5, 1, 4, 2], [LENGTH]):
        assert agrees(model, pieces)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_with_documents_apart_shared_blocks_and_normed_queries(backend):
    documents = torch.tensor([[0] * 4 + [1] * 8, [0] * 9 + [1] * 3])
    model = small("laptop-llama", n_layers=4, layer_order=(0, 1, 0, 1), qk_norm=True, head_dim=6).set_attention(backend)
    for each in (None, documents):
        assert agrees(model, [1] * LENGTH, each) and agrees(model, [5, 7], each)


def test_every_use_of_a_block_has_an_entry_of_its_own():
    model = small("laptop-llama", n_layers=3, layer_order=(0, 0, 0))
    cache = model.new_cache()
    model.features(torch.arange(5)[None], cache=cache)
    keys = [entry.keys for entry in cache.entries]
    assert len(model.blocks) == 1 and len(keys) == 3 and all(key.shape == (1, 2, 5, 4) for key in keys)
    assert not torch.allclose(keys[0], keys[1])


def test_positions_run_out_as_without_a_cache():
    model = small("laptop-gpt2")
    cache = model.new_cache()
    model.features(torch.zeros(1, LENGTH, dtype=torch.long), cache=cache)
    with pytest.raises(KitError, match=f"{LENGTH + 1} positions but this model learned only {LENGTH}"):
        model.features(torch.zeros(1, 1, dtype=torch.long), cache=cache)


@pytest.mark.parametrize("name", ["laptop-llama", "laptop-gpt2", "laptop-memory"])
def test_a_text_longer_than_the_context_goes_on_from_its_last_part(name):
    model = small(name)
    ids = torch.randint(0, 40, (1, LENGTH + 4), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        state = model.begin(ids[:, : LENGTH - 2])
        for i in range(LENGTH - 2, LENGTH + 4):
            state = model.extend(state, ids[:, i])
            expected = model(ids[:, max(0, i + 1 - LENGTH) : i + 1])[:, -1]
            assert torch.allclose(model.next_logits(state), expected, atol=1e-12)


def test_fewer_queries_than_keys_are_the_last_positions():
    assert torch.equal(visible(2, 6, window=2), visible(6, window=2)[4:])
    q, k = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 7, 4)
    whole = torch.cat([torch.randn(1, 2, 4, 4), q], dim=2)
    for attention in (eager, sdpa):
        assert torch.allclose(attention(q, k, k), attention(whole, k, k)[:, :, 4:], atol=1e-6)


def test_flash_with_documents_and_a_cache_is_refused(monkeypatch):
    import sys
    from types import ModuleType

    package = ModuleType("flash_attn")
    package.flash_attn_func = package.flash_attn_varlen_func = None
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    q, k = torch.zeros(1, 1, 1, 8, dtype=torch.bfloat16), torch.zeros(1, 1, 4, 8, dtype=torch.bfloat16)
    with pytest.raises(KitError, match="no documents apart with a cache"):
        flash(q, k, k, documents=torch.zeros(1, 4, dtype=torch.long))
