"""What CUDA keeps where the CPU keeps something else, tensor by tensor."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stlm_kit.memory import device_semantics, predict_step
from stlm_kit.memory.predict import trace

MIB = 2**20


def kept(function, *shapes, dtype=torch.float32, semantics="cuda", autocast=None):
    """What is alive between forward and backward besides the inputs: [(shape, dtype)], the largest first."""
    module = nn.Module()

    def build():
        for number, shape in enumerate(shapes):
            module.register_parameter(f"input_{number}", nn.Parameter(torch.empty(shape, dtype=dtype)))
        return module

    def step(module):
        with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            out = function(*module.parameters())
        out.sum().backward()

    recording = trace(build, step, semantics=semantics)
    alive = {}
    for allocation, sign in recording.events[: recording.forward_ended]:
        alive[allocation] = sign
    found = [a for a, sign in alive.items() if sign > 0 and a.phase == "forward" and a.n_bytes >= MIB]
    return [(a.shape, a.dtype) for a in sorted(found, key=lambda a: (-a.n_bytes, str(a.dtype)))]


BIG = (512, 1024)


def test_dropout_keeps_a_byte_a_number_on_cuda():
    def dropped(x):
        return F.dropout(x, 0.1)

    masks = [dtype for shape, dtype in kept(dropped, (2048, 1024)) if dtype == torch.bool]
    assert masks == [torch.bool]
    assert torch.bool not in {dtype for _, dtype in kept(dropped, (2048, 1024), semantics="cpu")}


def test_softmax_is_in_fp32_under_cudas_autocast():
    def weights(x):
        return (x @ x.T).softmax(-1)

    assert (BIG[:1] * 2, torch.float32) in kept(weights, BIG, autocast=torch.bfloat16)
    assert torch.float32 not in {d for _, d in kept(weights, BIG, semantics="cpu", autocast=torch.bfloat16)}


def test_cross_entropy_keeps_log_probabilities_in_bf16_and_a_copy_for_the_loss():
    """CUDA's autocast casts nll_loss alone; the CPU's casts the whole cross-entropy."""

    def loss(x, w):
        return F.cross_entropy(x @ w, torch.zeros(1024, dtype=torch.int64))

    for semantics, expected in (("cuda", torch.bfloat16), ("cpu", torch.float32)):
        found = kept(loss, (1024, 64), (64, 4096), semantics=semantics, autocast=torch.bfloat16)
        assert ((1024, 4096), expected) in found


@pytest.mark.parametrize(
    ("dtype", "kv_heads", "masked", "matrix"),
    [
        (torch.bfloat16, 4, False, False),  # flash
        (torch.bfloat16, 2, False, False),  # flash shares keys
        (torch.float32, 4, False, False),  # memory-efficient
        (torch.float32, 4, True, False),
        (torch.float32, 2, False, True),  # memory-efficient shares none
        (torch.float32, 2, True, True),
    ],
)
def test_attention_keeps_the_score_matrix_only_where_no_kernel_serves(dtype, kv_heads, masked, matrix):
    length = 1024

    def attend(q, k, v):
        mask = torch.ones(length, length, dtype=torch.bool) if masked else None
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=not masked, enable_gqa=True)

    shapes = [(2, heads, length, 32) for heads in (4, kv_heads, kv_heads)]
    found = [shape for shape, _ in kept(attend, *shapes, dtype=dtype) if shape == (2, 4, length, length)]
    assert bool(found) == matrix


def test_the_lists_of_autocast_are_those_of_this_torch():
    header = (Path(torch.__file__).parent / "include/ATen/autocast_mode.h").read_text()

    def listed(name):
        text = re.search(rf"#define {name}\(_\)(.*?)\n\n", header, re.DOTALL).group(1)
        return set(re.findall(r"_\((\w+)", text))

    two_d_and_resampling = {name for name in listed("AT_FORALL_FP32") if "upsample" in name}
    assert listed("AT_FORALL_FP32") - two_d_and_resampling <= device_semantics.IN_FP32
    # Another list's, an operator's name, and what torch 2.11 does not list yet.
    later = set() if device_semantics.RMS_NORM_IN_FP32 else {"rms_norm"}
    assert device_semantics.IN_FP32 - listed("AT_FORALL_FP32") == {"norm", "__pow__"} | later
    assert ("rms_norm" in listed("AT_FORALL_FP32")) == device_semantics.RMS_NORM_IN_FP32
    assert listed("AT_FORALL_FP32_SET_OPT_DTYPE") - {"linalg_matrix_norm"} == device_semantics.IN_FP32_UNLESS_TOLD


def test_a_checkpointed_block_computes_again_as_it_did_first():
    """Where the overlay left the backward pass, recomputed dropout would have another mask, and torch would refuse."""
    from torch.utils.checkpoint import checkpoint

    def step(layers):
        x = torch.zeros(64, 512)
        for layer in layers:
            x = checkpoint(lambda x, layer=layer: F.dropout(layer(x), 0.1), x, use_reentrant=False)
        x.sum().backward()

    report = predict_step(lambda: nn.ModuleList([nn.Linear(512, 512) for _ in range(3)]), step)
    assert report.peak_phase == "backward"


def norm(x, weight):
    return F.rms_norm(x, x.shape[-1:], weight)


ROWS = (2048, 1024)  # 8 MiB in fp32


def test_rms_norm_on_cuda_keeps_nothing_but_a_number_a_row():
    assert kept(norm, ROWS, ROWS[-1:]) == [(ROWS, torch.float32)]  # its output, which the sum holds for a moment
    assert len(kept(norm, ROWS, ROWS[-1:], semantics="cpu")) > 1
    assert kept(lambda x: norm(x, None), ROWS) == [(ROWS, torch.float32)]


def test_rms_norm_of_16_bits_stays_so_unless_its_weight_is_wider():
    assert kept(norm, ROWS, ROWS[-1:], dtype=torch.bfloat16) == [(ROWS, torch.bfloat16)]
    # Then torch's dispatch takes the operations one by one, in fp32.
    wide = kept(lambda x, w: norm(x, w.float()), ROWS, ROWS[-1:], dtype=torch.bfloat16)
    assert (ROWS, torch.float32) in wide


def test_rms_norm_under_autocast_is_in_fp32_where_this_torch_lists_it(monkeypatch):
    def after_a_product(x, weight):
        return norm(x @ x.new_zeros(1024, 1024), weight)

    shapes = ROWS, ROWS[-1:]
    wide, narrow = (ROWS, torch.float32), (ROWS, torch.bfloat16)
    # Fused: the input in fp32, which is kept, and the output. One by one: the product before the weight is kept too.
    for listed, expected in ((True, [wide, wide]), (False, [wide, wide, narrow])):
        monkeypatch.setattr(device_semantics, "RMS_NORM_IN_FP32", listed)
        found = kept(after_a_product, *shapes, autocast=torch.bfloat16)
        assert [one for one in found if one[0] == ROWS] == expected


@pytest.mark.parametrize("hidden", [1024, 16384])
def test_rms_norm_as_published_for_an_h100(hidden):
    """Liger-Kernel's benchmark of torch.nn.RMSNorm (all_benchmark_data.csv, megatron_rms_norm, H100, 2026-06-10)."""
    published = {1024: 40.0224609375, 16384: 640.1103515625}

    def build():
        layer = nn.RMSNorm(hidden, eps=1e-6).to(torch.bfloat16)
        return {"layer": layer, "x": torch.randn(4096, 1, hidden, dtype=torch.bfloat16, requires_grad=True)}

    def step(state):
        y = state["layer"](state["x"])
        y.sum().backward()

    assert predict_step(build, step, steps=3, device="h100-80gb").peak_allocated_mib == published[hidden]
