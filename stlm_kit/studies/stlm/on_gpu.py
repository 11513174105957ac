"""Answers to the claims of the source `stlm` that a GPU measures in minutes: rows of benchmarks/gpu.py."""

from __future__ import annotations

from stlm_kit.ledger.answers import Answer, answers
from stlm_kit.ledger.gpu_rows import gpu_rows

CASES = {"as written": "speed.stlm-50m.bf16", "compiled": "speed.stlm-50m.bf16.compiled"}


@answers("stlm.config.gpu_hours")
def hours_by_the_time_of_a_micro_batch(setting):
    """The time of a micro-batch of the baseline, times as many as the training has"""
    found = {name: rows[-1] for name, case in CASES.items() if (rows := gpu_rows(case, setting["gpu"]))}
    if not found:
        return Answer(None)
    micro_batches = setting["steps"] * setting["accumulation_steps"]
    hours = {name: row["metrics"]["step_s"] * micro_batches / 3600 for name, row in found.items()}
    told = ", ".join(f"{value:.1f} hours {name}" for name, value in hours.items())
    how = (
        f"the kit's step in BF16 on {next(iter(found.values()))['device']}, {micro_batches:,} micro-batches of "
        f"{setting['batch_size']} rows, each with an update: {told}"
    )
    return Answer(hours, how=how, by="measured", missing="the speed of the paper's own code")
