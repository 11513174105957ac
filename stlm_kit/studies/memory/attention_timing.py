"""Attention alone, timed and measured: the gain of a fused kernel over the score matrix as rows get longer.

record_attention("eager", 1024)     # one row of data/results/memory.jsonl, with the name attention-eager-1024
"""

from __future__ import annotations

from typing import Any

from stlm_kit.reproduce import results

POSITIONS = 4096  # positions of a batch, for rows of any length
N_HEADS, HEAD_DIM = 8, 32  # as in the preset memory-study


def time_attention(backend: str, length: int, device: str = "cpu", repeats: int = 7) -> dict[str, float]:
    """Forward and backward of causal attention over POSITIONS positions in rows of `length`: seconds, and peak MiB.

    There is no dropout. The peak includes queries, keys and values beside the tensors that attention creates.
    """
    import torch

    from stlm_kit.memory import measure_step
    from stlm_kit.model.attention import get_attention

    attention = get_attention(backend)

    def build() -> torch.nn.Module:
        projection = torch.nn.Linear(1, 3, device=device)  # a parameter, because a step must train something
        return projection

    def step(projection: torch.nn.Module) -> None:
        shape = (POSITIONS // length, N_HEADS, length, HEAD_DIM)
        scales = projection.weight.flatten()
        q, k, v = (torch.ones(shape, device=device) * scale for scale in scales)
        attention(q, k, v).sum().backward()

    report = measure_step(build, step, device, repeats=repeats)
    return {"peak_mib": round(report.peak_allocated_mib, 2), **{f"seconds_{k}": v for k, v in report.step_s.items()}}


def record_attention(backend: str, length: int, device: str = "cpu") -> dict[str, Any]:
    """Time one backend at one length and add its row to the study's file, in place of an older one. Returns the row."""
    import torch

    configuration = {"attention": backend, "context_length": length, "positions": POSITIONS, "n_heads": N_HEADS}
    configuration |= {"head_dim": HEAD_DIM, "device": device}
    metrics = time_attention(backend, length, device)
    name, threads = f"attention-{backend}-{length}", torch.get_num_threads()
    return results.replace_row(results.new_row("memory", name, configuration, metrics, device, threads=threads))
