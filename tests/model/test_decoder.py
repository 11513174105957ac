"""The decoder as a whole: its seams, causality, tying, dropout, and what it refuses."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_model, save_model
from torch._subclasses import FakeTensorMode

from stlm_kit.errors import KitError, UsageError
from stlm_kit.model import Decoder, count_parameters
from stlm_kit.presets import preset

from .conftest import GPT2, LLAMA, VASWANI, stir, tiny


@pytest.mark.parametrize("style", [LLAMA, GPT2, VASWANI])
def test_forward_is_the_head_of_the_features(style, ids):
    model = stir(Decoder(tiny(style)))
    features = model.features(ids)
    assert features.shape == (2, 9, 16)
    assert torch.equal(model(ids), model.head(features))
    assert model(ids).shape == (2, 9, 23)


@st.composite
def configurations(draw):
    """Any decoder the configuration allows, in small."""
    n_heads = draw(st.sampled_from([1, 2, 4]))
    return tiny(
        n_heads=n_heads,
        n_kv_heads=draw(st.sampled_from([None, *(n for n in (1, 2, 4) if n_heads % n == 0)])),
        norm=draw(st.sampled_from(["layernorm", "rmsnorm"])),
        positions=draw(st.sampled_from(["learned", "sinusoidal", "rotary"])),
        feed_forward=draw(st.sampled_from(["gelu", "gelu_tanh", "relu", "swiglu"])),
        bias=draw(st.booleans()),
        head_bias=draw(st.booleans()),
        tied_head=draw(st.booleans()),
        window=draw(st.none() | st.integers(1, 12)),
        embedding_scale=draw(st.booleans()),
        dropout=draw(st.sampled_from([0.0, 0.3])),
    )


@given(configurations(), st.integers(1, 10), st.sampled_from(["eager", "sdpa"]))
@settings(max_examples=40)
def test_a_token_changes_no_earlier_output(config, changed, backend):
    model = stir(Decoder(config)).set_attention(backend)
    ids = torch.arange(11)[None]
    other = ids.clone()
    other[0, changed] = 20
    with torch.no_grad():
        before, after = model(ids)[0], model(other)[0]
    assert torch.allclose(before[:changed], after[:changed], rtol=0, atol=1e-5)
    assert (before[changed] - after[changed]).abs().max() > 1e-3


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_a_window_is_a_band(backend):
    """One layer with a window of 2: a token reaches itself and the two after it, no further."""
    model = stir(Decoder(tiny(n_layers=1, window=2))).set_attention(backend)
    ids = torch.arange(10)[None]
    other = ids.clone()
    other[0, 3] = 20
    moved = (model(ids) - model(other))[0].abs().amax(1) > 1e-4
    assert moved.nonzero().flatten().tolist() == [3, 4, 5]


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("style", [LLAMA, GPT2])
def test_documents_are_strangers(style, backend):
    """With document numbers, changing the first document leaves the second as it was."""
    model = stir(Decoder(tiny(style))).set_attention(backend)
    ids, other = torch.arange(10)[None], torch.arange(10)[None].clone()
    other[0, 1] = 20
    documents = torch.tensor([[0] * 4 + [1] * 6])
    assert torch.equal(model(ids, documents)[0, 4:], model(other, documents)[0, 4:])
    assert not torch.allclose(model(ids)[0, 4:], model(other)[0, 4:], atol=1e-4)


# --- tying ---


def is_tied(model: Decoder) -> bool:
    return model.head.weight is model.embedding.weight


def test_tying_survives_moving_copying_and_casting():
    model = Decoder(tiny())
    assert is_tied(model)
    assert is_tied(copy.deepcopy(model))
    assert is_tied(model.to(torch.float64).to("cpu"))
    assert not is_tied(Decoder(tiny(tied_head=False)))


def test_tying_survives_save_and_load(tmp_path):
    model, other = stir(Decoder(tiny())), Decoder(tiny())
    save_model(model, str(tmp_path / "m.safetensors"))
    load_model(other, str(tmp_path / "m.safetensors"))
    assert is_tied(other)
    assert torch.equal(other.embedding.weight, model.embedding.weight)
    other.load_state_dict(model.state_dict())
    assert is_tied(other)


def test_a_tied_matrix_learns_from_both_its_jobs(ids):
    """The gradient of the shared matrix is the sum of the two an untied pair would get."""
    tied, untied = Decoder(tiny()), Decoder(tiny(tied_head=False))
    untied.load_state_dict(tied.state_dict())
    for model in (tied, untied):
        model(ids).square().mean().backward()
    both = untied.embedding.weight.grad + untied.head.weight.grad
    assert torch.allclose(tied.embedding.weight.grad, both, atol=1e-7)


# --- weights ---


def test_weights_begin_as_stated():
    torch.manual_seed(0)
    model = Decoder(tiny(GPT2, d_model=128, d_ff=256, n_layers=8, vocab_size=300))
    state = model.state_dict()
    assert state["embedding.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert state["blocks.3.attention.query.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    for name in ("attention.output", "feed_forward.down"):
        assert state[f"blocks.3.{name}.weight"].std().item() == pytest.approx(0.02 / 4, rel=0.05)  # sqrt(2 * 8) = 4
    assert all(value.abs().max() == 0 for name, value in state.items() if name.endswith("bias"))
    assert all((value == 1).all() for name, value in state.items() if "norm" in name and name.endswith("weight"))


def test_the_seed_decides_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return Decoder(tiny()).embedding.weight

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_position_tables_are_neither_parameters_nor_saved():
    for style in (LLAMA, VASWANI):
        names = set(Decoder(tiny(style)).state_dict()) | {n for n, _ in Decoder(tiny(style)).named_parameters()}
        assert not any("table" in name or "rotary" in name or "positions" in name for name in names)


def test_gpt2_small_as_shapes_alone():
    with FakeTensorMode():
        model = Decoder(preset("gpt2-small"))
        logits = model(torch.zeros(2, 8, dtype=torch.long))
    assert count_parameters(model) == 124_439_808
    assert logits.shape == (2, 8, 50257)


# --- dropout ---


def test_dropout_works_in_training_only_and_changes_live(ids):
    torch.manual_seed(0)
    model = stir(Decoder(tiny(VASWANI, dropout=0.4)))
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
    model.set_dropout(0.0)
    assert torch.equal(model(ids), model(ids))
    model.set_dropout(0.2)
    assert not torch.equal(model(ids), model(ids))


@pytest.mark.parametrize("wrong", [-0.1, 1.0, float("nan")])
def test_set_dropout_refuses_what_is_no_probability(wrong):
    with pytest.raises(UsageError, match=r"dropout = .* will not do"):
        Decoder(tiny()).set_dropout(wrong)


def test_dropout_rates_reach_every_place(ids):
    """Embedding, attention weights, hidden layer (ReLU), both residuals: five places, each with the one rate."""
    model = Decoder(tiny(VASWANI, n_layers=1, dropout=0.3))
    places = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)]
    assert sorted(places) == [
        "blocks.0.attention.dropout",
        "blocks.0.attention.weight_dropout",
        "blocks.0.feed_forward.dropout",
        "blocks.0.feed_forward.hidden_dropout",
        "dropout",
    ]


# --- what it refuses ---


@pytest.mark.parametrize("wrong", [23, -1, 10**6])
def test_a_token_id_outside_the_vocabulary(wrong):
    with pytest.raises(KitError, match=f"Token id {wrong} lies outside the vocabulary of 23"):
        Decoder(tiny())(torch.tensor([[1, wrong, 2]]))


# --- precision and compilation ---


@pytest.mark.parametrize("style", [LLAMA, VASWANI])
def test_bf16_autocast_stays_near(style, ids):
    model = stir(Decoder(tiny(style)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(ids)
    assert rounded.dtype == torch.bfloat16
    exact = model(ids)
    assert (rounded - exact).norm() < 0.03 * exact.norm()


def test_there_is_no_graph_break(ids):
    """Traced as one graph, so that torch.compile sees the whole model (no code is generated here)."""
    model = stir(Decoder(tiny(n_kv_heads=2)))
    traced = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.allclose(traced(ids), model(ids), atol=1e-6)
