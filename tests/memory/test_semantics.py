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
    assert device_semantics.IN_FP32 - listed("AT_FORALL_FP32") == {
        "norm",
        "__pow__",
    }  # another list's, and an operator's name
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
