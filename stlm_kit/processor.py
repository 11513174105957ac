"""How this processor computes with 16-bit numbers: its instructions in use, and the time of a 16-bit matrix product.

The instructions alone are not enough. The environment can forbid those that the processor has
(ONEDNN_MAX_CPU_ISA=AVX2), and a library may emulate those it lacks. So the time is measured, once in a process.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from stlm_kit.provenance import instructions

if TYPE_CHECKING:
    from stlm_kit.training.recipe import Recipe

POSITIONS, D_MODEL, D_FF = 256, 128, 512  # a small model's batch in its feed-forward layer
REPEATS = 5
NOISE = 1.1  # two timings of the same product differ by less than this factor, each the least of REPEATS


@cache
def slowdown(precision: str) -> float:
    """The time of a matrix product on this CPU, divided by its time in fp32: 0.25 for bf16 with its own instructions.

    precision: a recipe's. One thread, the least of five alternating timings: 30 ms where bf16 is slow, otherwise 6 ms.
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
    torch.set_num_threads(1)  # with two threads, one may wait for a core that another program uses
    try:
        with torch.inference_mode():
            for repeat in range(REPEATS + 1):
                for i, pair in enumerate(pairs):
                    started = time.perf_counter()
                    torch.nn.functional.linear(*pair)
                    if repeat:  # the first call creates its kernel
                        least[i] = min(least[i], time.perf_counter() - started)
    finally:
        torch.set_num_threads(n_threads)
    return least[1] / least[0]


def is_slow(precision: str, device_type: str = "cpu") -> bool:
    """Whether matrix products in this precision are slower than in fp32 on a device.

    Never on a GPU, which is not timed.
    """
    return device_type == "cpu" and slowdown(precision) > NOISE


def in_fp32(recipe: Recipe) -> Recipe:
    """The same recipe in fp32. flash-attn, which computes only in 16 bits, is replaced by sdpa."""
    return replace(recipe, precision="fp32", attention="sdpa" if recipe.attention == "flash" else recipe.attention)


def evaluation_recipe(recipe: Recipe, device_type: str) -> Recipe:
    """The recipe that a run evaluates with: its own, but in fp32 where its precision is slow on the device."""
    return in_fp32(recipe) if is_slow(recipe.precision, device_type) else recipe


def cost_in_words(recipe: Recipe, device_type: str) -> str | None:
    """One sentence on the slowdown of a recipe's precision here and on a faster recipe, or None without a slowdown.

    Also None for a recipe that the device refuses, because that has its own sentence.
    """
    if recipe.unsuitable(device_type) or not is_slow(recipe.precision, device_type):
        return None
    times = f"{slowdown(recipe.precision):.1f} times"
    return (
        f"On this processor ({', '.join(instructions())}) a matrix product takes {times} as long in {recipe.precision} "
        f'as in fp32; take the recipe "{in_fp32(recipe).name}" here. Evaluation runs in fp32 anyway.'
    )
