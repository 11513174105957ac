"""The influence matrix sees exactly what a model may see, and a leak where there is one."""

import pytest
import torch

import stlm_kit as kit
from stlm_kit.evaluation import influence_matrix


def decoder(**overrides) -> kit.Decoder:
    torch.manual_seed(0)
    return kit.Decoder(kit.preset("laptop-gpt2", n_layers=1, d_model=32, d_ff=64, context_length=16, **overrides))


IDS = torch.arange(12)


def test_a_causal_model_shows_a_full_triangle():
    assert torch.equal(influence_matrix(decoder(), IDS) > 0, torch.ones(12, 12).tril().bool())


def test_a_window_shows_a_band_and_documents_show_blocks():
    distance = torch.arange(12)[:, None] - torch.arange(12)
    assert torch.equal(influence_matrix(decoder(window=3), IDS) > 0, (distance >= 0) & (distance <= 3))
    documents = torch.tensor([0] * 5 + [1] * 7)
    blocks = (documents[:, None] == documents) & (distance >= 0)
    assert torch.equal(influence_matrix(decoder(), IDS, documents) > 0, blocks)


def test_a_leak_shows_right_of_the_diagonal():
    model = decoder()
    for block in model.blocks:  # forget the mask
        block.attention.function = lambda q, k, v, **_: torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert (influence_matrix(model, IDS).triu(1) > 0).any()


def test_dropout_is_off_and_the_mode_comes_back():
    model = decoder(dropout=0.5).train()
    assert torch.equal(influence_matrix(model, IDS), influence_matrix(model, IDS))
    assert model.training


@pytest.mark.parametrize("ids", [torch.zeros(2, 5, dtype=torch.long), torch.tensor([1]), torch.tensor(3)])
def test_more_or_less_than_one_row_is_refused(ids):
    with pytest.raises(kit.UsageError, match="one row"):
        influence_matrix(decoder(), ids)


def test_a_model_without_an_embedding_is_refused():
    with pytest.raises(kit.UsageError, match="embedding"):
        influence_matrix(torch.nn.Linear(2, 2), IDS)
