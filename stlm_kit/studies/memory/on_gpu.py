"""Answers to the claims of the source `memory` that a GPU gives in minutes: rows of benchmarks/gpu.py."""

from __future__ import annotations

from stlm_kit.ledger.answers import Answer, answers
from stlm_kit.ledger.gpu_rows import gpu_rows


@answers("mem.bf16.why_faster")
def products_are_what_bf16_makes_faster(setting):
    """Of the time that a step saves in BF16, the share that its matrix products save, profiled kernel by kernel"""
    readings, told = {}, []
    for batch_size in setting["batch_sizes"]:
        pair = [gpu_rows(f"speed.study.{precision}-b{batch_size}") for precision in ("fp32", "bf16")]
        if not all(pair):
            return Answer(None)
        (fp32, bf16), device = (rows[-1]["metrics"] for rows in pair), pair[1][-1]["device"]
        saved, in_products = (fp32[name] - bf16[name] for name in ("kernels_s", "products_s"))
        readings[f"batch size {batch_size}"] = saved > 0 and in_products > saved / 2
        told.append(f"{100 * in_products / saved:.0f} %" if saved > 0 else "nothing to share")
    how = (
        f"on {device}, at batch sizes {', '.join(map(str, setting['batch_sizes']))}: of the kernels' time that a BF16 "
        f"step saves beside an FP32 one without TF32, its matrix products save {', '.join(told)}"
    )
    agreed = len(set(readings.values())) == 1
    return Answer(next(iter(readings.values())) if agreed else readings, how=how, by="measured")
