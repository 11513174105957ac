"""What chapter 04 reads of the memory study: its predicted steps, cells of its table, and the times of its runs."""

from __future__ import annotations

import math
from functools import cache

from stlm_kit.ledger.answers import evidence
from stlm_kit.ledger.claims import find_claim
from stlm_kit.memory import MemoryReport, predict_peak
from stlm_kit.memory.live_tensors import WatchedStep, watch_step
from stlm_kit.presets import preset
from stlm_kit.studies.memory.padding import STUDY_DEVICE, STUDY_PADDING

# The recipes in the chapter's last widget.
CHOICES = {
    "FP32, the study's loop": "fp32+eager+study",
    "BF16, the study's loop": "bf16+eager+study",
    "BF16, FlashAttention, the study's loop": "bf16+flash+study",
    "FP32, SDPA": "fp32+sdpa",
    "FP32, SDPA, chunked loss": "fp32+sdpa+chunked",
    "FP32, SDPA, chunked loss, checkpointing": "fp32+sdpa+checkpoint+chunked",
    "FP32, SDPA, chunked loss, checkpointing in tiles": "fp32+sdpa+tiled+chunked",
    "BF16, FlashAttention, chunked loss, checkpointing": "bf16+flash+checkpoint+chunked",
}
# Rows of the study's table: part of a claim's id, the names of the recorded runs, the recipe.
ROWS = {
    "FP32": ("base", "baseline", "fp32+eager+study"),
    "BF16": ("bf16", "bf16", "bf16+eager+study"),
    "checkpointing": ("gradcp", "gradcp", "fp32+eager+checkpoint+study"),
}
TIMED = {"FP32": "baseline", "BF16": "bf16", "FlashAttention": "bf16_flash", "checkpointing": "gradcp"}


@cache
def study_step(recipe: str, batch_size: int = 128) -> MemoryReport:
    """The predicted step of one of the study's runs: 255 positions a row, with the padding of the study's rows."""
    return predict_peak("memory-study", recipe, batch_size, 255, *STUDY_PADDING, device=STUDY_DEVICE)


def watched_step(recipe: str, batch_size: int = 128) -> WatchedStep:
    """`study_step` with every tensor kept track of."""
    share = STUDY_PADDING.valid_fraction
    return watch_step("memory-study", recipe, batch_size, 255, share, device=STUDY_DEVICE)


@cache
def packed_step(recipe: str) -> MemoryReport:
    """The predicted step of the study's model on 128 rows without padding, including the update."""
    return predict_peak("memory-study", recipe, 128, 255, span="step")


def table_cells() -> dict[str, list[tuple[int, float, float, float]]]:
    """{row of the table: [(batch size, printed, recorded, predicted), ...]}: peaks in MiB."""
    recorded = evidence("memory")["runs"]
    return {
        name: [
            (
                batch_size,
                find_claim(f"mem.{claim}.bs{batch_size}.peak_mb").value,
                recorded[f"{run}_bs{batch_size}"]["peak_mib"],
                study_step(recipe, batch_size).peak_allocated_mib,
            )
            for batch_size in (32, 64, 128)
        ]
        for name, (claim, run, recipe) in ROWS.items()
    }


def parts_of_the_peak() -> dict[str, dict[str, float]]:
    """{technique: {category: MiB}}: what the predicted peak at batch size 128 is made of."""
    recipes = {**{name: recipe for name, (_, _, recipe) in ROWS.items()}, "FlashAttention": "bf16+flash+study"}
    return {name: study_step(recipe).by_category for name, recipe in recipes.items()}


def window_effects() -> list[float]:
    """By which share each recorded window changed FlashAttention's peak: 16 and 32, at three batch sizes each."""
    runs = evidence("memory")["runs"]
    return [
        runs[f"bf16_window{window}_bs{batch_size}"]["peak_mib"] / runs[f"bf16_flash_bs{batch_size}"]["peak_mib"] - 1
        for window in (16, 32)
        for batch_size in (32, 64, 128)
    ]


def step_times() -> dict[str, dict[str, float]]:
    """{technique: {reading: milliseconds of a step}} at batch size 128, from the study's own files.

    "epoch / steps" divides a run's epoch by its number of steps. "step as read" is the mean of the recorded step times.
    """
    steps, runs = math.ceil(evidence("memory")["facts"]["train_documents"] / 128), evidence("memory")["runs"]
    at_128 = {name: runs[f"{run}_bs128"] for name, run in TIMED.items()}
    return {
        name: {"epoch / steps": 1000 * row["epoch_s"] / steps, "step as read": 1000 * row["mean_step_s"]}
        for name, row in at_128.items()
    }


def score_matrices(recipe: str, length: int) -> int:
    """How many tensors of a predicted step of one layer have an entry for each pair of `length` positions."""
    config = preset("memory-study", n_layers=1, context_length=length)
    tensors = watch_step(config, recipe, 8, length).tensors()
    return sum(len(t["shape"]) > 2 and t["shape"][-2:] == [length, length] for t in tensors)


def recorded_share(technique: str) -> float:
    """The recorded steps of a run at batch size 128, by their mean time, as a share of its epoch."""
    row = evidence("memory")["runs"][f"{TIMED[technique]}_bs128"]
    return row["recorded_steps"] * row["mean_step_s"] / row["epoch_s"]


def module_at_peak(report: MemoryReport) -> str:
    """The module whose operation, forward or backward, reaches the step's peak; "" outside the blocks and the head."""
    total = report.timeline.total()
    return report.timeline.modules[total.index(max(total))]
