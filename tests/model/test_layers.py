"""Norms, positions and feed-forwards."""

import math

import pytest
import torch

from stlm_kit.errors import KitError
from stlm_kit.model.decoder import Decoder
from stlm_kit.model.layers import FeedForward, make_norm, rotary_angles, rotate, sinusoids

from .conftest import GPT2, VASWANI, stir, tiny


def test_rmsnorm_only_scales_and_layernorm_centres_too():
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(0)) + 2
    rms = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(make_norm(tiny())(x), rms, atol=1e-6)
    centred = x - x.mean(-1, keepdim=True)
    layer = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(make_norm(tiny(GPT2))(x), layer, atol=1e-6)


@pytest.mark.parametrize("style", ["layernorm", "rmsnorm"])
def test_the_norms_epsilon_is_the_configured_one(style):
    norm = make_norm(tiny(norm=style, norm_epsilon=0.25))
    small = torch.full((1, 16), 0.5)
    small[0, ::2] = -0.5  # mean 0, mean square 0.25: the epsilon halves the power
    assert torch.allclose(norm(small), small / math.sqrt(0.5))


def test_layernorm_has_a_bias_only_where_asked():
    assert make_norm(tiny(GPT2)).bias is not None
    assert make_norm(tiny(GPT2, bias=False)).bias is None


def test_sinusoids_are_the_papers():
    table = sinusoids(7, 6)
    position, pair = 5, 2
    angle = position / 10000 ** (2 * pair / 6)
    assert table[position, 2 * pair] == pytest.approx(math.sin(angle), abs=1e-6)
    assert table[position, 2 * pair + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_rotary_scores_depend_on_the_distance_only():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=generator, dtype=torch.float64).expand(2, 1, 1, 20, 8)
    angles = rotary_angles(20, 8, 10000.0).double()
    turned = [rotate(x, angles.cos(), angles.sin()) for x in (q, k)]
    scores = (turned[0] @ turned[1].transpose(-2, -1))[0, 0]
    assert torch.allclose(scores.diagonal(-3), scores.diagonal(-3)[0].expand(17), atol=1e-5)
    assert not torch.allclose(scores.diagonal(-3)[0], scores.diagonal(-4)[0], atol=1e-3)


def test_rotary_keeps_lengths():
    x = torch.randn(1, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    angles = rotary_angles(9, 8, 500.0)
    assert torch.allclose(rotate(x, angles.cos(), angles.sin()).norm(dim=-1), x.norm(dim=-1), atol=1e-5)


@pytest.mark.parametrize("positions", ["rotary", "sinusoidal"])
def test_fixed_positions_go_on_past_the_context(positions):
    style = tiny() if positions == "rotary" else tiny(VASWANI)
    short, long = (Decoder(style.model_copy(update={"context_length": n})).eval() for n in (4, 30))
    long.load_state_dict(stir(short).state_dict())
    ids = torch.arange(20)[None]
    assert torch.allclose(short(ids), long(ids), atol=1e-5)


def test_learned_positions_end_with_the_context():
    model = stir(Decoder(tiny(GPT2, context_length=5)))
    model(torch.zeros(1, 5, dtype=torch.long))
    with pytest.raises(KitError, match="6 positions but this model learned only 5"):
        model(torch.zeros(1, 6, dtype=torch.long))


def test_only_the_relu_form_drops_its_hidden_layer():
    """The memory study's code drops after the activation; GPT-2's does not."""
    torch.manual_seed(0)
    x = torch.randn(1, 4, 16)
    for kind, style in (("relu", VASWANI), ("gelu_tanh", GPT2)):
        layer = FeedForward(tiny(style, dropout=0.5)).train()
        layer.dropout.p = 0.0
        assert torch.equal(layer(x), layer(x)) == (kind != "relu")
