"""The formula for a step's operations, held to torch's own counter."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from stlm_kit.config import preset
from stlm_kit.data.batches import Batch
from stlm_kit.model.decoder import Decoder
from stlm_kit.training.flops import measured_tflops, peak_tflops, step_flops
from stlm_kit.training.optimizer import build_optimizer
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.settings import TrainingSettings
from stlm_kit.training.step import Step


def counted(config, recipe, rows, length) -> tuple[int, int]:
    """(forward, forward and backward) by FlopCounterMode, on tensors that have a shape and no data."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = Decoder(config).train()
        step = Step(model, build_optimizer(model, TrainingSettings(), recipe), recipe)
        ids = torch.zeros(rows, length, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            loss = step.forward(Batch(ids, ids.clone()))
            forward = counter.get_total_flops()
            loss.backward()
    return forward, counter.get_total_flops()


@pytest.mark.parametrize("checkpointing", ["", "+checkpoint", "+selective", "+tiled"])
@pytest.mark.parametrize(
    "config",
    [
        preset("memory-study"),
        preset("stlm-50m", n_layers=3),
        preset("stlm-50m", n_layers=2, dropout=0.0),
        preset("laptop-gpt2"),
        preset("laptop-llama", n_kv_heads=1, d_ff=100),
    ],
    ids=["memory-study", "stlm-50m", "without dropout", "gpt2", "one key-value head"],
)
def test_the_formula_is_what_torch_counts(config, checkpointing):
    recipe = Recipe.named(f"fp32+eager{checkpointing}")
    flops = step_flops(config, recipe, 3, 96)
    assert (flops.forward, flops.total) == counted(config, recipe, 3, 96)


@pytest.mark.parametrize("name", ["bf16+eager", "fp32+eager+chunked", "fp32+eager+chunked+checkpoint"])
def test_precision_and_chunks_change_nothing_in_total(name):
    config, recipe = preset("memory-study"), Recipe.named(name)
    assert step_flops(config, recipe, 2, 255).total == counted(config, recipe, 2, 255)[1]


def test_a_fused_kernel_is_counted_as_torch_counts_it():
    config, recipe = preset("stlm-50m"), Recipe.named("bf16+sdpa")
    shape = (4, config.n_heads, 128, config.head_dim)
    fused = step_flops(config, recipe, 4, 128)
    eager = step_flops(config, Recipe.named("bf16+eager"), 4, 128)
    forward = sdpa_flop_count(shape, shape, shape) * config.n_layers
    backward = sdpa_backward_flop_count(shape, shape, shape, shape) * config.n_layers
    assert fused.forward == eager.forward
    assert fused.backward - eager.backward == backward - 2 * forward
    assert step_flops(config, Recipe.named("bf16+selective"), 4, 128).recomputed == 0


def test_padding_costs_its_blocks_but_not_its_head():
    config, rows, length = preset("memory-study"), 8, 255
    every, valid = (step_flops(config, Recipe.named(name), rows, length, 0.25) for name in ("fp32", "fp32+valid"))
    head = 2 * rows * length * config.d_model * config.vocab_size
    assert every.total - valid.total == 3 * (head - round(head / 4))


def test_peaks():
    assert peak_tflops("NVIDIA A100-SXM4-80GB MIG 2g.20gb", "bf16", 28) == pytest.approx(312 * 28 / 108)
    assert peak_tflops("NVIDIA H100 PCIe", "fp32") == 51.0
    assert peak_tflops("NVIDIA H200", "tf32") == peak_tflops("NVIDIA H100 80GB HBM3", "tf32")
    assert peak_tflops("Some other card", "bf16") is None
    assert measured_tflops("fp32", size=256) > 1e-4
