"""How many floating-point operations a training step takes: a formula, and the peak of a device to divide by.

Counted are matrix products, a multiplication and an addition each, as torch's FlopCounterMode counts them (the tests
hold the formula to it). Causal attention counts in full, as eager attention computes it; a fused kernel passes over
what the mask hides, all the more with a window, so there the count is an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass

from stlm_kit.config import DecoderConfig
from stlm_kit.training.recipe import Recipe

FUSED = ("sdpa", "flex", "flash")


@dataclass(frozen=True)
class StepFlops:
    """Operations of one forward and backward pass. `recomputed`: those of checkpointing, done a second time."""

    forward: int
    backward: int
    recomputed: int

    @property
    def total(self) -> int:
        return self.forward + self.backward + self.recomputed


def step_flops(
    config: DecoderConfig, recipe: Recipe, rows: int, context_length: int, valid_fraction: float = 1.0
) -> StepFlops:
    """The operations of `rows` rows of `context_length` positions, of which `valid_fraction` have a real target.

    A product's backward pass takes two of its size. A fused attention kernel computes its scores a second time there:
    5 products for 2 (Dao et al. 2022, section 3.1). The optimizer and all that is no matrix product are left out: a few
    operations a weight, where a step takes six a weight and position.
    """
    positions = rows * context_length
    kv = config.kv_heads * config.head_dim
    down = config.d_ff * config.d_model
    matrices = 2 * config.d_model**2 + 2 * config.d_model * kv
    matrices += (3 if config.feed_forward == "swiglu" else 2) * down
    products = 2 * positions * matrices * config.n_layers
    scores = 4 * positions * context_length * config.d_model * config.n_layers
    head = 2 * positions * config.d_model * config.vocab_size
    if recipe.head_positions == "valid":
        head = round(head * valid_fraction)
    fused = recipe.attention in FUSED
    recomputed = 0
    if recipe.checkpointing in ("layer", "tiled"):
        recomputed = products + scores
        if not config.dropout:  # recomputation ends with the last thing that was kept: here the input of `down`
            recomputed -= 2 * positions * down * config.n_layers
    elif recipe.checkpointing == "selective" and not fused:  # a fused kernel's result is among what it keeps
        recomputed = scores
    backward = 2 * (products + head) + (5 * scores // 2 if fused else 2 * scores)
    return StepFlops(products + scores + head, backward, recomputed)


# Peaks of whole cards in TFLOP/s, without sparsity, and their multiprocessors: NVIDIA's data sheets of the A100 (2021),
# the H100 (2023) and the H200 (2024), whose arithmetic is that of the H100 SXM.
_H100 = {"fp32": 67.0, "tf32": 494.5, "bf16": 989.5, "fp16": 989.5}
PEAKS = {
    "A100": (108, {"fp32": 19.5, "tf32": 156.0, "bf16": 312.0, "fp16": 312.0}),
    "H100 PCIe": (114, {"fp32": 51.0, "tf32": 378.0, "bf16": 756.5, "fp16": 756.5}),
    "H100": (132, _H100),
    "H200": (132, _H100),
}


def peak_tflops(device: str, precision: str, multiprocessors: int | None = None) -> float | None:
    """The stated peak of a GPU by (part of) its name, in TFLOP/s; a MIG slice's share goes by its multiprocessors.

    None for a device that the table does not know.
    """
    for name, (whole, peaks) in PEAKS.items():
        if name in device:
            return peaks[precision] * (multiprocessors or whole) / whole
    return None


def measured_tflops(precision: str, size: int = 1024) -> float:
    """What this machine's processor reaches in a product of two `size` x `size` matrices, in TFLOP/s: its best of 5."""
    import time

    import torch

    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    a = torch.ones(size, size, dtype=kind)
    a @ a
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds) / 1e12
