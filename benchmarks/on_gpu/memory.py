"""Does a training step take the memory that was predicted for it? Predicted beside measured, in MiB."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

import stlm_kit as kit
from on_gpu.cases import Case, unavailable
from stlm_kit.memory import MemoryReport, measure_peak, predict_peak
from stlm_kit.memory.budget import find_largest_batch, largest_batch
from stlm_kit.memory.devices import Device, device_here, device_named

SHARE = 0.2385  # of positions that hold a real target, about the memory study's; one share is predicted and measured
SLICE = "mig-20gb"
WITHIN = 0.01  # of the measured size
SIZES = ("peak_allocated_mib", "peak_reserved_mib", "after_forward_mib", "after_backward_mib")
SMALL = {"n_layers": 2, "d_model": 64, "n_heads": 4, "d_ff": 128, "vocab_size": 512}  # for a rehearsal


@dataclass(frozen=True)
class Subject:
    """A training step: a preset with changes, a recipe, a batch."""

    preset: str
    recipe: str
    batch_size: int
    length: int
    share: float = 1.0
    span: str = "step"
    overrides: dict[str, Any] = field(default_factory=dict)

    def of_size(self, device: torch.device) -> Subject:
        """Itself on a GPU; a model that a processor trains in a blink elsewhere."""
        if device.type == "cuda":
            return self
        changes = {**SMALL, **({"n_kv_heads": 2} if self.preset != "memory-study" else {}), **self.overrides}
        if self.preset == "gpt2-small":
            changes.pop("n_kv_heads")
        return Subject(self.preset, self.recipe, 2, 32, self.share, self.span, changes)

    def config(self) -> kit.DecoderConfig:
        changes = {"dropout": 0.0} if "flex" in self.recipe else {}
        return kit.preset(self.preset, **changes, **self.overrides)

    def asked(self) -> dict[str, Any]:
        return {
            "preset": self.preset,
            "overrides": self.overrides,
            "recipe": self.recipe,
            "batch_size": self.batch_size,
            "sequence_length": self.length,
            "valid_fraction": self.share,
            "span": self.span,
        }


def study_cells() -> dict[str, Subject]:
    """The memory study's 18 runs; torch's own flash kernel where flash-attn is not installed."""
    fused = "flash" if importlib.util.find_spec("flash_attn") else "sdpa"
    recipes = {
        "fp32": ("fp32+eager+study", None),
        "bf16": ("bf16+eager+study", None),
        "flash": (f"bf16+{fused}+study", None),
        "window-16": (f"bf16+{fused}+study", 16),
        "window-32": (f"bf16+{fused}+study", 32),
        "checkpoint": ("fp32+eager+checkpoint+study", None),
    }
    return {
        f"{name}-b{batch_size}": Subject(
            "memory-study", recipe, batch_size, 255, SHARE, "forward_backward", {"window": window} if window else {}
        )
        for batch_size in (128, 64, 32)
        for name, (recipe, window) in recipes.items()
    }


def other_steps() -> dict[str, Subject]:
    """Larger and leaner ones, the update included."""
    lean = "chunked chunked+checkpoint chunked+selective chunked+tiled valid bf16+chunked foreach in-backward"
    return {
        **{f"lean.{recipe}": Subject("memory-study", recipe, 64, 255, SHARE) for recipe in lean.split()},
        **{f"stlm-50m.{recipe}": Subject("stlm-50m", recipe, 16, 512) for recipe in ("fp32", "bf16", "bf16+chunked")},
        **{f"laptop-llama.{recipe}": Subject("laptop-llama", recipe, 64, 256) for recipe in ("fp32", "bf16", "fp16")},
        **{f"gpt2-small.{recipe}": Subject("gpt2-small", recipe, 4, 1024) for recipe in ("fp32", "bf16+chunked")},
        "stlm-50m.bf16+flex": Subject("stlm-50m", "bf16+flex", 16, 512),
        "stlm-50m.bf16+checkpoint": Subject("stlm-50m", "bf16+checkpoint", 16, 512),
        "lean.8bit": Subject("memory-study", "8bit", 64, 255, SHARE),  # compiled, so it comes last
    }


LARGEST = {
    "largest.fp32": Subject("memory-study", "fp32+eager+study", 1, 255, SHARE),
    "largest.stlm-50m": Subject("stlm-50m", "bf16", 1, 512),
    "largest.lean": Subject("gpt2-small", "bf16+chunked+checkpoint", 1, 1024),
}
REHEARSED = ("fp32-b32", "checkpoint-b32", "largest.fp32", "lean.chunked+tiled", "stlm-50m.bf16")  # one of every kind


def cases(device: torch.device) -> Iterator[Case]:
    steps = {name: step.of_size(device) for name, step in {**study_cells(), **LARGEST, **other_steps()}.items()}
    if device.type != "cuda":
        steps = {name: steps[name] for name in REHEARSED}
    workers, spawn = max(1, min(6, (os.cpu_count() or 1) - 2)), multiprocessing.get_context("spawn")
    here = device_here() if device.type == "cuda" else None
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=without_gpu) as pool:
        soon = {
            name: pool.submit(predicted, step, here)
            for name, step in steps.items()
            if name not in LARGEST and not unavailable(kit.Recipe.named(step.recipe), device)
        }
        for name, step in steps.items():
            if name in LARGEST:
                yield Case(name, {**step.asked(), "budget": SLICE}, partial(largest, step, device))
            else:
                yield Case(name, step.asked(), partial(beside, step, soon.get(name), device))


def without_gpu() -> None:
    """A process that predicts must not open the device: its context would take memory from what is measured."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def predicted(step: Subject, here: Device | None) -> MemoryReport:
    """The prediction for this machine's GPU, or for a CPU. In a process of its own, beside the measurements."""
    where = {"device": here} if here else {"semantics": "cpu"}
    return predict_peak(
        step.config(), step.recipe, step.batch_size, step.length, valid_fraction=step.share, span=step.span, **where
    )


def beside(step: Subject, soon: Future | None, device: torch.device) -> dict[str, Any]:
    if reason := unavailable(kit.Recipe.named(step.recipe), device):
        return {"unavailable": reason}
    measured = measure_peak(
        step.config(),
        step.recipe,
        step.batch_size,
        step.length,
        valid_fraction=step.share,
        span=step.span,
        device=device.type,
        repeats=0,
    )
    foreseen, metrics = soon.result(timeout=120), {}
    for name in SIZES:
        mine, its = getattr(foreseen, name), getattr(measured, name)
        metrics |= {name: round(its, 2), f"predicted_{name}": round(mine, 2), f"error_{name}": round(mine / its - 1, 6)}
    return {"ok": abs(metrics["error_peak_allocated_mib"]) <= WITHIN, **metrics}


def largest(step: Subject, device: torch.device) -> dict[str, Any]:
    """The largest batch in a slice of 20 GB, emulated: torch may reserve no more. Predicted beside found by trial."""
    on_gpu = device.type == "cuda"
    budget = device_named(SLICE).usable_mib if on_gpu else 12.0
    where = {"device": device_here()} if on_gpu else {"semantics": "cpu"}
    asked = step.config(), kit.Recipe.named(step.recipe)
    foreseen = largest_batch(*asked, budget, step.length, valid_fraction=step.share, **where)
    found = find_largest_batch(
        *asked, step.length, device=device.type, limit_mib=budget, valid_fraction=step.share, most=4096
    )
    return {"ok": abs(foreseen - found) <= max(1, 0.02 * found), "predicted": foreseen, "found": found, "mib": budget}
