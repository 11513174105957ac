"""The share of padding in a batch: two numbers of the data that the memory study padded its rows by but did not print.

They are fitted to four of its recorded means. Every other prediction for the study is out of sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any, NamedTuple

from stlm_kit.config import DecoderConfig
from stlm_kit.memory.devices import DEVICES
from stlm_kit.memory.predict import predict_peak
from stlm_kit.memory.report import MemoryReport
from stlm_kit.presets import preset
from stlm_kit.reproduce.study_file import load_study


class Padding(NamedTuple):
    """The share of positions whose target is real, and its standard deviation between rows."""

    valid_fraction: float
    valid_fraction_std: float


class RecordedStep(NamedTuple):
    """The step of a recorded run of the memory study: the first four arguments of `predict_peak`."""

    config: DecoderConfig
    recipe: str
    batch_size: int
    sequence_length: int


# After the forward pass, a checkpointed step holds mainly the logits and their copy, which grows with the share of real
# targets. The peak of bf16 is in the forward pass for some batches and in the backward pass for others, so its mean
# depends on the spread.
SHARE_FROM = ("gradcp_bs32", "gradcp_bs64", "gradcp_bs128")  # their after_forward_mib
SPREAD_FROM = "bf16_bs32"  # its peak_mib


def _as_stated() -> Padding:
    stated = load_study("memory").padding
    return Padding(stated.valid_fraction, stated.valid_fraction_std)


# A 20 GB slice of an A100 with torch 2.9, where cuBLASLt still had its own workspace.
STUDY_DEVICE = replace(DEVICES["mig-20gb"], cublaslt_mib=1.0)
STUDY_PADDING = _as_stated()  # the result of `fit_padding` for the study's recorded runs, rounded


def recorded_step(run: Mapping[str, Any]) -> RecordedStep:
    """A recorded run (`batch_size`, `bf16`, `flash`, `checkpointing`, `window`) as the kit's config and recipe."""
    parts = [
        "bf16" if run["bf16"] else "fp32",
        "flash" if run["flash"] else "eager",
        *(["checkpoint"] if run["checkpointing"] else []),
        "study",
    ]
    config = preset("memory-study", window=run["window"])
    return RecordedStep(config, "+".join(parts), run["batch_size"], config.context_length)


def fit_padding(runs: Mapping[str, Mapping[str, Any]]) -> Padding:
    """The padding that fits four recorded means. runs: {name: run with its `peak_mib` and `after_forward_mib`}."""

    def predicted(name: str, *padding: float) -> MemoryReport:
        return predict_peak(*recorded_step(runs[name]), *padding, device=STUDY_DEVICE)

    def share_of(name: str) -> float:
        recorded = runs[name]["after_forward_mib"]
        return _where(lambda share: predicted(name, share).after_forward_mib - recorded, 0.2, 0.3, rounds=1)

    share = fmean(share_of(name) for name in SHARE_FROM)
    recorded = runs[SPREAD_FROM]["peak_mib"]
    spread = _where(lambda std: predicted(SPREAD_FROM, share, std).peak_allocated_mib - recorded, 0.2, 0.3)
    return Padding(share, spread)


def _where(difference: Callable[[float], float], low: float, high: float, rounds: int = 2) -> float:
    """The zero of a nearly linear, rising function, by the secant method."""
    points = [(low, difference(low)), (high, difference(high))]
    for _ in range(rounds):
        (a, at_a), (b, at_b) = points[-2:]
        now = b - at_b * (b - a) / (at_b - at_a)
        points.append((now, difference(now)))
    return points[-1][0]
