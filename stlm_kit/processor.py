"""What this processor does with 16-bit numbers: the instructions in use, and what a matrix product in them costs.

Instructions alone do not tell: the environment can forbid what the processor has (ONEDNN_MAX_CPU_ISA=AVX2), and a
library may emulate what it lacks. So the cost is measured, once a process.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from stlm_kit.provenance import instructions

if TYPE_CHECKING:
    from stlm_kit.training.recipe import Recipe

POSITIONS, D_MODEL, D_FF = 256, 128, 512  # a small model's batch through its feed-forward layer
REPEATS = 5
NOISE = 1.1  # two timings of the same product differ by less, each the least of REPEATS


@cache
def slowdown(precision: str) -> float:
    """How many times as long as in fp32 a matrix product takes on this CPU: 0.25 for bf16 with its instructions.

    precision: a recipe's. One thread, the least of five timings, taken in turns: 30 ms where bf16 is slow, else 6.
    """
    if precision in ("fp32", "tf32"):
        return 1.0
    import torch

    sixteen = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    pairs = [
        [torch.ones(shape, dtype=dtype, device="cpu") for shape in ((POSITIONS, D_MODEL), (D_FF, D_MODEL))]
        for dtype in (torch.float32, sixteen)
    ]
    least = [float("inf"), float("inf")]
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of two threads one may wait for a processor that another program has
    try:
        with torch.inference_mode():
            for repeat in range(REPEATS + 1):
                for i, pair in enumerate(pairs):
                    started = time.perf_counter()
                    torch.nn.functional.linear(*pair)
                    if repeat:  # the first call makes its kernel
                        least[i] = min(least[i], time.perf_counter() - started)
    finally:
        torch.set_num_threads(n_threads)
    return least[1] / least[0]


def is_slow(precision: str, device_type: str = "cpu") -> bool:
    """Whether products in this precision take longer than in fp32 on a device: never on a GPU, which is not timed."""
    return device_type == "cpu" and slowdown(precision) > NOISE


def in_fp32(recipe: Recipe) -> Recipe:
    """The same recipe in fp32; flash-attn, which computes in 16 bits only, gives way to sdpa."""
    return replace(recipe, precision="fp32", attention="sdpa" if recipe.attention == "flash" else recipe.attention)


def evaluation_recipe(recipe: Recipe, device_type: str) -> Recipe:
    """The recipe that a run evaluates with: its own, in fp32 where its precision is slow on the device."""
    return in_fp32(recipe) if is_slow(recipe.precision, device_type) else recipe


def cost_in_words(recipe: Recipe, device_type: str) -> str | None:
    """One sentence on what a recipe's precision costs here and which recipe to take; None where it costs nothing.

    None as well for a recipe that is refused on the device, with a sentence of its own.
    """
    if recipe.unsuitable(device_type) or not is_slow(recipe.precision, device_type):
        return None
    times = f"{slowdown(recipe.precision):.1f} times"
    return (
        f"On this processor ({', '.join(instructions())}) a matrix product takes {times} as long in {recipe.precision} "
        f'as in fp32; take the recipe "{in_fp32(recipe).name}" here. Evaluation runs in fp32 anyway.'
    )
