"""The four ways to attend agree with the readable one."""

import itertools
import sys
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stlm_kit.errors import KitError, UsageError
from stlm_kit.model import attention
from stlm_kit.model.decoder import Decoder

from .conftest import stir, tiny

DOCUMENTS = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 2, 2], [0, 0, 1, 1, 1, 1, 1, 1, 1]])
CASES = [
    pytest.param(
        n_kv, window, documents, id=f"kv{n_kv}-window{window}-{'documents' if documents is not None else 'one'}"
    )
    for n_kv in (4, 2, 1)
    for window in (None, 1, 3, 40)
    for documents in (None, DOCUMENTS)
]


def inputs(n_kv: int, dtype=torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, heads, 9, 6, generator=generator, dtype=dtype) for heads in (4, n_kv, n_kv)]


def with_gradients(function, n_kv: int, **mask) -> list[torch.Tensor]:
    leaves = [x.requires_grad_() for x in inputs(n_kv)]
    out = function(*leaves, **mask)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    (out * weights).sum().backward()
    return [out, *(x.grad for x in leaves)]


@pytest.mark.parametrize(("n_kv", "window", "documents"), CASES)
def test_sdpa_is_eager_gradients_included(n_kv, window, documents):
    mask = {"window": window, "documents": documents}
    slow, fast = with_gradients(attention.eager, n_kv, **mask), with_gradients(attention.sdpa, n_kv, **mask)
    for one, other in zip(slow, fast, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("n_kv", "window", "documents"), CASES)
def test_flex_is_eager_forward(n_kv, window, documents):
    """On CPU flex has no backward pass; its masks can be held to the specification all the same."""
    with torch.no_grad():
        one = attention.eager(*inputs(n_kv), window=window, documents=documents)
        other = attention.flex(*inputs(n_kv), window=window, documents=documents)
    assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_eager_by_hand():
    """Two positions, one head of width 1: the second mixes both values with softmax weights."""
    q, k, v = (torch.tensor(x, dtype=torch.float64).view(1, 1, 2, 1) for x in ([1.0, 2.0], [3.0, 4.0], [5.0, 7.0]))
    share = torch.tensor([6.0, 8.0], dtype=torch.float64).softmax(0)  # scores 2 * 3 and 2 * 4, head_dim 1
    expected = torch.stack([v[0, 0, 0, 0], (share * v[0, 0, :, 0]).sum()])
    assert torch.allclose(attention.eager(q, k, v)[0, 0, :, 0], expected)


def test_grouped_queries_read_the_group_they_belong_to():
    """Query head h reads key-value head h // group: zero one key-value head's values and only its group goes dark."""
    q, k, v = inputs(2)
    v[:, 1] = 0
    for function in (attention.eager, attention.sdpa):
        out = function(q, k, v)
        assert out[:, :2].abs().min() > 0
        assert out[:, 2:].abs().max() == 0


@pytest.mark.parametrize("window", [1, 2, 5])
def test_a_window_of_w_shows_w_plus_one_keys(window):
    assert attention.visible(9, window=window).sum(1).tolist() == [min(i, window) + 1 for i in range(9)]


def test_documents_do_not_see_each_other():
    seen = attention.visible(9, documents=DOCUMENTS)
    assert seen.shape == (2, 1, 9, 9)
    assert seen[0, 0].sum(1).tolist() == [1, 2, 3, 4, 1, 2, 1, 2, 3]


@given(st.integers(1, 12), st.none() | st.integers(1, 15), st.lists(st.integers(0, 2), min_size=12, max_size=12))
@settings(max_examples=40)
def test_a_position_always_sees_itself_and_never_the_future(length, window, numbers):
    seen = attention.visible(length, window=window, documents=torch.tensor(numbers[:length]).sort().values[None])[0, 0]
    assert seen.diagonal().all()
    assert not seen.triu(1).any()


def test_dropout_drops_and_keeps_the_mean():
    torch.manual_seed(0)
    q, k, v = inputs(2)
    for function in (attention.eager, attention.sdpa):
        draws = torch.stack([function(q, k, v, dropout=0.3) for _ in range(400)])
        assert not torch.equal(draws[0], draws[1])
        assert torch.allclose(draws.mean(0), function(q, k, v), atol=0.25)


def test_flex_cannot_drop():
    with pytest.raises(KitError, match="cannot drop attention weights"):
        attention.flex(*inputs(2), dropout=0.1)


# --- flash-attn does not install without nvcc: its documented behaviour stands in, to test what we hand it ---


def fake_flash_attn():
    """flash_attn's two functions by their documentation: [batch, seq, heads, width], causal, (left, right) windows."""

    def attend(q, k, v, window):
        q, k, v = (x.transpose(-3, -2)[None] if x.ndim == 3 else x.transpose(1, 2) for x in (q, k, v))
        return attention.eager(q, k, v, None if window < 0 else window).transpose(1, 2)

    def func(q, k, v, dropout_p, causal, window_size, deterministic):
        assert causal and window_size[1] == 0 and deterministic == torch.are_deterministic_algorithms_enabled()
        return attend(q, k, v, window_size[0])

    def varlen(q, k, v, starts_q, starts_k, longest_q, longest_k, dropout_p, causal, window_size, deterministic):
        assert causal and starts_q.dtype == torch.int32
        assert deterministic == torch.are_deterministic_algorithms_enabled()
        assert int(starts_q.diff().max()) <= longest_q
        pieces = [slice(a, b) for a, b in itertools.pairwise(starts_q)]
        return torch.cat([attend(q[p], k[p], v[p], window_size[0])[0] for p in pieces])

    return types.SimpleNamespace(flash_attn_func=func, flash_attn_varlen_func=varlen)


@pytest.mark.parametrize(("n_kv", "window", "documents"), CASES)
def test_what_flash_is_handed(n_kv, window, documents, monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn", fake_flash_attn())
    q, k, v = inputs(n_kv, torch.bfloat16)
    one = attention.eager(q, k, v, window, documents)
    assert torch.allclose(one, attention.flash(q, k, v, window, documents), atol=0.03)


def test_flash_repeats_where_torch_is_to_repeat(monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn", fake_flash_attn())  # it checks what it is handed
    torch.use_deterministic_algorithms(True)
    try:
        attention.flash(*inputs(2, torch.bfloat16))
    finally:
        torch.use_deterministic_algorithms(False)


def test_flash_refuses_fp32(monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn", fake_flash_attn())
    with pytest.raises(KitError, match=r"bf16 or fp16, not torch\.float64"):
        attention.flash(*inputs(4))


# --- choosing one ---


def test_set_attention_changes_the_kernel_not_the_logits(ids):
    model = stir(Decoder(tiny(n_kv_heads=2, window=3))).double()
    fused = model(ids)
    assert torch.allclose(model.set_attention("eager")(ids), fused, rtol=0, atol=1e-12)
    assert model.blocks[0].attention.function is attention.eager


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine can run them")
@pytest.mark.parametrize("name", ["flex", "flash"])
def test_what_needs_a_gpu_says_so_at_once(name):
    with pytest.raises(KitError, match=f"'{name}' needs a CUDA GPU.*use 'sdpa'"):
        Decoder(tiny()).set_attention(name)


def test_an_unknown_attention_names_the_near_ones():
    with pytest.raises(UsageError, match=r"no attention named 'spda'.*'sdpa'"):
        Decoder(tiny()).set_attention("spda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["sdpa", "flex", "flash"])
def test_on_a_gpu(name):
    if reason := attention.unavailable(name):
        pytest.skip(reason)
    generator = torch.Generator().manual_seed(0)
    for n_kv, window, documents in [
        (4, None, None),
        (2, 3, None),
        (2, None, DOCUMENTS.cuda()),
        (1, 1, DOCUMENTS.cuda()),
    ]:
        shapes = [(2, heads, 9, 32) for heads in (4, n_kv, n_kv)]
        leaves = [torch.randn(shape, generator=generator).cuda().bfloat16().requires_grad_() for shape in shapes]
        one = attention.eager(*leaves, window, documents)
        other = attention.get_attention(name)(*leaves, window, documents)
        assert torch.allclose(one, other, atol=0.03)
        for a, b in zip(*(torch.autograd.grad(out.float().sum(), leaves) for out in (one, other)), strict=True):
            assert torch.allclose(a, b, atol=0.06)
