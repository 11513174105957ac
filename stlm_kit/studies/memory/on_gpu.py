"""Answers to the claims of the source `memory` that a GPU measures in minutes: rows of benchmarks/gpu.py."""

from __future__ import annotations

from stlm_kit.ledger.answers import Answer, answers
from stlm_kit.ledger.gpu_rows import gpu_rows


@answers("mem.bf16.why_faster")
def products_are_what_bf16_makes_faster(setting):
    """Of the time that a step saves in BF16, the share that its matrix products save"""
    readings, told = {}, []
    for batch_size in setting["batch_sizes"]:
        pair = [gpu_rows(f"speed.study.{precision}-b{batch_size}") for precision in ("fp32", "bf16")]
        if not all(pair):
            return Answer(None)
        (fp32, bf16), device = (rows[-1]["metrics"] for rows in pair), pair[1][-1]["device"]
        saved, in_products = (fp32[name] - bf16[name] for name in ("step_s", "products_s"))
        readings[f"batch size {batch_size}"] = saved > 0 and in_products > saved / 2
        told.append(f"{1000 * in_products:.1f} ms and {1000 * saved:.1f} ms at batch size {batch_size}")
    how = (
        f"on {device}, beside an FP32 step without TF32, a BF16 step saves in its matrix products and in all "
        f"{', '.join(told)}; where it saves less in all, the rest of the step takes longer"
    )
    agreed = len(set(readings.values())) == 1
    return Answer(next(iter(readings.values())) if agreed else readings, how=how, by="measured")
