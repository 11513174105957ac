"""RMSNorm beside LayerNorm, for the poster's "RMSNorm instead of LayerNorm for lighter normalization".

record_norm("rmsnorm", 512)     # one row of data/results/poster.jsonl, with the name norm-rmsnorm-512
"""

from __future__ import annotations

from typing import Any

from stlm_kit.ledger.answers import Answer, answers
from stlm_kit.reproduce import results

POSITIONS = 4096  # positions of the stream that is normed


def time_norm(kind: str, width: int, device: str = "cpu", repeats: int = 25) -> dict[str, float]:
    """Forward and backward of one norm over POSITIONS positions of this width: seconds, peak MiB, and parameters."""
    import torch

    from stlm_kit.memory import measure_step

    norms = {"rmsnorm": torch.nn.RMSNorm, "layernorm": torch.nn.LayerNorm}
    stream = torch.randn(POSITIONS, width, device=device)

    def build() -> torch.nn.Module:
        return norms[kind](width, device=device)

    def step(norm: torch.nn.Module) -> None:
        norm(stream.detach().requires_grad_()).backward(stream)

    report = measure_step(build, step, device, repeats=repeats)
    parameters = sum(parameter.numel() for parameter in build().parameters())
    seconds = {f"seconds_{name}": value for name, value in report.step_s.items()}
    return {"parameters": parameters, "peak_mib": round(report.peak_allocated_mib, 2), **seconds}


def record_norm(kind: str, width: int, device: str = "cpu") -> dict[str, Any]:
    """Time one norm at one width and add its row to the study's file, in place of an older one. Returns the row."""
    import torch

    configuration = {"norm": kind, "d_model": width, "positions": POSITIONS, "device": device}
    metrics = time_norm(kind, width, device)
    name = f"norm-{kind}-{width}"
    return results.replace_row(
        results.new_row("poster", name, configuration, metrics, device, threads=torch.get_num_threads())
    )


@answers("poster.trend.rms_lighter")
def lighter_norm(setting: dict[str, Any]) -> Answer:
    """Parameters, and recorded times and peaks of both norms, forward and backward, at several widths"""
    rows = {row["name"]: row["metrics"] for row in results.rows_of("poster")}
    kinds = ("rmsnorm", "layernorm")
    pairs = {width: [rows.get(f"norm-{kind}-{width}") for kind in kinds] for width in setting["widths"]}
    if any(None in pair for pair in pairs.values()):
        return Answer(None)
    ratios = {
        name: [rms[name] / layer[name] for rms, layer in pairs.values()]
        for name in ("parameters", "peak_mib", "seconds_median")
    }
    told = "; ".join(f"{name} " + ", ".join(f"{value:.2f}" for value in found) for name, found in ratios.items())
    return Answer(
        {"parameters": max(ratios["parameters"]) < 1, "time on a processor": max(ratios["seconds_median"]) < 1},
        how=f"RMSNorm over LayerNorm at widths {', '.join(map(str, setting['widths']))}, forward and backward: {told}",
        by="measured",
    )
